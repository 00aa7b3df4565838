"""Image sets that are one array of a ``.npz`` file."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.errors import InputError
from storage.image_sets.image_ref import ImageReader, ImageRef, item_key, split_item_key
from storage.image_sets.manifest import manifest_table
from storage.image_sets.set_uri import SetUri
from storage.objects.base import ObjectMissingError
from storage.objects.open import open_parent

MAX_ARRAY_BYTES = 16 * 2**30
"""A larger array is refused: store such images as separate objects."""

_BROKEN = (EOFError, NotImplementedError, OSError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)


def list_array(uri: SetUri) -> pa.Table:
    """The items of ``file.npz#array`` as the table of a manifest; raises the errors of `load_array`."""
    items = enumerate(load_array(uri))
    return manifest_table(
        "array", (ImageRef(item_key(uri.part, i), x.nbytes, hashlib.sha256(x).hexdigest()) for i, x in items)
    )


def load_array(uri: SetUri) -> NDArray[np.uint8]:
    """The images of ``file.npz#array``.

    Returns:
        uint8, (n, h, w) or (n, h, w, 3), contiguous, read-only.

    Raises:
        InputError: There is no such file or array, or it does not contain images.
        StoreError: The file cannot be read.
    """
    file, name = uri.place, uri.part
    store, key = open_parent(file)
    data = store.get(key)
    try:
        array = _unpack(file, name, data)
    except _BROKEN as error:
        raise InputError(
            f"{file}: not a .npz file that can be read ({error})",
            "write it with numpy.savez, without objects",
        ) from error
    _check_images(uri.uri, array)
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array


def _unpack(file: str, name: str, data: bytes) -> NDArray[np.uint8]:
    with zipfile.ZipFile(io.BytesIO(data)) as members:
        sizes = {
            PurePosixPath(member.filename).with_suffix("").as_posix(): member.file_size
            for member in members.infolist()
            if member.filename.endswith(".npy")
        }
    if name not in sizes:
        asked = f"no array {name!r}" if name else "no array is named"
        raise InputError(
            f"{file}: {asked}; there is {', '.join(sorted(sizes)) or 'none'}",
            f"write {file}#array, one of these",
        )
    if sizes[name] > MAX_ARRAY_BYTES:
        raise InputError(
            f"{file}#{name} unpacks to {sizes[name] / 2**30:.1f} GiB", "give the images as files of a folder"
        )
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        array: NDArray[np.uint8] = arrays[name]
    return array


def _check_images(uri: str, array: NDArray[np.uint8]) -> None:
    shaped = array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3)
    if array.dtype != np.uint8 or not shaped:
        raise InputError(
            f"{uri} is {array.dtype} of shape {array.shape}", "give uint8 of shape (n, h, w) or (n, h, w, 3)"
        )
    if array.size == 0:
        raise InputError(f"{uri} has shape {array.shape}: no image here", "give an array with images")


class ArrayReader(ImageReader):
    """Images of an array, loaded once.

    Args:
        uri: ``file.npz#array``.
    """

    def __init__(self, uri: SetUri) -> None:
        self._uri = uri
        self._array = load_array(uri)

    def read(self, image: ImageRef) -> NDArray[np.uint8]:
        name, index = split_item_key(image.key) or ("", 0)
        if name != self._uri.part or index >= len(self._array):
            raise ObjectMissingError(
                f"{self._uri.uri}: no image {image.key!r} among {len(self._array)}", "list the image set again"
            )
        item: NDArray[np.uint8] = self._array[index]
        return item
