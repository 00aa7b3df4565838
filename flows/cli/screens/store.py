"""The screens of `status`, `releases` and `sweep`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.cli.console import output, print_marked, safe
from flows.cli.screens.audits import outcome_table, show_failure, show_verdicts
from flows.cli.screens.parts import forward_text, print_table, rate_text, table, verdict_text

if TYPE_CHECKING:  # importing these would load Ray and Prefect for --help
    from flows.registry.registry import Entry
    from flows.registry.store_status import StoreStatus
    from flows.sweep import SweepReport

MOST_LEFT_OUT = 1000
STATE_STYLE = {
    "current": "green",
    "flagged": "bold red",
    "invalid": "bold yellow",
    "failed": "bold yellow",
    "stale": "yellow",
    "auditing now": "cyan",
}


def show_status(store: str, status: StoreStatus) -> None:
    """Print what `layerprint status` found."""
    out = output()
    shown = table("release", "verdict", "copy rate %|", "images|", "unreadable|", "audited (UTC)")
    for row in status.releases:
        name, when = safe(f"{row['release']}@{row['version']}"), row["created_at"].strftime("%Y-%m-%d %H:%M")
        numbers = [rate_text(row), f"{row['images']:,}", f"{row['rejected']:,}"]
        shown.add_row(name, verdict_text(row["verdict"]), *numbers, when)
    if status.releases:
        print_table(shown)
    else:
        out.print(f"no finished audit in {safe(store)}", soft_wrap=True)
    for name in status.not_audited:
        print_marked(out, "not audited", "yellow", name)
    for name in status.unfinished:
        print_marked(out, "unfinished", "yellow", f"{name}; the next audit continues from there")
    for name in status.left_out[:MOST_LEFT_OUT]:
        reason = "it killed the process that embedded it; see the table rejects (layerprint sql)"
        print_marked(out, "left out", "yellow", f"{name}: {reason}")


def show_registry(entries: Sequence[Entry], next_sweep: str) -> None:
    """Print the releases with the state of each."""
    out = output()
    shown = table("release", "state", "copy rate %|", "audited (UTC)")
    for entry in entries:
        name, row = entry.state.name, entry.audit
        audited = ["", ""] if row is None else [rate_text(row), f"{row['created_at']:%Y-%m-%d %H:%M}"]
        shown.add_row(safe(entry.label), f"[{STATE_STYLE.get(name, 'default')}]{name}[/]", *audited)
    if entries:
        print_table(shown)
    else:
        out.print("no releases")
    for entry in entries:
        state = entry.state
        if state.reason and state.name not in ("current", "flagged"):
            print_marked(out, state.name, STATE_STYLE[state.name], f"{entry.label}: {state.reason}")
    out.print(f"\nnext sweep: {safe(next_sweep)}")


def show_sweep(report: SweepReport, forward: int) -> None:
    """Print what `layerprint sweep` did."""
    out = output()
    if report.audited:
        out.print()
        print_table(outcome_table(report.audited))
    for outcome in report.audited:
        show_verdicts(out, outcome)
    for label, verdict in report.current.items():
        out.print(f"[dim]current[/] {safe(label)}: {verdict_text(verdict)}")
    for label, reason in report.left.items():
        print_marked(out, "left alone", "cyan", f"{label}: {reason}")
    for label, error in report.failures.items():
        show_failure(out, label, error)
    for label, missing in report.unpublished.items():
        for reason in missing:
            print_marked(out, "not shown", "yellow", f"{label}: {reason}")
    out.print(f"\n[bold]{report.sentence}[/]\n{forward_text(forward)}")
