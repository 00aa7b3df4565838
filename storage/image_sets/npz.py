"""Image sets that are one array of a ``.npz`` file.

The file may come from a stranger. Its stated sizes are checked against what the file can hold before anything is
unpacked, and the array is never held as a whole: it is read in blocks of images.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.errors import InputError
from storage.image_sets.image_ref import ImageReader, ImageRef, item_key, split_item_key
from storage.image_sets.manifest import manifest_table
from storage.image_sets.set_uri import SetUri
from storage.image_sets.shared_cache import SharedCache
from storage.image_sets.zip_member import BROKEN, ZipMember, list_members
from storage.objects.base import ObjectMissingError
from storage.objects.open import open_parent

MAX_ARRAY_BYTES = 16 * 2**30
"""A larger array is refused: store such images as separate objects."""
MAX_IMAGE_BYTES = 3 * 64_000_000
"""A larger image is refused, as it is in every other form of a set."""
MAX_COLUMN_MAJOR_BYTES = 256 * 2**20
"""The largest array in Fortran's order, whose images cannot be read one after the other."""

_BOMB_BYTES, _BOMB_RATIO = 256 * 2**20, 250
_IMAGES_BEYOND_DOUBT, _LEAST_IMAGE_BYTES = 200_000, 16
_MAX_HEADER_BYTES = 64 * 2**10
_BLOCK_BYTES = 8 * 2**20
_KEPT_BLOCKS = 8
_SHOWN_NAMES = 20


def list_array(uri: SetUri) -> pa.Table:
    """The items of ``file.npz#array`` as the table of a manifest; raises the errors of `ImageArray`."""
    array = ImageArray(uri)
    return manifest_table(
        "array",
        (
            ImageRef(item_key(uri.part, i), image.nbytes, hashlib.sha256(image.data).hexdigest())
            for i, image in enumerate(array.all_images())
        ),
    )


class ImageArray:
    """The images of ``file.npz#array``; only its header is read before an image is asked for.

    Args:
        uri: The array.

    Raises:
        InputError: There is no such array, it does not contain images, or the file cannot hold what it states.
        StoreError: The file is missing or cannot be read.
    """

    def __init__(self, uri: SetUri) -> None:
        self._uri = uri
        self._store, key = open_parent(uri.place)
        self._info = self._store.info(key)
        try:
            self._open(_find(uri, list_members(self._store, self._info)))
        except BROKEN as error:
            raise self._broken(error) from error

    def _open(self, stated: zipfile.ZipInfo) -> None:
        self._member, self._crc = ZipMember(self._store, self._info, stated), stated.CRC
        self._head = self._member.read(0, min(stated.file_size, _MAX_HEADER_BYTES))
        shape, column_major, dtype, start = _header(self._head)
        _check_images(self._uri.uri, dtype, shape)
        images, self._image_shape = shape[0], shape[1:]
        self._image_bytes = math.prod(self._image_shape)
        if start + images * self._image_bytes != stated.file_size:
            raise ValueError(f"a header of {images:,} images, {shape}, with {stated.file_size:,} bytes")
        self._check_sizes(images, stated, column_major)
        self._images, self._start, self._column_major = images, start, column_major
        self._per_block = max(1, _BLOCK_BYTES // self._image_bytes)

    def _check_sizes(self, images: int, stated: zipfile.ZipInfo, column_major: bool) -> None:
        size, packed, smaller = stated.file_size, stated.compress_size, "give the images as files of a folder"
        if size > _BOMB_BYTES and size > _BOMB_RATIO * packed:
            raise InputError(f"{self._uri.uri}: {packed:,} bytes that unpack to {size / 2**30:.1f} GiB", smaller)
        if self._image_bytes > MAX_IMAGE_BYTES:
            raise InputError(f"{self._uri.uri}: images of shape {self._image_shape}", "give smaller images")
        if images > max(_IMAGES_BEYOND_DOUBT, self._info.size // _LEAST_IMAGE_BYTES):
            raise InputError(f"{self._uri.uri}: {images:,} images in {self._info.size:,} bytes", "give another file")
        if column_major and size > MAX_COLUMN_MAJOR_BYTES:
            raise InputError(f"{self._uri.uri}: a large array in Fortran's order", "save numpy.ascontiguousarray of it")

    def __len__(self) -> int:
        return self._images

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return -(-self._images // self._per_block)

    def place(self, image: int) -> tuple[int, int]:
        """The block of an image, and its index within."""
        return divmod(image, self._per_block)

    def block(self, index: int) -> NDArray[np.uint8]:
        """The images of a block, uint8 (m, h, w) or (m, h, w, 3), read-only.

        Raises:
            InputError: The file is damaged.
            StoreError: The file cannot be read.
        """
        first = index * self._per_block
        count = min(self._per_block, self._images - first)
        if self._column_major:
            return self._whole[first : first + count]
        data = self._bytes(self._start + first * self._image_bytes, count * self._image_bytes)
        return np.frombuffer(data, np.uint8).reshape(count, *self._image_shape)

    def all_images(self) -> Iterator[NDArray[np.uint8]]:
        """All images, one after the other; raises the errors of `block`."""
        crc = zlib.crc32(self._head[: self._start])
        for index in range(self.blocks):
            block = self.block(index)
            crc = 0 if self._column_major else zlib.crc32(block.data, crc)
            yield from block
        if not self._column_major and crc != self._crc:
            raise self._broken(zipfile.BadZipFile("its checksum differs: it is damaged"))

    @cached_property
    def _whole(self) -> NDArray[np.uint8]:
        """An array in Fortran's order, in the order of its images."""
        data = self._bytes(self._start, self._images * self._image_bytes)
        if zlib.crc32(data, zlib.crc32(self._head[: self._start])) != self._crc:
            raise self._broken(zipfile.BadZipFile("its checksum differs: it is damaged"))
        array = np.frombuffer(data, np.uint8).reshape(self._images, *self._image_shape, order="F")
        array = np.ascontiguousarray(array)
        array.flags.writeable = False
        return array

    def _bytes(self, start: int, length: int) -> bytes:
        try:
            return self._member.read(start, length)
        except BROKEN as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> InputError:
        return InputError(
            f"{self._uri.place}: not a .npz file that can be read ({error})",
            "write it with numpy.savez, without objects",
        )


def _find(uri: SetUri, members: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """The member with the array."""
    arrays = {
        PurePosixPath(member.filename).with_suffix("").as_posix(): member
        for member in members
        if member.filename.endswith(".npy") and PurePosixPath(member.filename).name
    }
    if uri.part not in arrays:
        asked = f"no array {uri.part!r}" if uri.part else "no array is named"
        names = ", ".join(sorted(arrays)[:_SHOWN_NAMES]) + (", …" if len(arrays) > _SHOWN_NAMES else "")
        raise InputError(f"{uri.place}: {asked}; there is {names or 'none'}", f"write {uri.place}#array, one of these")
    found = arrays[uri.part]
    if found.file_size > MAX_ARRAY_BYTES:
        raise InputError(
            f"{uri.place}#{uri.part} unpacks to {found.file_size / 2**30:.1f} GiB",
            "give the images as files of a folder",
        )
    return found


def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    """Shape, order, dtype and length of the header of an array, from its first bytes."""
    file = io.BytesIO(head)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array of version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, column_major, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("an array of objects, which would need allow_pickle")
    return shape, column_major and len(shape) > 1, dtype, file.tell()


def _check_images(uri: str, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
    shaped = len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)
    if dtype != np.uint8 or not shaped or min(shape) < 0:
        raise InputError(f"{uri} is {dtype} of shape {shape}", "give uint8 of shape (n, h, w) or (n, h, w, 3)")
    if math.prod(shape) == 0:
        raise InputError(f"{uri} has shape {shape}: no image here", "give an array with images")


class ArrayReader(ImageReader):
    """Images of an array; the blocks read last are kept.

    Args:
        uri: ``file.npz#array``.
    """

    def __init__(self, uri: SetUri) -> None:
        self._uri = uri
        self._array = ImageArray(uri)
        self._blocks: SharedCache[NDArray[np.uint8]] = SharedCache(_KEPT_BLOCKS, _KEPT_BLOCKS * _BLOCK_BYTES)

    def read(self, image: ImageRef) -> NDArray[np.uint8]:
        name, index = split_item_key(image.key) or ("", 0)
        if name != self._uri.part or index >= len(self._array):
            raise ObjectMissingError(
                f"{self._uri.uri}: no image {image.key!r} among {len(self._array)}", "list the image set again"
            )
        block, within = self._array.place(index)
        item: NDArray[np.uint8] = self._blocks.get(block, _BLOCK_BYTES, lambda: self._array.block(block))[within]
        return item
