"""The screen of `selfcheck` where audits are judged by the copy score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from flows.cli.console import output, safe
from flows.cli.screens.parts import passed_text, print_table, table, verdict_text

if TYPE_CHECKING:  # importing these would load Ray and Prefect for --help
    from flows.selfcheck.judged import CopiesSelfCheck, CopiesTrial, Kind

    Columns = dict[str, Callable[[Kind], str]]

WIDE = 80
"""Characters of the terminal from which on all that is known of a kind stands in one line."""

_WRONG = "[bold red]wrong[/]"


def show_kinds(checked: CopiesSelfCheck) -> None:
    """Print the test releases, the kinds of copies, and what audits of other sizes would see."""
    out = output()
    placebos = [trial for trial in checked.trials if not trial.planted]
    out.print("[bold]Without copies[/]: none may be called copying")
    print_table(_placebos(placebos))
    for trial in placebos:
        if not trial.images:
            out.print(f"{safe(trial.name)}: {safe(trial.sentence)}")
    out.print("\n[bold]With copies of all kinds[/]")
    print_table(_planted([trial for trial in checked.trials if trial.planted]))
    for trial in checked.trials:
        if not trial.passed:
            out.print(f"{_WRONG} {safe(trial.name)}: {safe(trial.sentence)}")
    out.print("\n[bold]Kind by kind[/]")
    for columns in [{**_FOUND, **_JUDGED}] if out.width >= WIDE else [_FOUND, _JUDGED]:
        print_table(_kinds(checked.kinds, columns))
        out.print()
    out.print(
        "[dim]Found: above the line that 1 % of the unseen images pass; source: and most like the image that it is a "
        "copy of. Verdict and list: of a release of which 5 % are such copies, and how many of the listed images are. "
        "From: the smallest rate of such copies that is called copying with 80 % probability.[/]"
    )
    at = "not even at half a release"
    if checked.smallest_rate is not None:
        at = f"from a rate of {_rate(checked.smallest_rate, '')} on"
    out.print(
        f"\nCopies of all these kinds in turn are called copying {at} (80 % probability), with "
        f"{checked.unseen_images:,} unseen images. With all {checked.held_out_images:,} held-out ones, and copies "
        "stronger than all chance:"
    )
    power = table("generated images|", "called from|")
    for size, detectable in checked.detectable.items():
        power.add_row(f"{size:,}", _rate(detectable, "none"))
    print_table(power)
    out.print(
        f"\n{checked.altered_images:,} altered images in {checked.views} views were compared with the training images; "
        "they stay in the store. --kinds all plants every kind of the published list."
    )
    works = "[green]No verdict is wrong.[/]"
    fails = (
        "[bold red]This setup gives wrong verdicts.[/] An honest release is called copying in at most 5 of 100 audits: "
        "try another scoring.seed before you blame the images."
    )
    out.print(f"\n{works if checked.passed else fails}")
    missed = [kind.name for kind in checked.kinds if kind.missed > kind.found]
    if missed:
        out.print(
            f"[yellow]Missed more often than found:[/] {safe(', '.join(missed))}. A verdict of no copying says nothing "
            "about such copies."
        )


def _placebos(trials: Sequence[CopiesTrial]) -> Table:
    shown = table("release", "images|", "verdict", "")
    for trial in trials:
        if trial.images:
            verdict = verdict_text(trial.verdict)
            shown.add_row(safe(trial.name), f"{trial.images:,}", verdict, passed_text(trial.passed, _WRONG))
    return shown


def _planted(trials: Sequence[CopiesTrial]) -> Table:
    shown = table("planted|", "images|", "verdict", "", "copies|", "list|")
    for trial in trials:
        numbers = f"≥ {trial.at_least:,}", _right(trial.listed, trial.listed_right)
        mark = passed_text(trial.passed, _WRONG)
        shown.add_row(f"{trial.planted:,}", f"{trial.images:,}", verdict_text(trial.verdict), mark, *numbers)
    return shown


def _kinds(kinds: Sequence[Kind], columns: Columns) -> Table:
    shown = table("kind", *columns)
    for kind in kinds:
        shown.add_row(safe(kind.name), *(cell(kind) for cell in columns.values()))
    return shown


def _verdict(kind: Kind) -> str:
    return verdict_text(kind.verdict) if kind.passed else f"{_WRONG}: {safe(kind.verdict)}"


def _right(listed: int | None, right: int | None) -> str:
    """How many of the listed images are planted."""
    return f"{right:,} of {listed:,}" if listed else "–"


def _rate(rate: float | None, none: str) -> str:
    return none if rate is None else f"{100 * rate:.2g} %"


_FOUND: Columns = {
    "planted|": lambda kind: f"{kind.planted:,}",
    "found|": lambda kind: f"{kind.found:,}",
    "source|": lambda kind: f"{kind.source_right:,}",
    "missed|": lambda kind: f"{kind.missed:,}",
}
_JUDGED: Columns = {
    "verdict": _verdict,
    "list|": lambda kind: _right(kind.listed, kind.listed_right),
    "from|": lambda kind: _rate(kind.smallest_rate, "–"),
}
