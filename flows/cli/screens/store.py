"""What sweeps, the registry and upkeep show in a terminal, 80 columns or less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from flows.cli.screens import VERDICT_STYLE, forward_text, outcome_table, rate_text, safe, show_failure, show_verdicts

if TYPE_CHECKING:
    from flows.registry.registry import Entry
    from flows.sweep import SweepReport

STATE_STYLE = {
    "current": "green",
    "flagged": "bold red",
    "invalid": "bold yellow",
    "failed": "bold yellow",
    "stale": "yellow",
    "auditing now": "cyan",
}


def show_sweep(report: SweepReport, forward: int) -> None:
    """What `layerprint sweep` did."""
    out = Console(highlight=False)
    if report.audited:
        out.print()
        out.print(outcome_table(report.audited))
    for outcome in report.audited:
        show_verdicts(out, outcome)
    for label, verdict in report.standing.items():
        out.print(f"[dim]current[/] {safe(label)}: [{VERDICT_STYLE.get(verdict, 'green')}]{safe(verdict)}[/]")
    for label, reason in report.left.items():
        out.print(f"[cyan]left alone[/] {safe(label)}: {safe(reason)}")
    for label, error in report.failures.items():
        show_failure(out, label, error)
    for label, missing in report.unpublished.items():
        for one in missing:
            out.print(f"[yellow]not shown[/] {safe(label)}: {safe(one)}")
    out.print(f"\n[bold]{report.sentence}[/]\n{forward_text(forward)}")


def show_registry(entries: Sequence[Entry], next_sweep: str) -> None:
    """The releases and how each stands."""
    out = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("release", "state", "copy rate %", "audited (UTC)"):
        table.add_column(name, overflow="fold", justify="right" if name.endswith("%") else "left")
    for entry in entries:
        state, row = entry.standing.state, entry.audit
        shown = f"[{STATE_STYLE.get(state, 'default')}]{state}[/]"
        audited = ["", ""] if row is None else [rate_text(dict(row)), f"{row['created_at']:%Y-%m-%d %H:%M}"]
        table.add_row(safe(entry.label), shown, *audited)
    out.print(table if entries else "no release")
    for entry in entries:
        if entry.standing.reason and entry.standing.state not in ("current", "flagged"):
            out.print(f"[{STATE_STYLE[entry.standing.state]}]{safe(entry.label)}[/]: {safe(entry.standing.reason)}")
    out.print(f"\nnext sweep: {safe(next_sweep)}")
