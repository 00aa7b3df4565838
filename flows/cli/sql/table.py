"""The rows that a statement found, as a person reads them in a terminal."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.cli.sql.values import plain, rows_of
from flows.text import terminal_text

if TYPE_CHECKING:  # importing it takes a while for --help
    import pyarrow as pa

MOST_ROWS = 1000
"""Rows that a table shows."""
WIDEST = 32
"""Characters from which on a cell of a table is folded or cut rather than widening it."""
LONGEST = {"table": 120, "records": 1000}
"""Characters of a cell that are shown."""
NO_TERMINAL = 100_000
"""Columns of what is no terminal: a line of a file or pipe is not folded."""


def show_rows(found: pa.Table, file: TextIO) -> None:
    """Rows for people: a line a row where the terminal is wide enough, else a line a cell; times are UTC."""
    out = Console(file=file, highlight=False)
    shown = found.slice(0, MOST_ROWS)
    if list(found.column_names) == ["explain_key", "explain_value"]:
        for row in rows_of(shown):
            out.print(terminal_text(row[1]), markup=False, soft_wrap=True)
        return
    width = out.width if out.is_terminal else NO_TERMINAL
    fits = table_width(shown) <= width
    out.width = width
    for part in [rows_table(shown)] if fits else records(shown):
        out.print(part)
    if found.num_rows > MOST_ROWS:
        out.print(f"[dim]{MOST_ROWS:,} of {found.num_rows:,} rows; add LIMIT, or take all with --format csv[/]")
    elif not found.num_rows:
        out.print("[dim]no rows[/]")


def table_width(found: pa.Table) -> int:
    """Columns of a terminal that a table needs when cells longer than `WIDEST` are folded."""
    widths = [
        max([len(name), *(min(len(_cell(value, "table")), WIDEST) for value in column.to_pylist())])
        for name, column in zip(found.column_names, found.columns, strict=True)
    ]
    return sum(widths) + 2 * (len(widths) - 1)


def rows_table(found: pa.Table) -> Table:
    """A line a row."""
    import pyarrow.types as kinds

    table = Table(box=None, pad_edge=False, header_style="bold")
    for field in found.schema:
        number = kinds.is_integer(field.type) or kinds.is_floating(field.type) or kinds.is_decimal(field.type)
        table.add_column(_safe(field.name), justify="right" if number else "left", overflow="fold")
    for row in rows_of(found):
        table.add_row(*(escape(_cell(value, "table")) for value in row))
    return table


def records(found: pa.Table) -> Iterator[Table]:
    """A line a cell, for rows that are too wide for the screen."""
    names = [_safe(name) for name in found.column_names]
    for number, row in enumerate(rows_of(found), start=1):
        record = Table(
            box=None, pad_edge=False, show_header=False, title=f"row {number}", title_justify="left", title_style="dim"
        )
        record.add_column(style="bold", no_wrap=True)
        record.add_column(overflow="fold")
        for name, value in zip(names, row, strict=True):
            record.add_row(name, escape(_cell(value, "records")))
        yield record


def _cell(value: Any, form: str) -> str:
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    value = plain(value)
    match value:
        case None:
            return "–"
        case float():
            return f"{value:.4g}"
        case str():
            text = value
        case _:
            text = json.dumps(value, ensure_ascii=False)
    text = terminal_text(text).replace("\n", "↵")
    return text if len(text) <= LONGEST[form] else f"{text[: LONGEST[form]]}…"


def _safe(text: str) -> str:
    return escape(terminal_text(text).replace("\n", "↵"))
