"""The interface of an object store; `storage.objects.open` opens one.

An object has a key: its path under the store's root, with ``/`` between the parts. `ObjectStore.put_if_absent` is the
only primitive for coordination: markers, receipts and results are published through it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

from storage.errors import InputError, StoreError


class ObjectMissingError(StoreError):
    """There is no object with the requested key."""


class ObjectChangedError(StoreError):
    """An object was rewritten after it was listed."""


class BrokenObjectError(StoreError):
    """An object of our own is not what was written: empty, cut or changed.

    Args:
        found: See `StoreError`.
        remedy: See `StoreError`.
        key: The object.
        seen: SHA-256 of the bytes that were read.
    """

    def __init__(self, found: str, remedy: str, *, key: str = "", seen: str = "") -> None:
        super().__init__(found, remedy)
        self.key = key
        self.seen = seen


class ObjectInfo(NamedTuple):
    """One object of a listing.

    Args:
        key: Path relative to the store's root.
        size: Bytes.
        etag: Changes when the object is rewritten (S3: its ETag; local: size and modification time).
    """

    key: str
    size: int
    etag: str


class ObjectStore(ABC):
    """Objects under one root.

    Args:
        uri: The root: an absolute path or ``s3://bucket/prefix``, without a slash at the end.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def child_uri(self, key: str) -> str:
        """The URI of an object of this store."""
        return f"{self.uri.rstrip('/')}/{checked_key(key)}"

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects whose key begins with ``prefix``, at any depth, in no promised order."""

    @abstractmethod
    def info(self, key: str) -> ObjectInfo:
        """One object as `list` returns it.

        Raises:
            ObjectMissingError: There is no such object.
        """

    @abstractmethod
    def modified(self, key: str) -> float:
        """When an object was last written, in seconds since 1970.

        Raises:
            ObjectMissingError: There is no such object.
        """

    @abstractmethod
    def folders(self, prefix: str = "") -> Iterator[str]:
        """The names of the folders directly under ``prefix`` (empty, or ending with ``/``), in no promised order."""

    @abstractmethod
    def get(self, key: str, etag: str | None = None) -> bytes:
        """The bytes of an object.

        Args:
            key: The object.
            etag: Its `content_tag`. S3 refuses an object with another ETag; a local file is read as it is, since
                its tag is the SHA-256 of the returned bytes.

        Raises:
            ObjectMissingError: There is no such object.
            ObjectChangedError: It has another ETag now.
            StoreError: The store cannot be read.
        """

    @abstractmethod
    def get_range(self, key: str, start: int, length: int, etag: str | None = None) -> bytes:
        """``length`` bytes of an object from ``start`` on, fewer where it ends; otherwise like `get`."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Writes an object atomically; an existing one is replaced."""

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Writes an object unless it exists.

        Returns:
            True if this call wrote it: exactly one of concurrent callers gets True.
        """

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether the object exists."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Removes an object; a missing one is no error."""

    @abstractmethod
    def move(self, key: str, to: str) -> None:
        """Give an object another key; an object there is replaced.

        Raises:
            ObjectMissingError: There is no such object.
        """

    @abstractmethod
    def make_durable(self, *places: str) -> None:
        """See that what Lance wrote survives a power failure. `put` does so by itself, and so does S3.

        Args:
            places: Keys, and folders that end with ``/``.
        """

    @abstractmethod
    def content_tag(self, info: ObjectInfo, start: int = 0, length: int | None = None) -> str:
        """A name for the content of an object, or of a range of it, that survives a copy.

        For a local file it is the SHA-256 of its bytes, which are read; on S3 the ETag of the object.
        """


def checked_key(key: str) -> str:
    """The key, when it stays under its root.

    Raises:
        InputError: It is empty, absolute, or has a NUL, a ``.`` or a ``..`` part.

    >>> checked_key("train/one image.png")
    'train/one image.png'
    """
    parts = re.split(r"[/\\]", key)
    if not key or parts[0] == "" or parts[-1] == "" or {".", ".."} & set(parts) or "\0" in key:
        raise InputError(f"{key!r} is not the key of an object", "give a relative path without . or .. parts")
    return key
