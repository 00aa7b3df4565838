"""The values of a query result as text and as JSON."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # importing it takes a while for --help
    import pyarrow as pa


def rows_of(rows: pa.Table) -> Iterator[tuple[Any, ...]]:
    """The rows as tuples, converted a thousand at a time."""
    for batch in rows.to_batches(max_chunksize=1000):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def unique(names: Sequence[str]) -> list[str]:
    """Column names made unique: a repeated name gets a number.

    >>> unique(["a", "a", "b"])
    ['a', 'a_1', 'b']
    """
    taken: list[str] = []
    for name in names:
        count, candidate = 0, name
        while candidate in taken:
            count += 1
            candidate = f"{name}_{count}"
        taken.append(candidate)
    return taken


def plain(value: Any) -> Any:
    """A value as JSON has it: times as ISO text, decimals as numbers, NaN and infinities as null.

    >>> plain([Decimal("1.5"), Decimal(7), float("nan"), dt.date(2026, 1, 2), b"x"])
    [1.5, 7, None, '2026-01-02', '78']
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case bytes():
            return value.hex()
    return str(value)


def csv_cell(value: Any) -> str:
    """A value as CSV has it; text that a spreadsheet would run as a formula starts with an apostrophe.

    >>> csv_cell("=HYPERLINK(1)"), csv_cell(-0.5), csv_cell([1.0, None]), csv_cell(None), csv_cell(True)
    ("'=HYPERLINK(1)", '-0.5', '[1.0, null]', '', 'true')
    """
    if isinstance(value, str):
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    value = plain(value)
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
