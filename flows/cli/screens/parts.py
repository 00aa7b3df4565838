"""What the screens share: tables, numbers, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.cells import cell_len
from rich.table import Table

from flows.cli.console import output, safe

NARROWEST = 10
"""Width that a column of text keeps on a narrow terminal, in characters."""

VERDICT_STYLE = {"copying": "bold red", "invalid": "bold yellow", "inconclusive": "yellow", "not judged": "yellow"}


def table(*names: str) -> Table:
    """A plain table; a name that ends with ``|`` is a column of numbers."""
    plain = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        numbers = name.endswith("|")
        plain.add_column(
            name.removesuffix("|"), justify="right" if numbers else "left", no_wrap=numbers, overflow="fold"
        )
    return plain


def print_table(shown: Table) -> None:
    """Print a table. On a narrow terminal text is folded, and numbers stay whole: the table may exceed the width."""
    widths = [
        max(cell_len(str(cell)) for cell in (column.header, *column.cells)) if column.no_wrap else NARROWEST
        for column in shown.columns
    ]
    out = output()
    out.width = max(out.width, sum(widths) + 2 * (len(widths) - 1))
    out.print(shown)


def number(value: float | None) -> str:
    """A number with two decimals, or a dash.

    >>> number(0.4567), number(None)
    ('0.46', '–')
    """
    return "–" if value is None else f"{value:.2f}"


def rate_text(audit: Mapping[str, Any]) -> str:
    """The copy rate in per cent with its interval.

    >>> rate_text({"copy_rate": 0.052, "copy_rate_low": 0.027, "copy_rate_high": 0.084})
    '5.2 (2.7–8.4)'
    """
    if audit["copy_rate"] is None:
        return "–"
    return f"{100 * audit['copy_rate']:.1f} ({100 * audit['copy_rate_low']:.1f}–{100 * audit['copy_rate_high']:.1f})"


def verdict_text(verdict: str) -> str:
    """A verdict in its colour."""
    return f"[{VERDICT_STYLE.get(verdict, 'green')}]{safe(verdict)}[/]"


def passed_text(passed: bool, otherwise: str = "[yellow]failed[/]") -> str:
    """The mark of a check."""
    return "[green]ok[/]" if passed else otherwise


def forward_text(forward: int) -> str:
    """How many forward passes the command took."""
    if forward:
        return f"{forward:,} images went through the encoder."
    return "0 images went through the encoder: everything was found in the store."
