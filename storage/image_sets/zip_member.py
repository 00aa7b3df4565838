"""One member of a zip archive, read by ranges in bounded memory, whatever its headers claim."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from threading import Lock
from typing import TYPE_CHECKING

from storage.objects.base import ObjectInfo, ObjectStore
from storage.objects.range_file import RangeFile

if TYPE_CHECKING:
    from zlib import _Decompress

BROKEN = (
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What a broken archive makes `zipfile` and this module raise."""

MAX_DIRECTORY_BYTES = 8 * 2**20
"""The largest directory of an archive, about 100,000 members."""

MAX_RATIO = 1032
"""Deflate packs no better."""

_LOCAL_HEADER = Struct("<4s22xHH")
_SPACING = 16 * 2**20
_PACKED_CHUNK = 256 * 2**10
_CHUNK = 2**20

Fetch = Callable[[int, int], bytes]


class _DirectoryFile(RangeFile):
    """An archive whose directory is read, and nothing else."""

    allowed = MAX_DIRECTORY_BYTES

    def read(self, size: int = -1) -> bytes:
        self.allowed -= max(0, self._info.size - self.tell()) if size < 0 else size
        if self.allowed < 0:
            raise zipfile.BadZipFile(f"a directory of more than {MAX_DIRECTORY_BYTES:,} bytes")
        return super().read(size)


def list_members(store: ObjectStore, info: ObjectInfo) -> list[zipfile.ZipInfo]:
    """The members of an archive, as its directory states them; nothing else of the archive is read.

    Raises:
        zipfile.BadZipFile: It is not an archive. Other errors of `BROKEN` are possible.
        StoreError: It cannot be read.
    """
    with zipfile.ZipFile(_DirectoryFile(store, info)) as archive:
        return archive.infolist()


class ZipMember:
    """The unpacked bytes of a member; threads may share it.

    Of a deflated member the state of the decompressor is kept every 16 MiB, 50 kB each, so that any part is found again
    without unpacking what precedes it. Nothing else is held in memory.

    Args:
        store: Where the archive is.
        info: The archive as listed.
        member: The member, as the directory states it.

    Raises:
        zipfile.BadZipFile: Its stated sizes cannot be true, or it is packed in a way that numpy does not write.
    """

    def __init__(self, store: ObjectStore, info: ObjectInfo, member: zipfile.ZipInfo) -> None:
        self.size = member.file_size
        packed = member.compress_size
        start = _data_offset(store, info, member)
        if start + packed > info.size:
            raise zipfile.BadZipFile(f"{packed:,} packed bytes are stated, the file has {info.size:,}")
        if self.size > (MAX_RATIO * packed if member.compress_type == zipfile.ZIP_DEFLATED else packed):
            raise zipfile.BadZipFile(f"{packed:,} bytes cannot hold the {self.size:,} that are stated")

        def fetch(offset: int, length: int) -> bytes:
            return store.get_range(info.key, start + offset, max(0, min(length, packed - offset)), info.etag)

        deflated = member.compress_type == zipfile.ZIP_DEFLATED
        self._read = _Deflated(fetch, packed).read if deflated else fetch

    def read(self, start: int, length: int) -> bytes:
        """``length`` bytes from ``start`` on.

        Raises:
            EOFError: The member ends before.
            zlib.error: It is not what it says.
        """
        data = self._read(start, length)
        if len(data) < length:
            raise EOFError(f"it ends after {start + len(data):,} of {self.size:,} bytes")
        return data


def _data_offset(store: ObjectStore, info: ObjectInfo, member: zipfile.ZipInfo) -> int:
    """Where the packed bytes of a member begin."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
        raise zipfile.BadZipFile(f"{member.filename!a} is encrypted, or packed by another method than deflate")
    offset = member.header_offset
    if not 0 <= offset <= info.size - _LOCAL_HEADER.size:
        raise zipfile.BadZipFile(f"{member.filename!a} begins at byte {offset:,} of {info.size:,}")
    header = store.get_range(info.key, offset, _LOCAL_HEADER.size, info.etag)
    if len(header) < _LOCAL_HEADER.size:
        raise zipfile.BadZipFile("the file is shorter than when it was listed")
    magic, name, extra = _LOCAL_HEADER.unpack(header)
    if magic != b"PK\3\4":
        raise zipfile.BadZipFile(f"{member.filename!a} has no header at byte {offset:,}")
    return offset + _LOCAL_HEADER.size + int(name) + int(extra)


@dataclass
class _Point:
    """A place in a deflated stream: the decompressor there, and the bytes it took and gave so far."""

    state: _Decompress
    taken: int = 0
    given: int = 0

    def copy(self) -> _Point:
        return _Point(self.state.copy(), self.taken, self.given)


class _Deflated:
    """A deflated stream, read from any place."""

    def __init__(self, fetch: Fetch, packed: int) -> None:
        self._fetch, self._packed, self._lock = fetch, packed, Lock()
        self._points = [_Point(zlib.decompressobj(-zlib.MAX_WBITS))]
        self._cursor = self._points[0].copy()

    def read(self, start: int, length: int) -> bytes:
        """The bytes from ``start`` on, fewer where the stream ends."""
        with self._lock:
            nearest = self._points[min(start // _SPACING, len(self._points) - 1)]
            if not nearest.given <= self._cursor.given <= start:
                self._cursor = nearest.copy()
            while self._cursor.given < start:
                if not self._step(start - self._cursor.given):
                    return b""
            pieces, missing = [], length
            while missing and (piece := self._step(missing)):
                pieces.append(piece)
                missing -= len(piece)
            return b"".join(pieces)

    def _step(self, most: int) -> bytes:
        """The next bytes, at most so many; none at the end."""
        here = self._cursor
        boundary = len(self._points) * _SPACING
        if here.given < boundary:
            most = min(most, boundary - here.given)
        while not here.state.eof:
            data = here.state.unconsumed_tail
            if not data:
                data = self._fetch(here.taken, _PACKED_CHUNK)
                here.taken += len(data)
            piece = here.state.decompress(data, min(most, _CHUNK))
            here.given += len(piece)
            if here.given == boundary:
                self._points.append(here.copy())
            if piece or not data:
                return piece
        return b""
