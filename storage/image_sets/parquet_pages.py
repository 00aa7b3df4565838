"""The sizes that the pages of a Parquet column state, read before anything is unpacked.

Arrow allocates what a page header states, and a page of a few kilobytes can unpack to gigabytes. Headers are written in
Thrift's compact protocol, of which this reads as much as a page header needs.

Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift (PageHeader),
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import NamedTuple

_UNPACKED_SIZE, _PACKED_SIZE = 2, 3
"""The fields of a page header."""
_BOOLEANS, _BYTE, _INTEGERS, _I32, _DOUBLE, _BINARY, _LISTS, _STRUCT = (1, 2), 3, (4, 5, 6), 5, 7, 8, (9, 10), 12
_MOST_NESTED = 8
_LONGEST_VARINT = 10


class PageSizes(NamedTuple):
    """The unpacked bytes of all pages of a column chunk, and of the largest one."""

    total: int
    largest: int


def page_sizes(chunk: memoryview) -> PageSizes:
    """What the page headers of a column chunk state.

    Raises:
        ValueError: They cannot be read, or state sizes that are not possible.
    """
    total = largest = place = 0
    while place < len(chunk):
        header = _Header(chunk, place)
        sizes = header.integers()
        unpacked, packed = sizes.get(_UNPACKED_SIZE, -1), sizes.get(_PACKED_SIZE, -1)
        if unpacked < 0 or packed < 0:
            raise ValueError(f"a page of {packed} bytes that unpack to {unpacked}")
        total, largest = total + unpacked, max(largest, unpacked)
        place = header.place + packed
    return PageSizes(total, largest)


class _Header:
    """A struct in Thrift's compact protocol, read from a place on."""

    def __init__(self, data: memoryview, place: int) -> None:
        self._data, self.place = data, place

    def integers(self) -> dict[int, int]:
        """The fields of type i32, by their numbers; everything else is passed over."""
        values: dict[int, int] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._integer()
            if kind == _I32:
                values[number] = self._integer()
            else:
                self._skip(kind, 0)
        return values

    def _byte(self) -> int:
        if self.place >= len(self._data):
            raise ValueError("a page header that does not end")
        self.place += 1
        return self._data[self.place - 1]

    def _varint(self) -> int:
        value = 0
        for i in range(_LONGEST_VARINT):
            byte = self._byte()
            value |= (byte & 127) << 7 * i
            if byte < 128:
                return value
        raise ValueError("a page header with a number of more than 64 bits")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, kind: int, depth: int) -> None:
        if depth > _MOST_NESTED:
            raise ValueError("a page header that is nested too deeply")
        if kind in _INTEGERS:
            self._varint()
        elif kind in (_BYTE, _DOUBLE, _BINARY):
            length = {_BYTE: 1, _DOUBLE: 8}.get(kind) or self._varint()
            self.place += length
        elif kind in _LISTS:
            self._skip_list(depth)
        elif kind == _STRUCT:
            while head := self._byte():
                if not head >> 4:
                    self._varint()
                self._skip(head & 15, depth + 1)
        elif kind not in _BOOLEANS:  # a map: no page header has one
            raise ValueError("a page header of an unknown kind")

    def _skip_list(self, depth: int) -> None:
        head = self._byte()
        kind, count = head & 15, head >> 4
        for _ in range(self._varint() if count == 15 else count):
            if kind in _BOOLEANS:
                self.place += 1
            else:
                self._skip(kind, depth + 1)
            if self.place > len(self._data):
                raise ValueError("a page header that does not end")
