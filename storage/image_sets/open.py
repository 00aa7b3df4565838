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

from storage.image_sets.file_names import is_packed_shard, is_shard
from storage.image_sets.fingerprint import place_fingerprint
from storage.image_sets.folder import ObjectReader, list_folder
from storage.image_sets.image_ref import ImageReader, Kind
from storage.image_sets.manifest import Manifest, listed_manifest
from storage.image_sets.npz import ArrayReader, list_array
from storage.image_sets.parquet import ParquetReader, list_parquet
from storage.image_sets.set_uri import parse_set_uri
from storage.image_sets.tar import TarReader, list_shards, packed_error
from storage.objects.open import open_parent, open_store


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
        raise packed_error(uri)
    parts = parse_set_uri(uri)
    if parts.form == "folder":
        return list_folder(uri)
    place = place_fingerprint(parts.place)  # before the set is read: a change in the meantime shows
    match parts.form:
        case "array":
            return Manifest(uri, "array", list_array(parts), fingerprint=place)
        case "parquet":
            return listed_manifest(uri, "parquet", list_parquet(parts), place)
        case "tar":
            store, name = open_parent(uri)
            return listed_manifest(uri, "tar", list_shards(store, [store.info(name)]), place)


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
            place, _, column = uri.rpartition("#")
            return ParquetReader(place, column)
        case "array":
            return ArrayReader(parse_set_uri(uri))
