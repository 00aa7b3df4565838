"""Rows as table, CSV, JSON and Parquet; names are untrusted."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from rich.text import Text

from flows.cli.sql.output import RowFormat, format_of, write_rows
from flows.cli.sql.table import MOST_ROWS, show_rows
from storage.errors import InputError

HOSTILE = "\x1b[2J\u202egnp.\x9b31m[red]<script>\r\nforged row" + "é" * 4000


class Terminal(io.StringIO):
    """A terminal of 80 columns."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")


def shown(rows: pa.Table) -> list[str]:
    """The lines in a terminal, without styles; each of them fits."""
    screen = Terminal()
    show_rows(rows, screen)
    plain = Console(file=io.StringIO(), width=1000)
    lines = [Text.from_ansi(line).plain for line in screen.getvalue().splitlines()]
    assert all(plain.measure(line).maximum <= 80 for line in lines)
    return lines


def test_rows_that_fit_are_shown_as_a_table() -> None:
    lines = shown(pa.table({"release": ["glow", "vae"], "a_hat": [0.123456, None], "n": [5, 500]}))
    assert [line.split() for line in lines] == [
        ["release", "a_hat", "n"],
        ["glow", "0.1235", "5"],
        ["vae", "–", "500"],
    ]


def test_rows_that_are_too_wide_take_one_line_per_cell() -> None:
    lines = shown(pa.table({f"column_{i}": [f"value {i}", "x" * 150] for i in range(20)}))
    assert lines[0].strip() == "row 1"
    assert lines[1].split() == ["column_0", "value", "0"]
    assert sum(line.startswith("column_7") for line in lines) == 2
    assert "".join(lines).count("x") == 20 * 150


def test_a_hostile_name_is_harmless_in_a_terminal() -> None:
    for table in (pa.table({"key": [HOSTILE]}), pa.table({f"key{i}": [HOSTILE] for i in range(20)})):
        lines = shown(table)
        text = "\n".join(lines)
        assert all(character.isprintable() for line in lines for character in line)
        assert "[red]<script>" in text.replace("\n", "")
        assert not any(line.lstrip().startswith("forged") for line in lines)
        assert len(text) < 20 * 2000
    assert shown(pa.table({HOSTILE[:20]: [1]}))[0].startswith("�[2J")


def test_only_the_first_rows_are_shown() -> None:
    lines = shown(pa.table({"n": list(range(MOST_ROWS + 1))}))
    assert len(lines) == MOST_ROWS + 2
    assert "1,000 of 1,001 rows" in lines[-1]
    assert shown(pa.table({"n": pa.array([], pa.int64())}))[-1] == "no rows"


ROWS = pa.table(
    {
        "name": ["=1+1", "@x", 'plain, "quoted"\nline'],
        "value": [-0.5, float("nan"), None],
        "list": [[1.0, 2.0], [], None],
        "sum": pa.array([3, 4, 5], pa.decimal128(38, 0)),
        "when": pa.array([0, 1, None], pa.timestamp("us", tz="UTC")),
    }
)


def test_csv(tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    write_rows(ROWS, RowFormat.CSV, out)
    assert list(csv.reader(out.read_text().splitlines(keepends=True))) == [
        ["name", "value", "list", "sum", "when"],
        ["'=1+1", "-0.5", "[1.0, 2.0]", "3", "1970-01-01T00:00:00+00:00"],
        ["'@x", "", "[]", "4", "1970-01-01T00:00:00.000001+00:00"],
        ['plain, "quoted"\nline', "", "", "5", ""],
    ]


def test_json_is_exact_and_cannot_control_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(ROWS, RowFormat.JSON)
    rows = json.loads(capsys.readouterr().out)
    assert [row["sum"] for row in rows] == [3, 4, 5]
    assert [row["value"] for row in rows] == [-0.5, None, None]
    assert rows[0]["when"] == "1970-01-01T00:00:00+00:00"
    write_rows(pa.table({"a": [HOSTILE]}), RowFormat.JSON)
    text = capsys.readouterr().out
    assert json.loads(text) == [{"a": HOSTILE}]
    assert all(character.isprintable() or character == "\n" for character in text)
    write_rows(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), RowFormat.JSON)
    assert json.loads(capsys.readouterr().out) == [{"a": 1, "a_1": 2}]


def test_parquet_is_exact(tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    write_rows(ROWS, RowFormat.PARQUET, out)
    assert str(pq.read_table(out).to_pylist()) == str(ROWS.to_pylist())


def test_parquet_is_not_written_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Terminal())
    with pytest.raises(InputError, match="terminal"):
        write_rows(ROWS, RowFormat.PARQUET)
    write_rows(pa.table({"a": ["\x1b[2J"]}), RowFormat.CSV)
    import sys

    terminal: Any = sys.stdout
    assert terminal.getvalue() == "a\n�[2J\n"


def test_the_ending_chooses_the_format(tmp_path: Path) -> None:
    assert format_of(None, Path("x.PARQUET")) is RowFormat.PARQUET
    assert format_of(None, Path("x.txt")) is RowFormat.TABLE
    assert format_of(RowFormat.JSON, Path("x.csv")) is RowFormat.JSON
    with pytest.raises(InputError, match="cannot be written"):
        write_rows(ROWS, RowFormat.CSV, tmp_path / "no" / "x.csv")
