"""Image sets that are a folder or prefix, at any depth: image files, or tar shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from storage.errors import InputError
from storage.image_sets.file_names import RELEASE_FILE, is_image, is_packed_shard, is_shard, suffix_of
from storage.image_sets.fingerprint import Fingerprint
from storage.image_sets.image_ref import MAX_FILE_BYTES, ImageReader, ImageRef
from storage.image_sets.manifest import Manifest, batched, listed_manifest, manifest_table
from storage.image_sets.tar import list_shards, packed_error
from storage.objects.base import ObjectInfo, ObjectStore
from storage.objects.open import open_store

_TAG_THREADS = 8
_TAG_BATCH = 256


def list_folder(uri: str) -> Manifest:
    """The manifest of a folder or prefix of image files or of tar shards.

    Raises:
        InputError: There is no usable image, or there are both.
        StoreError: The place cannot be read.
    """
    store = open_store(uri)
    shards: list[ObjectInfo] = []
    others: Counter[str] = Counter()
    place = Fingerprint()

    def images() -> Iterator[ObjectInfo]:
        for info in store.list():
            place.add(info)
            if is_image(info.key):
                yield info
            elif is_shard(info.key):
                shards.append(info)
            elif PurePosixPath(info.key).name != RELEASE_FILE:
                others[suffix_of(info.key)] += 1

    objects = manifest_table("objects", _tagged(store, images()))
    if any(map(is_packed_shard, others)) and not objects.num_rows:
        raise packed_error(store.uri)
    if not shards:
        return listed_manifest(uri, "objects", objects, place.hex(), others)
    if objects.num_rows:
        raise InputError(
            f"{store.uri}: {objects.num_rows} image files and {len(shards)} .tar files",
            "move one kind to a separate folder or prefix, and give the one to use",
        )
    listed = list_shards(store, shards)
    left_out = others if listed.num_rows else Counter({".tar": len(shards)})
    return listed_manifest(uri, "tar", listed, place.hex(), left_out)


def _tagged(store: ObjectStore, images: Iterable[ObjectInfo]) -> Iterator[ImageRef]:
    """Images with their content tags, computed in threads, a few thousand at a time."""
    with ThreadPoolExecutor(_TAG_THREADS) as pool:
        for some in batched(images, _TAG_THREADS * _TAG_BATCH):
            tagged = pool.map(lambda batch: [store.content_tag(info) for info in batch], batched(some, _TAG_BATCH))
            tags = (tag for batch in tagged for tag in batch)
            yield from (ImageRef(info.key, info.size, tag) for info, tag in zip(some, tags, strict=True))


class ObjectReader(ImageReader):
    """Images that are separate objects.

    Args:
        store: Where they are.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def read(self, image: ImageRef) -> bytes:
        if image.size > MAX_FILE_BYTES:
            return self._store.get_range(image.key, 0, MAX_FILE_BYTES + 1, image.etag)
        return self._store.get(image.key, image.etag)
