"""Ways in which a file breaks."""

from __future__ import annotations

DAMAGES = ("empty", "cut", "flipped")


def damaged(data: bytes, how: str, at: int | None = None) -> bytes:
    """A file of zero length, its first half, or with one bit of the byte ``at`` (the middle) changed."""
    match how:
        case "empty":
            return b""
        case "cut":
            return data[: len(data) // 2]
        case _:
            place = len(data) // 2 if at is None else at
            return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]
