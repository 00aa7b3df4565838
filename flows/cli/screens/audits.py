"""The screens of `audit`, `reference` and `demo`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from flows.cli.console import explain, output, safe
from flows.cli.screens.parts import (
    copies_text,
    forward_text,
    number,
    passed_text,
    print_table,
    rate_text,
    table,
    verdict_text,
)

if TYPE_CHECKING:  # importing these would load Ray and Prefect for --help
    from flows.audit import AuditReport
    from flows.demo.run import DemoResult
    from flows.results.audit_result import AuditResult
    from storage.errors import LayerprintError

COPY_RATE = (
    "Copy rate: share of the images that are closer to a training image than unseen real images are, beyond chance, "
    "with its 95 % interval, at the layer with the strongest evidence."
)
COPIES = (
    "Copies: at least so many of the release's different pictures are copies of training images (95 %). Rate: 95 % "
    "bounds of the share of copies among all images that this generator makes. The numbers of the layers describe how "
    "close images are; the verdict does not rest on them."
)

MOST_COPIES = 5
"""Listed copies that are printed."""


def show_report(report: AuditReport, forward: int, pictures: Sequence[str]) -> None:
    """Print what `layerprint audit` found."""
    out = output()
    out.print()
    print_table(outcome_table(report.outcomes))
    if len(report.outcomes) == 1:
        out.print()
        print_table(layer_table(report.outcomes[0]))
        out.print()
        print_table(check_table(report.outcomes[0]))
    for outcome in report.outcomes:
        show_verdicts(out, outcome)
    for label, error in report.failures.items():
        out.print()
        show_failure(out, label, error)
    _show_end(out, report.outcomes, forward, pictures)


def show_demo(result: DemoResult, forward: int) -> None:
    """Print what `layerprint demo` found, and what to try next."""
    out = output()
    out.print()
    print_table(outcome_table(result.outcomes, result.attributed))
    _show_end(out, result.outcomes, forward, result.pictures)
    out.print("\n[bold]Try next[/]")
    for line in result.next_commands:
        out.print(f"  {safe(line)}", soft_wrap=True)


def show_failure(out: Console, label: str, error: LayerprintError) -> None:
    """Print why a release was not audited."""
    reason = error.found if error.found.startswith(label) else f"{label}: {error.found}"
    explain(out, "not audited", reason, error.remedy)


def show_verdicts(out: Console, outcome: AuditResult) -> None:
    """Print the two verdicts in words, and why they are not valid if they are not."""
    audit = outcome.audit
    out.print(f"\n[bold]{safe(outcome.label)}[/] {verdict_text(outcome.verdict)}")
    reason = f"[yellow]{safe(audit['invalid_reason'])}[/]" if audit["invalid_reason"] else ""
    power = safe(outcome.power_by_kind)
    for text in filter(None, (reason, safe(audit["sentence"]), power, safe(audit["fit_sentence"]))):
        out.print(Padding(text, (0, 0, 0, 2), expand=False))
    show_copies(out, outcome)


def show_copies(out: Console, outcome: AuditResult) -> None:
    """Print the strongest listed copies, and where all are."""
    from flows.results.audit_result import copy_kind  # loads Arrow, which --help does not need

    listed = outcome.listed
    if listed:
        out.print(Padding("[bold]Copies[/], image → training image:", (0, 0, 0, 2)))
    for row in listed[:MOST_COPIES]:
        pair = f"{safe(row['image_key'])} → {safe(row['train_key'])}"
        out.print(
            Padding(f"{pair} [dim]{copy_kind(row)}, {safe(row['view'])}, score {row['score']:.1f}[/]", (0, 0, 0, 4))
        )
    if (more := len(listed) - MOST_COPIES) > 0:
        query = f"FROM copies WHERE listed AND audit_id = '{safe(outcome.audit_id)}' ORDER BY rank"
        out.print(Padding(f"[dim]and {more:,} more: in the report, or in SQL: {query}[/]", (0, 0, 0, 4)))


def outcome_table(outcomes: Sequence[AuditResult], attributed: Sequence[str] | None = None) -> Table:
    """One row per release: verdict, copies and their rate, Â of the first and last informative layer.

    Args:
        outcomes: Audits.
        attributed: For each audit the releases named as makers of a fresh batch, or the verdict; None: no column.
    """
    by_copies = any(outcome.by_copies for outcome in outcomes)
    columns = ("copies|", "rate %|") if by_copies else ("copy rate %|",)
    shown = table("release", "verdict", *columns, "Â first|", "Â last|")
    if attributed is not None:
        shown.add_column("fresh batch → ", overflow="fold")
    for i, outcome in enumerate(outcomes):
        ends = [outcome.informative[at]["a_hat"] for at in (0, -1)] if outcome.informative else [None, None]
        copies = [copies_text(outcome.audit)] if by_copies else []
        cells = [safe(outcome.label), verdict_text(outcome.verdict), *copies, rate_text(outcome.audit)]
        found = [_attributed(outcome, attributed[i])] if attributed is not None else []
        shown.add_row(*cells, *map(number, ends), *found)
    return shown


def layer_table(outcome: AuditResult) -> Table:
    """One row per layer of one audit."""
    shown = table("layer", "Â|", "95 %|", "p|", "C_T|", "Z_S|", "copy rate %|", "near-dup.|", "covered|")
    for row in outcome.scores:
        if not row["informative"]:
            shown.add_row(str(row["layer"]), "–", "no information", *["–"] * 6)
            continue
        interval = f"{row['a_low']:.2f}–{row['a_high']:.2f}"
        rate = "–" if row["copy_rate"] is None else f"{100 * row['copy_rate']:.1f}"
        near = "–" if row["near_duplicates"] is None else str(row["near_duplicates"])
        p = f"{row['p_adjusted']:.2g}"
        numbers = [number(row["a_hat"]), interval, p, number(row["c_t"]), number(row["z_s"]), rate, near]
        shown.add_row(str(row["layer"]), *numbers, f"{row['coverage']:.0%}")
    return shown


def check_table(outcome: AuditResult) -> Table:
    """The validity checks of one audit."""
    shown = table("check", "", "finding")
    for row in outcome.checks:
        mark = passed_text(row["passed"], "[yellow]note[/]" if row["severity"] == "note" else "[yellow]failed[/]")
        remedy = f"\n→ {safe(row['remedy'])}" if row["remedy"] and not row["passed"] else ""
        shown.add_row(safe(row["name"]), mark, safe(row["sentence"]) + remedy)
    return shown


def show_reference(facts: dict[str, Any]) -> None:
    """Print what `layerprint reference` built."""
    out = output()
    out.print(
        f"reference [bold]{safe(facts['reference'])}[/]: {facts['train_images']:,} training images, "
        f"{facts['held_out_images']:,} held-out images ({facts['contaminated']:,} more left out: they are in the "
        f"training set), {len(facts['layers'])} layers, {len(facts['rejects']):,} unreadable images\n"
        f"{forward_text(facts['forward_images'])}"
    )
    for check in facts["checks"]:
        out.print(f"{passed_text(check['passed'])} {safe(check['name'])}: {safe(check['sentence'])}")


def _show_end(out: Console, outcomes: Sequence[AuditResult], forward: int, pictures: Sequence[str]) -> None:
    from flows.report.words import MEANING  # loads Arrow, which --help does not need

    modes = {outcome.by_copies for outcome in outcomes}
    rates = " ".join(text for text, mode in ((COPIES, True), (COPY_RATE, False)) if mode in modes)
    out.print(f"\n[dim]{rates} {MEANING}[/]\n")
    out.print(forward_text(forward))
    out.print("pictures:", *map(safe, pictures), sep="\n  ", soft_wrap=True)


def _attributed(outcome: AuditResult, name: str) -> str:
    """The releases that are named, green if the right one is among them; a verdict that names none is no mistake."""
    right, named = outcome.label in name.split(" or "), name not in ("unknown", "undecided")
    return f"[{'green' if right else 'yellow'}]{safe(name)}{' ✗' if named and not right else ''}[/]"
