"""An object of a store as a seekable file."""

from __future__ import annotations

import io

from storage.objects.base import ObjectInfo, ObjectStore

NEAR = 64 * 2**10
LEAST_WINDOW = 8 * 2**10
LARGEST_WINDOW = 2**20


class RangeFile(io.RawIOBase):
    """A seekable file over one object; one thread at a time.

    Args:
        store: Where the object is.
        info: The object as listed; on S3, an object that was rewritten since is refused.
        read_ahead: Fetch at least `LEAST_WINDOW` bytes, doubled with each read within `NEAR` bytes of the last, up to
            `LARGEST_WINDOW`, whose transfer takes about as long as the latency of a GET.
    """

    def __init__(self, store: ObjectStore, info: ObjectInfo, *, read_ahead: bool = False) -> None:
        self._store, self._info, self._read_ahead = store, info, read_ahead
        self._position = self._last = self._start = 0
        self._window, self._ahead = b"", LEAST_WINDOW

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._info.size}[whence]
        if base + offset < 0:
            raise ValueError(f"byte {base + offset} is before the start of the file")
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """``size`` bytes, fewer at the end of the file."""
        left = max(0, self._info.size - self._position)
        data = self._bytes(self._position, left if size < 0 else min(size, left))
        self._position = self._last = self._position + len(data)
        return data

    def _bytes(self, start: int, length: int) -> bytes:
        inside = start - self._start
        if inside < 0 or inside + length > len(self._window):
            near = abs(start - self._last) <= NEAR
            self._ahead = min(2 * self._ahead, LARGEST_WINDOW) if near else LEAST_WINDOW
            wanted = max(length, self._ahead) if self._read_ahead else length
            self._window = self._store.get_range(self._info.key, start, wanted, self._info.etag)
            self._start, inside = start, 0
        return self._window[inside : inside + length]
