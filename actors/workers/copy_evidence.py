"""The evidence for copies, for a block of images: all training images propose, the best of them decide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from actors.workers.tokens import view_column
from scoring.copies.candidates import propose
from scoring.copies.evidence import Evidence, evidence_among
from storage.objects.open import ObjectStore, open_store
from storage.seal import parse_parquet, read_sealed, sealed_parquet
from storage.vectors.tables import VectorStore, vector_matrix

_TRAIN_BLOCK = 4096
"""Training images in memory at a time while they propose: 16 MB of tokens, and as much again in float32 twice."""


LeftOut = Literal["other pictures", "other images"]


@dataclass(frozen=True, slots=True)
class FindCopies:
    """A block of images to compare with all training images.

    Attributes:
        store: The store.
        train: Name and version of the training images' token table.
        images: Name and version of the images' token table.
        views: Number of its views.
        dims: Length of a token.
        start: First position in the table.
        stop: End of the positions.
        keys: Where the evidence goes, by what the images are compared with: None for all training images. Training
            images themselves are compared with ``other pictures``, without their near-duplicates, or with all ``other
            images``.
    """

    store: str
    train: tuple[str, int]
    images: tuple[str, int]
    views: int
    dims: int
    start: int
    stop: int
    keys: tuple[tuple[LeftOut | None, str], ...]


EVIDENCE_SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in (
            ("row", pa.int64()),
            ("sha256", pa.string()),
            ("identical", pa.bool_()),
            ("late", pa.float64()),
            ("late_source", pa.int64()),
            ("late_view", pa.int64()),
            ("votes", pa.float64()),
            ("votes_source", pa.int64()),
            ("votes_view", pa.int64()),
            ("late_alike", pa.int64()),
            ("votes_alike", pa.int64()),
            ("nearest", pa.float64()),
            ("unrelated", pa.float64()),
            ("late_files", pa.int64()),
            ("votes_files", pa.int64()),
        )
    ]
)
"""Evidence of images, see `Evidence`; sources are rows of the training set's list, and ``late_files`` and
``votes_files`` count its files with the content of a source."""

_OF_EVIDENCE = [field.name for field in fields(Evidence)]


class TrainRows(NamedTuple):
    """The training images: the row of each position in their table, and their contents; 100 bytes an image.

    Attributes:
        rows: (n,) int64, ascending.
        distinct: (n,) bool, False for an image whose content an earlier one has.
        contents: (d,) S64, the distinct SHA-256, sorted.
        first: (d,) int64, the row of the first image with each.
        files: (d,) int64, images with each.
    """

    rows: NDArray[np.int64]
    distinct: NDArray[np.bool_]
    contents: NDArray[Any]
    first: NDArray[np.int64]
    files: NDArray[np.int64]

    def find(self, contents: pa.ChunkedArray) -> NDArray[np.int64]:
        """The row of the first training image with each content (q,), -1 where there is none."""
        asked = _digests(contents)
        places = np.minimum(np.searchsorted(self.contents, asked), len(self.contents) - 1)
        return np.where(self.contents[places] == asked, self.first[places], -1)

    def files_of(self, first: NDArray[np.int64]) -> NDArray[np.int64]:
        """The images with the content of each of some images (q,), given by the rows of the first ones."""
        order = np.argsort(self.first)
        return self.files[order[np.searchsorted(self.first, first, sorter=order)]]


def find_copies(task: FindCopies) -> int:
    """Compare a block of images with all training images; returns the number of images with evidence.

    Besides the block's own tokens this holds `_TRAIN_BLOCK` training images, then those that were proposed.

    Raises:
        StoreError: The store cannot be read or written.
    """
    store = open_store(task.store)
    vectors = VectorStore(store)
    train = train_rows(task.store, *task.train)
    columns = [view_column(number) for number in range(task.views)]
    wanted = ["row", "sha256", *columns]
    images = vectors.read(*task.images, wanted, offset=task.start, limit=task.stop - task.start)
    known, own = train.find(images["sha256"]), None
    if any(left_out for left_out, _ in task.keys):
        images, known = images.filter(pa.array(known >= 0)), known[known >= 0]
        own = known
    views = [tokens_of_rows(vector_matrix(images[column]), task.dims) for column in columns]
    candidates = propose(views, _train_blocks(vectors, task, train), own)

    def fetch(rows: NDArray[np.int64]) -> NDArray[np.float16]:
        _, found = vectors.take(*task.train, view_column(0), np.searchsorted(train.rows, rows))
        return tokens_of_rows(found, task.dims)

    for left_out, key in task.keys:
        if left_out == "other images":
            others = [rows[rows != row] for rows, row in zip(candidates, known, strict=True)]
            found = evidence_among(views, others, fetch)
        else:
            found = evidence_among(views, candidates, fetch, own)
        evidence = pa.table(
            {
                "row": images["row"],
                "sha256": images["sha256"],
                "identical": known >= 0,
                **{name: getattr(found, name) for name in _OF_EVIDENCE},
                "late_files": train.files_of(found.late_source),
                "votes_files": train.files_of(found.votes_source),
            },
            schema=EVIDENCE_SCHEMA,
        )
        store.put_if_absent(key, sealed_parquet(evidence, compression="zstd"))
    return len(images)


def _train_blocks(
    vectors: VectorStore, task: FindCopies, train: TrainRows
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]:
    """Rows and tokens of the distinct training images, block by block."""
    at = 0
    for rows, flat in vectors.scan(*task.train, view_column(0), batch_rows=_TRAIN_BLOCK):
        kept = train.distinct[at : at + len(rows)]
        at += len(rows)
        yield rows[kept], tokens_of_rows(flat[kept], task.dims)


def tokens_of_rows(vectors: NDArray[np.floating], dims: int) -> NDArray[np.float16]:
    """The vectors of a token table (q, patches · dims) as (q, patches, dims) float16."""
    return vectors.astype(np.float16, copy=False).reshape(len(vectors), vectors.shape[1] // dims, dims)


def read_evidence(store: ObjectStore, keys: Sequence[str]) -> pa.Table:
    """The evidence of a set, from the keys of its blocks: the images in the order of their token table."""
    blocks = [read_sealed(store, key, parse_parquet) for key in keys]
    return pa.concat_tables([EVIDENCE_SCHEMA.empty_table(), *blocks]).combine_chunks()


def as_evidence(found: pa.Table) -> Evidence:
    """Rows of `EVIDENCE_SCHEMA` as arrays."""
    return Evidence(*(found[name].to_numpy() for name in _OF_EVIDENCE))


def distinct_images(found: pa.Table) -> NDArray[np.int64]:
    """For each image of a set (q,) the place of the first one with its content."""
    _, first, inverse = np.unique(_digests(found["sha256"]), return_index=True, return_inverse=True)
    return np.asarray(first[inverse])


@lru_cache(maxsize=2)
def train_rows(store_uri: str, table: str, version: int) -> TrainRows:
    """The training images of a token table."""
    listed = VectorStore(open_store(store_uri)).read(table, version, ["row", "sha256"])
    rows: NDArray[np.int64] = listed["row"].to_numpy()
    contents, places, files = np.unique(_digests(listed["sha256"]), return_index=True, return_counts=True)
    distinct = np.zeros(len(rows), np.bool_)
    distinct[places] = True
    return TrainRows(rows, distinct, contents, rows[places], files)


def _digests(column: pa.ChunkedArray) -> NDArray[Any]:
    """SHA-256 in hex as (n,) S64."""
    array = pa.concat_arrays(column.chunks or [pa.array([], column.type)]).cast(pa.binary()).cast(pa.binary(64))
    return np.frombuffer(array.buffers()[1], "S64", count=len(array), offset=64 * array.offset)
