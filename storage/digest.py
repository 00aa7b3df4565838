"""Identity: equal resolved inputs have equal digests, different ones have different digests."""

from __future__ import annotations

import hashlib
import json


def digest(**parts: object) -> str:
    """SHA-256 over named JSON values.

    Args:
        parts: Named JSON values, in any order.

    Returns:
        64 hexadecimal characters.

    >>> digest(a=1, b=[2]) == digest(b=[2], a=1)
    True
    >>> digest(a=1) == digest(a="1")
    False
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def short(full: str) -> str:
    """The first 16 characters, for names of tables and files."""
    return full[:16]
