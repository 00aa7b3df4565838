"""The groups of near-duplicates of an image set, from its tokens and its evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from actors.workers.copy_evidence import distinct_images, read_evidence, tokens_of_rows, train_rows
from actors.workers.tokens import view_column
from scoring.copies.groups import alike, alike_ratio, region_means
from storage.objects.open import open_store
from storage.seal import sealed_parquet
from storage.vectors.tables import VectorStore

_BLOCK = 1024

GROUP_SCHEMA = pa.schema(
    [pa.field("row", pa.int64(), nullable=False), pa.field("group", pa.int64(), nullable=False)],
)
"""Images, in the order of their evidence; ``group`` is the row of the first image of each one's group."""


@dataclass(frozen=True, slots=True)
class FindGroups:
    """An image set whose near-duplicates are to be found.

    Attributes:
        store: The store.
        train: Name and version of the training images' token table.
        images: Name and version of the images' token table.
        dims: Length of a token.
        evidence: Keys of the evidence for the images.
        held_out: Keys of the evidence for the held-out images, which say how near independent images are.
        key: Where the groups go.
    """

    store: str
    train: tuple[str, int]
    images: tuple[str, int]
    dims: int
    evidence: tuple[str, ...]
    held_out: tuple[str, ...]
    key: str


def find_groups(task: FindGroups) -> int:
    """Find the groups of near-duplicates; returns their number.

    It holds 2 KB an image, and the tokens of a thousand.

    Raises:
        StoreError: The store cannot be read or written.
    """
    store = open_store(task.store)
    vectors = VectorStore(store)
    found, unseen = read_evidence(store, task.evidence), read_evidence(store, task.held_out)
    unseen = unseen.filter(pa.compute.invert(unseen["identical"]))
    unseen = unseen.take(pa.array(np.unique(distinct_images(unseen))))
    first = distinct_images(found)
    places, at = np.unique(first, return_inverse=True)
    nearest, unrelated = unseen["nearest"].to_numpy(), unseen["unrelated"].to_numpy()
    ratio = alike_ratio(nearest, unrelated, len(train_rows(task.store, *task.train).contents), len(places))

    def fetch(some: NDArray[np.int64]) -> NDArray[np.float16]:
        return tokens_of_rows(vectors.take(*task.images, view_column(0), places[some])[1], task.dims)

    blocks = vectors.scan(*task.images, view_column(0), batch_rows=_BLOCK)
    means = np.concatenate([region_means(tokens_of_rows(flat, task.dims)) for _, flat in blocks])
    groups = alike(means[places], fetch, found["unrelated"].to_numpy()[places], ratio)
    rows = found["row"].to_numpy()
    labels = rows[places[groups]][at]
    table = pa.table({"row": rows, "group": labels}, schema=GROUP_SCHEMA)
    store.put_if_absent(task.key, sealed_parquet(table, compression="zstd"))
    return len(np.unique(groups))
