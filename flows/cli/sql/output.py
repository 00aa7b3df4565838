"""Write the rows of a query: a table for people, CSV for spreadsheets, JSON and Parquet for programs."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from flows.cli.console import json_text
from flows.cli.sql.table import show_rows
from flows.cli.sql.values import csv_cell, plain, rows_of, unique
from flows.text import terminal_text
from storage.errors import InputError

if TYPE_CHECKING:  # importing it takes a while for --help
    import pyarrow as pa


class RowFormat(StrEnum):
    """The format of the rows."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def format_of(chosen: RowFormat | None, out: Path | None) -> RowFormat:
    """The chosen format, else the one of the file's ending, else a table.

    >>> format_of(None, Path("x.csv")), format_of(None, None)
    (<RowFormat.CSV: 'csv'>, <RowFormat.TABLE: 'table'>)
    """
    ending = out.suffix.removeprefix(".").lower() if out else ""
    return chosen or (RowFormat(ending) if ending in list(RowFormat) else RowFormat.TABLE)


def write_rows(rows: pa.Table, form: RowFormat, out: Path | None = None) -> None:
    """Write rows to a file, or to stdout.

    Raises:
        InputError: The file cannot be written, or Parquet would go to a terminal.
    """
    if form is RowFormat.PARQUET and out is None and sys.stdout.isatty():
        raise InputError("Parquet cannot be shown in a terminal", "add --out FILE.parquet, or use another --format")
    try:
        if form is RowFormat.PARQUET:
            _write_parquet(rows, out)
        elif out is None:
            _write_text(rows, form, sys.stdout)
        else:
            with out.open("w", encoding="utf-8", newline="") as file:
                _write_text(rows, form, file)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(
            f"{out or 'stdout'} cannot be written: {error.strerror}", "use the path of a writable file"
        ) from error


def _write_parquet(rows: pa.Table, out: Path | None) -> None:
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(rows.rename_columns(unique(rows.column_names)), sink, compression="zstd")
    if out is None:
        sys.stdout.buffer.write(sink.getbuffer())
    else:
        out.write_bytes(sink.getbuffer())


def _write_text(rows: pa.Table, form: RowFormat, file: TextIO) -> None:
    match form:
        case RowFormat.CSV:
            clean: Callable[[str], str] = terminal_text if file.isatty() else str
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(clean(csv_cell(name)) for name in rows.column_names)
            writer.writerows([clean(csv_cell(value)) for value in row] for row in rows_of(rows))
        case RowFormat.JSON:
            names = unique(rows.column_names)
            file.write(json_text([dict(zip(names, map(plain, row), strict=True)) for row in rows_of(rows)]))
        case _:
            show_rows(rows, file)
