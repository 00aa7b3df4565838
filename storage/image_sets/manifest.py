"""The manifest of an image set: its images when it was listed, as an Arrow table."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TypeVar, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import InputError, StoreError
from storage.image_sets.file_names import USABLE, counted
from storage.image_sets.image_ref import ImageRef, Kind
from storage.objects.base import ObjectMissingError
from storage.seal import sealed_parquet

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in (("key", pa.string()), ("size", pa.int64()), ("etag", pa.string()))
    ]
)
TAR_SCHEMA = MANIFEST_SCHEMA.append(pa.field("offset", pa.int64(), nullable=False))
"""Images of tar shards also have an offset; all others are found by their key alone."""

_CHUNK_ROWS = 65_536

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Shard:
    """The rows ``start`` to ``stop`` (exclusive) of a manifest."""

    index: int
    start: int
    stop: int


@dataclass(frozen=True)
class Manifest:
    """The images of a set when it was listed.

    Args:
        uri: The image set.
        kind: How its images are stored.
        table: key (string), size (int64, bytes), etag (string), for tar shards offset (int64, bytes); one row
            per image, sorted by key. The etag identifies the content: for local images and items of an array the
            SHA-256 of their bytes; on S3, where that would require reading them, the ETag of the object that is or
            holds the image (with the column, for a Parquet file).
        left_out: Number of other files by kind when the images were listed, ``{".tif": 3}``; not stored.
        fingerprint: `storage.image_sets.fingerprint.fingerprint` of its place when it was listed; not stored.
    """

    uri: str
    kind: Kind
    table: pa.Table
    left_out: Mapping[str, int] = field(default_factory=dict, compare=False)
    fingerprint: str = field(default="", compare=False)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def digest(self) -> str:
        """Sha256 (hex) over the kind and the rows, not the URI: a moved set is still the same set."""
        state = hashlib.sha256(self.kind.encode())
        for batch in self.table.to_batches(max_chunksize=_CHUNK_ROWS):
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            state.update("".join("".join(f"\0{value}" for value in row) for row in rows).encode())
        return state.hexdigest()

    def images(self, start: int = 0, stop: int | None = None) -> list[ImageRef]:
        """The images of the rows ``start`` to ``stop`` (exclusive)."""
        rows = self.table.slice(start, None if stop is None else stop - start)
        return list(map(ImageRef, *(column.to_pylist() for column in rows.columns)))

    def image(self, row: int) -> ImageRef:
        """The image of a row."""
        return self.images(row, row + 1)[0]

    def place(self, key: str) -> int:
        """The row of the first key that does not sort before this one."""
        keys = self.table["key"]
        return bisect_left(range(len(keys)), key, key=lambda row: keys[row].as_py())

    def find(self, key: str) -> ImageRef:
        """The image of this key.

        Raises:
            ObjectMissingError: There is none.
        """
        row = self.place(key)
        if row < len(self) and (image := self.image(row)).key == key:
            return image
        raise ObjectMissingError(f"{self.uri}: no image {key!r} among {len(self)}", "list the image set again")

    def shards(self, size: int) -> list[Shard]:
        """The rows in runs of ``size``; the last may be shorter.

        Raises:
            ValueError: ``size`` is not positive.
        """
        if size < 1:
            raise ValueError(f"a shard holds at least one image, not {size}")
        starts = range(0, len(self), size)
        return [Shard(i, start, min(start + size, len(self))) for i, start in enumerate(starts)]

    def to_bytes(self) -> bytes:
        """The manifest as a Parquet file."""
        return sealed_parquet(self.table.replace_schema_metadata({"uri": self.uri, "kind": self.kind}))

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Reads what `to_bytes` wrote.

        Raises:
            StoreError: The bytes are not a manifest.
        """
        try:
            table = pq.read_table(pa.BufferReader(data))
            described = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
            uri, kind = described["uri"], next(kind for kind in get_args(Kind) if kind == described["kind"])
            table = table.cast(manifest_schema(kind)).replace_schema_metadata(None)
        except (pa.ArrowException, KeyError, StopIteration, ValueError) as error:
            raise StoreError(
                f"a manifest cannot be read ({type(error).__name__})",
                "delete it: the next run writes it again",
            ) from error
        return cls(uri, kind, table)


def listed_manifest(
    uri: str, kind: Kind, table: pa.Table, fingerprint: str, left_out: Mapping[str, int] | None = None
) -> Manifest:
    """The manifest of a set that was just listed, sorted by key; the arguments are those of `Manifest`.

    Raises:
        InputError: The table has no row.
    """
    if table.num_rows:
        return Manifest(uri, kind, table.sort_by("key"), dict(left_out or {}), fingerprint)
    raise InputError(
        f"{uri}: no image here ({counted(left_out or {}) or 'there is nothing at all'})",
        f"give a folder or prefix with {USABLE} or .tar files, file.parquet#column, folder#column or file.npz#array",
    )


def manifest_schema(kind: Kind) -> pa.Schema:
    """The columns of a manifest of this kind."""
    return TAR_SCHEMA if kind == "tar" else MANIFEST_SCHEMA


def manifest_table(kind: Kind, images: Iterable[ImageRef]) -> pa.Table:
    """The table of a manifest, in the given order; a generator is consumed chunk by chunk."""
    schema = manifest_schema(kind)
    chunks = [
        pa.record_batch(list(zip(*chunk, strict=True))[: len(schema)], schema=schema)
        for chunk in batched(images, _CHUNK_ROWS)
    ]
    return pa.Table.from_batches(chunks, schema)


def batched(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """The items in lists of ``size``; the last may be shorter.

    >>> list(batched("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
