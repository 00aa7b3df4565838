"""Image sets: their forms, how they are listed and read.

========================  ============================================================================
folder or s3:// prefix    recursive; png, jpg, jpeg, webp, bmp (a gif is listed, and rejected when read)
tar shards                ``file.tar``, or a folder with ``.tar`` files (WebDataset; uncompressed)
Parquet                   ``file.parquet#column``, or ``folder#column`` (bytes of image files)
array                     ``file.npz#array`` (uint8, ``(n, h, w)`` or ``(n, h, w, 3)``)
========================  ============================================================================

Other files and hidden ones are not part of a set; its manifest counts them. A set is listed once; everything else works
from the manifest.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa

from storage.errors import InputError
from storage.image_sets.image_ref import IMAGE_SUFFIXES, ImageReader, ImageRef, Kind, is_image
from storage.image_sets.manifest import Manifest, batched, manifest_table
from storage.image_sets.npz import ArrayReader, list_array, split_array_uri
from storage.image_sets.parquet import ParquetReader, list_parquet, split_parquet_uri
from storage.image_sets.tar import TarReader, is_packed_shard, is_shard, list_shards
from storage.objects.base import ObjectInfo, ObjectMissingError, ObjectStore
from storage.objects.open import open_parent, open_store

RELEASE_FILE = "release.yaml"
"""Describes the release in whose folder it is; not an image."""

USABLE = ", ".join(sorted(IMAGE_SUFFIXES - {".gif"}))
"""The suffixes of usable images, for messages."""

_TAG_THREADS = 8
_TAG_BATCH = 256


def list_images(uri: str) -> Manifest:
    """Lists an image set.

    Args:
        uri: A folder or an ``s3://`` prefix, ``file.tar``, ``file.parquet#column``, ``folder#column`` or
            ``file.npz#array``.

    Raises:
        InputError: There is no usable image.
        StoreError: The place cannot be read.
    """
    if is_packed_shard(uri):
        raise _packed(uri)
    if split_array_uri(uri) is None and split_parquet_uri(uri) is None and not is_shard(uri):
        return _list_folder(uri)
    place = fingerprint(uri)  # before the set is read: a change in the meantime shows
    if split_array_uri(uri) is not None:
        return Manifest(uri, "array", list_array(uri), fingerprint=place)
    if is_shard(uri):
        store, name = open_parent(uri)
        return _manifest(uri, "tar", list_shards(store, [store.info(name)]), place)
    return _manifest(uri, "parquet", list_parquet(uri), place)


def fingerprint(uri: str) -> str:
    """A digest of the names, sizes and ETags of all objects at the place of an image set; no content is read.

    An equal one says that nothing was written there since the set was listed (`Manifest.fingerprint`).

    Raises:
        StoreError: The place cannot be read.
    """
    place, _ = split_array_uri(uri) or split_parquet_uri(uri) or (uri, "")
    objects = _Fingerprint()
    for info in open_store(place).list():
        objects.add(info)
    if objects == _Fingerprint():
        store, key = open_parent(place.rstrip("/"))
        with suppress(ObjectMissingError):
            objects.add(store.info(key))
    return objects.hex()


@dataclass
class _Fingerprint:
    """A sum over objects, so that their order does not matter and none is kept."""

    _sum: int = 0

    def add(self, info: ObjectInfo) -> None:
        self._sum += int.from_bytes(hashlib.sha256(repr(info).encode()).digest())

    def hex(self) -> str:
        return f"{self._sum % 2**256:064x}"


def _list_folder(uri: str) -> Manifest:
    store = open_store(uri)
    shards: list[ObjectInfo] = []
    others: Counter[str] = Counter()
    place = _Fingerprint()

    def images() -> Iterator[ObjectInfo]:
        for info in store.list():
            place.add(info)
            if is_image(info.key):
                yield info
            elif is_shard(info.key):
                shards.append(info)
            elif PurePosixPath(info.key).name != RELEASE_FILE:
                others[_suffix(info.key)] += 1

    objects = manifest_table("objects", _tagged(store, images()))
    if any(map(is_packed_shard, others)) and not objects.num_rows:
        raise _packed(store.uri)
    if not shards:
        return _manifest(uri, "objects", objects, place.hex(), others)
    if objects.num_rows:
        raise InputError(
            f"{store.uri}: {objects.num_rows} image files and {len(shards)} .tar files",
            "move one kind to a separate folder or prefix, and give the one to use",
        )
    listed = list_shards(store, shards)
    return _manifest(uri, "tar", listed, place.hex(), others if listed.num_rows else Counter({".tar": len(shards)}))


def _tagged(store: ObjectStore, images: Iterable[ObjectInfo]) -> Iterator[ImageRef]:
    """Images with their content tags, computed in threads, a few thousand at a time."""
    with ThreadPoolExecutor(_TAG_THREADS) as pool:
        for some in batched(images, _TAG_THREADS * _TAG_BATCH):
            tagged = pool.map(lambda batch: [store.content_tag(info) for info in batch], batched(some, _TAG_BATCH))
            tags = (tag for batch in tagged for tag in batch)
            yield from (ImageRef(info.key, info.size, tag) for info, tag in zip(some, tags, strict=True))


def _manifest(uri: str, kind: Kind, table: pa.Table, place: str, others: Counter[str] | None = None) -> Manifest:
    if table.num_rows:
        return Manifest(uri, kind, table.sort_by("key"), dict(others or {}), place)
    raise InputError(
        f"{uri}: no image here ({counted(others or {}) or 'there is nothing at all'})",
        f"give a folder or prefix with {USABLE} or .tar files, file.parquet#column, folder#column or file.npz#array",
    )


def counted(files: Mapping[str, int]) -> str:
    """The numbers of files of the five most frequent kinds.

    >>> counted({".csv": 1, ".tif": 12})
    '12 .tif files, 1 .csv file'
    """
    return ", ".join(f"{n} {suffix} file{'s' * (n > 1)}" for suffix, n in Counter(files).most_common(5))


def _packed(uri: str) -> InputError:
    return InputError(f"{uri}: a compressed tar, which cannot be read by ranges", "unpack it to .tar: gunzip FILE")


def _suffix(key: str) -> str:
    """The last suffix, or the last two of a compressed tar.

    >>> _suffix("a/b.TXT"), _suffix("x.tar.gz"), _suffix("readme"), _suffix("a/.hidden.png")
    ('.txt', '.tar.gz', 'unnamed', 'hidden')
    """
    if PurePosixPath(key).name.startswith("."):
        return "hidden"
    suffixes = PurePosixPath(key.lower()).suffixes
    return "".join(suffixes[-2:] if is_packed_shard(key) else suffixes[-1:]) or "unnamed"


class ObjectReader(ImageReader):
    """Images that are separate objects.

    Args:
        store: Where they are.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def read(self, image: ImageRef) -> bytes:
        return self._store.get(image.key, image.etag)


def open_reader(uri: str, kind: Kind) -> ImageReader:
    """The reader of an image set.

    Args:
        uri: The ``uri`` of its manifest.
        kind: The ``kind`` of its manifest.
    """
    match kind:
        case "objects":
            return ObjectReader(open_store(uri))
        case "tar":
            return TarReader(open_parent(uri)[0] if is_shard(uri) else open_store(uri))
        case "parquet":
            return ParquetReader(uri)
        case "array":
            return ArrayReader(uri)
