"""An image set and its manifest.

An image set is a folder or an ``s3://`` prefix (recursive; png, jpg, jpeg, webp, bmp), or ``file.npz#array``
(uint8, ``(n, h, w)`` or ``(n, h, w, 3)``; local or S3). Other objects and hidden files are not part of it.
It is listed once; all that follows works on the manifest.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.array_sets import load_array, split_array_uri
from storage.errors import InputError, StoreError
from storage.object_store import ObjectInfo, ObjectMissingError, ObjectStore
from storage.objects import open_store

Kind = Literal["objects", "array"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
MANIFEST_SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in (("key", pa.string()), ("size", pa.int64()), ("etag", pa.string()))
    ]
)
_TAG_THREADS = 8
_TAG_BATCH = 256


@dataclass(frozen=True, slots=True)
class Shard:
    """The rows ``start`` to ``stop`` (exclusive) of a manifest."""

    index: int
    start: int
    stop: int


@dataclass(frozen=True)
class Manifest:
    """What an image set held when it was listed.

    Args:
        uri: The image set.
        kind: Whether an image is an object of its own or an item of an array.
        table: key (string), size (int64, bytes), etag (string), one row an image, sorted by key. The etag
            names the content: sha256 of a local file or of an array's item, the ETag of an S3 object.
    """

    uri: str
    kind: Kind
    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def digest(self) -> str:
        """Sha256 (hex) over the kind and the rows, not the URI: a moved set is still the same set."""
        state = hashlib.sha256(self.kind.encode())
        for batch in self.table.to_batches(max_chunksize=65_536):
            columns = (batch.column(name).to_pylist() for name in MANIFEST_SCHEMA.names)
            state.update("".join(f"\0{k}\0{s}\0{e}" for k, s, e in zip(*columns, strict=True)).encode())
        return state.hexdigest()

    def shards(self, size: int) -> list[Shard]:
        """The rows in runs of ``size``, the last one shorter.

        Raises:
            ValueError: ``size`` is not positive.
        """
        if size < 1:
            raise ValueError(f"a shard holds at least one image, not {size}")
        starts = range(0, len(self), size)
        return [Shard(i, start, min(start + size, len(self))) for i, start in enumerate(starts)]

    def to_bytes(self) -> bytes:
        """The manifest as a Parquet file."""
        sink = pa.BufferOutputStream()
        pq.write_table(self.table.replace_schema_metadata({"uri": self.uri, "kind": self.kind}), sink)
        return bytes(sink.getvalue())

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Reads what `to_bytes` wrote.

        Raises:
            StoreError: The bytes are not a manifest.
        """
        try:
            table = pq.read_table(pa.BufferReader(data))
            described = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
            uri, kind = described["uri"], described["kind"]
            table = table.cast(MANIFEST_SCHEMA).replace_schema_metadata(None)
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise StoreError(
                f"a manifest cannot be read ({type(error).__name__})",
                "delete it, it is written again by the next run",
            ) from error
        return cls(uri, "array" if kind == "array" else "objects", table)


def list_images(uri: str) -> Manifest:
    """Lists an image set.

    Args:
        uri: A folder, an ``s3://`` prefix or ``file.npz#array``.

    Raises:
        InputError: There is no image there, or the array is not one of images.
        StoreError: The place cannot be read.
    """
    if split_array_uri(uri) is not None:
        return _list_array(uri)
    store = open_store(uri)
    others: Counter[str] = Counter()
    images: list[ObjectInfo] = []
    for info in store.list():
        path = PurePosixPath(info.key)
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            images.append(info)
        else:
            others[path.suffix.lower() or "unnamed"] += 1
    if not images:
        raise _empty(store, others)
    images.sort()
    return _manifest(uri, "objects", images, _content_tags(store, images))


def _content_tags(store: ObjectStore, images: Sequence[ObjectInfo]) -> list[str]:
    batches = [images[i : i + _TAG_BATCH] for i in range(0, len(images), _TAG_BATCH)]
    with ThreadPoolExecutor(_TAG_THREADS) as pool:
        tagged = pool.map(lambda batch: [store.content_tag(info) for info in batch], batches)
        return [tag for batch in tagged for tag in batch]


def _list_array(uri: str) -> Manifest:
    array = load_array(uri)
    name = uri.rpartition("#")[2]
    rows = [ObjectInfo(array_key(name, i), image.nbytes, "") for i, image in enumerate(array)]
    return _manifest(uri, "array", rows, [hashlib.sha256(image).hexdigest() for image in array])


def array_key(name: str, index: int) -> str:
    """The key of an array's item.

    >>> array_key("train", 12)
    'train/00000012'
    """
    return f"{name}/{index:08d}"


def _manifest(uri: str, kind: Kind, images: Sequence[ObjectInfo], tags: Sequence[str]) -> Manifest:
    columns = [[image.key for image in images], [image.size for image in images], tags]
    return Manifest(uri, kind, pa.table(columns, schema=MANIFEST_SCHEMA))


def _empty(store: ObjectStore, others: Counter[str]) -> InputError:
    there = ", ".join(f"{n} {suffix} file{'s' * (n > 1)}" for suffix, n in others.most_common(5))
    return InputError(
        f"{store.uri}: no image here ({there or 'there is nothing at all'})",
        f"give a folder or prefix with {', '.join(sorted(IMAGE_SUFFIXES))} files, or file.npz#array",
    )


class ImageReader(ABC):
    """Reads the images of a set by the keys of its manifest; threads may share one."""

    @abstractmethod
    def read(self, key: str) -> bytes | NDArray[np.uint8]:
        """One image: the encoded bytes of an object, or an array's item, uint8 (h, w) or (h, w, 3).

        Raises:
            ObjectMissingError: The set has no such image.
            StoreError: The set cannot be read.
        """


class ObjectReader(ImageReader):
    """Images that are objects of their own."""

    def __init__(self, uri: str) -> None:
        self._store = open_store(uri)

    def read(self, key: str) -> bytes:
        return self._store.get(key)


class ArrayReader(ImageReader):
    """Images of an array, loaded once."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._name = uri.rpartition("#")[2]
        self._array = load_array(uri)

    def read(self, key: str) -> NDArray[np.uint8]:
        name, _, index = key.rpartition("/")
        if name != self._name or not index.isdecimal() or int(index) >= len(self._array):
            raise ObjectMissingError(
                f"{self._uri}: no image {key!r} among {len(self._array)}", "list the image set again"
            )
        image: NDArray[np.uint8] = self._array[int(index)]
        return image


def open_reader(manifest_uri: str, kind: Kind) -> ImageReader:
    """The reader of an image set.

    Args:
        manifest_uri: The ``uri`` of its manifest.
        kind: The ``kind`` of its manifest.
    """
    return ArrayReader(manifest_uri) if kind == "array" else ObjectReader(manifest_uri)
