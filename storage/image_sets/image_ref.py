"""One image of a set as its manifest lists it, and the interface of readers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Kind = Literal["objects", "tar", "parquet", "array"]
"""How images are stored: as objects, members of a tar shard, rows of a Parquet file, or items of an array."""

MAX_FILE_BYTES = 256 * 2**20
"""Of a larger file no more than this and a byte is read, which shows that it cannot be used as an image."""


class ImageRef(NamedTuple):
    """One image of a set.

    Args:
        key: Its name within the set.
        size: Bytes.
        etag: Names its content, see `storage.image_sets.manifest.Manifest`.
        offset: First byte within its tar shard.
    """

    key: str
    size: int
    etag: str
    offset: int = 0

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of its bytes, if that is its etag.

        >>> ImageRef("a", 3, 64 * "1").sha256 == 64 * "1", ImageRef("a", 3, f"{32 * '1'}#{31 * '1'}").sha256
        (True, None)
        >>> ImageRef("a.png", 3, "d41d8cd98f00b204e9800998ecf8427e").sha256 is None
        True
        """
        return self.etag if re.fullmatch("[0-9a-f]{64}", self.etag) else None


class ImageReader(ABC):
    """Reads the images of a set; threads may share one."""

    @abstractmethod
    def read(self, image: ImageRef) -> bytes | NDArray[np.uint8]:
        """One image: the bytes of its file, or an array's item, uint8 (h, w) or (h, w, 3).

        Raises:
            ObjectMissingError: The set has no such image.
            ObjectChangedError: The object that holds the image was rewritten after it was listed.
            StoreError: The set cannot be read.
        """


def item_key(name: str, index: int) -> str:
    """The key of an item of an array or a row of a Parquet file.

    >>> item_key("train", 12)
    'train/00000012'
    """
    return f"{name}/{index:08d}"


def split_item_key(key: str) -> tuple[str, int] | None:
    """The name and the index within `item_key`, or None for another key.

    >>> split_item_key("a/b.parquet/00000012"), split_item_key("a/b.png")
    (('a/b.parquet', 12), None)
    """
    name, _, index = key.rpartition("/")
    return (name, int(index)) if index.isascii() and index.isdecimal() else None
