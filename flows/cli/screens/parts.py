"""What the screens share: tables, numbers, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from flows.cli.console import output, safe

NARROWEST = len("inconclusive")
"""Width that a column of text keeps on a narrow terminal, in characters: no word of a verdict is longer."""

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
    widths = []
    for column in shown.columns:
        natural = max(Text.from_markup(str(cell)).cell_len for cell in (column.header, *column.cells))
        widths.append(natural if column.no_wrap else min(natural, NARROWEST))
    out = output()
    out.width = max(out.width, sum(widths) + 2 * len(widths))  # rich shrinks all columns with their padding alike
    out.print(shown)


def number(value: float | None) -> str:
    """A number with two decimals, or a dash.

    >>> number(0.4567), number(None)
    ('0.46', '–')
    """
    return "–" if value is None else f"{value:.2f}"


def rate_text(audit: Mapping[str, Any]) -> str:
    """The rate of copies in per cent: its bounds, or of an audit that was judged by layers, the rate and its interval.

    >>> rate_text({"copies_at_least": 12, "copies_low": 0.029, "copies_high": 0.08})
    '2.9–8.0'
    >>> rate_text({"copy_rate": 0.052, "copy_rate_low": 0.027, "copy_rate_high": 0.084})
    '5.2 (2.7–8.4)'
    """
    if audit.get("copies_at_least") is not None:
        return f"{_percent(audit['copies_low'])}–{_percent(audit['copies_high'])}"
    if audit["copy_rate"] is None:
        return "–"
    return f"{100 * audit['copy_rate']:.1f} ({100 * audit['copy_rate_low']:.1f}–{100 * audit['copy_rate_high']:.1f})"


def copies_text(audit: Mapping[str, Any]) -> str:
    """How many images (of groups, one each) are copies at least, or a dash for an audit that was judged by layers.

    >>> copies_text({"copies_at_least": 12, "distinct_images": 1300}), copies_text({"copies_at_least": None})
    ('≥ 12 of 1,300', '–')
    """
    if audit.get("copies_at_least") is None:
        return "–"
    judged = audit.get("units") or audit["distinct_images"]
    return f"≥ {audit['copies_at_least']:,} of {judged:,}"


def _percent(share: float | None) -> str:
    """A share in per cent; one that would be shown as 0 or 100 %, but is not, with two digits.

    >>> _percent(0.0004), _percent(0.0), _percent(0.125), _percent(None)
    ('0.04', '0', '12.5', '–')
    """
    if share is None:
        return "–"
    return "0" if share == 0 else f"{100 * share:.2g}" if share < 0.001 else f"{100 * share:.1f}"


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
