"""The rows of a query as a table for a terminal."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from rich.markup import escape
from rich.table import Table

from flows.cli.console import output
from flows.cli.sql.values import plain, rows_of
from flows.text import terminal_text

if TYPE_CHECKING:  # importing it takes a while for --help
    import pyarrow as pa

MOST_ROWS = 1000
"""Number of rows that are shown."""
WIDEST = 32
"""Width of a table cell above which it is folded."""
LONGEST = {"table": 120, "records": 1000}
"""Number of characters of a cell that are shown, by layout."""
NO_TERMINAL = 100_000
"""Width of a file or pipe, whose lines are not folded."""


def show_rows(rows: pa.Table, file: TextIO) -> None:
    """Print rows: one line per row if the terminal is wide enough, else one line per cell. Times are in UTC."""
    out = output(file=file)
    shown = rows.slice(0, MOST_ROWS)
    if list(rows.column_names) == ["explain_key", "explain_value"]:
        for row in rows_of(shown):
            out.print(terminal_text(row[1]), markup=False, soft_wrap=True)
        return
    width = out.width if out.is_terminal else NO_TERMINAL
    fits = table_width(shown) <= width
    out.width = width
    for part in [rows_table(shown)] if fits else records(shown):
        out.print(part)
    if rows.num_rows > MOST_ROWS:
        out.print(f"[dim]{MOST_ROWS:,} of {rows.num_rows:,} rows; add LIMIT, or use --format csv for all of them[/]")
    elif not rows.num_rows:
        out.print("[dim]no rows[/]")


def table_width(rows: pa.Table) -> int:
    """The width of a table in characters, with cells longer than `WIDEST` folded."""
    widths = [
        max([len(name), *(min(len(_cell(value, "table")), WIDEST) for value in column.to_pylist())])
        for name, column in zip(rows.column_names, rows.columns, strict=True)
    ]
    return sum(widths) + 2 * (len(widths) - 1)


def rows_table(rows: pa.Table) -> Table:
    """A table with one line per row."""
    import pyarrow.types as kinds

    table = Table(box=None, pad_edge=False, header_style="bold")
    for field in rows.schema:
        number = kinds.is_integer(field.type) or kinds.is_floating(field.type) or kinds.is_decimal(field.type)
        table.add_column(_safe(field.name), justify="right" if number else "left", overflow="fold")
    for row in rows_of(rows):
        table.add_row(*(escape(_cell(value, "table")) for value in row))
    return table


def records(rows: pa.Table) -> Iterator[Table]:
    """One table per row with one line per cell, for rows that are too wide for the screen."""
    names = [_safe(name) for name in rows.column_names]
    for number, row in enumerate(rows_of(rows), start=1):
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
