"""What the name of a file says about it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath

RELEASE_FILE = "release.yaml"
"""Describes the release in whose folder it is; not an image."""

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})
"""Suffixes of image files. A GIF cannot be used: it is listed so that it is rejected by name."""

USABLE = ", ".join(sorted(IMAGE_SUFFIXES - {".gif"}))
"""The suffixes of usable images, for messages."""


def is_image(key: str) -> bool:
    """Whether a file of this name counts as an image; hidden ones do not.

    >>> is_image("a/b.JPG"), is_image("a/._b.jpg"), is_image("a/b.txt")
    (True, False, False)
    """
    path = PurePosixPath(key)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def is_shard(key: str) -> bool:
    """Whether a file of this name is a tar shard; hidden ones are not.

    >>> is_shard("a/0001.tar"), is_shard("a/0001.tar.gz"), is_shard("a/._0001.tar")
    (True, False, False)
    """
    return key.lower().endswith(".tar") and not key.rpartition("/")[2].startswith(".")


def is_packed_shard(key: str) -> bool:
    """Whether a file of this name is a compressed tar, which cannot be read by ranges.

    >>> is_packed_shard("a/0001.tar.gz"), is_packed_shard("a/0001.tgz"), is_packed_shard("a/x.gz")
    (True, True, False)
    """
    return re.search(r"\.(tar\.[a-z0-9]+|tgz|tbz2|txz)$", key, re.IGNORECASE) is not None


def is_parquet(key: str) -> bool:
    """Whether a file of this name is a Parquet file; hidden ones are not."""
    return key.lower().endswith(".parquet") and not key.rpartition("/")[2].startswith(".")


def suffix_of(key: str) -> str:
    """The last suffix, or the last two of a compressed tar.

    >>> suffix_of("a/b.TXT"), suffix_of("x.tar.gz"), suffix_of("readme"), suffix_of("a/.hidden.png")
    ('.txt', '.tar.gz', 'unnamed', 'hidden')
    """
    if PurePosixPath(key).name.startswith("."):
        return "hidden"
    suffixes = PurePosixPath(key.lower()).suffixes
    return "".join(suffixes[-2:] if is_packed_shard(key) else suffixes[-1:]) or "unnamed"


def counted(files: Mapping[str, int]) -> str:
    """The numbers of files of the five most frequent kinds.

    >>> counted({".csv": 1, ".tif": 12})
    '12 .tif files, 1 .csv file'
    """
    return ", ".join(f"{n} {suffix} file{'s' * (n > 1)}" for suffix, n in Counter(files).most_common(5))
