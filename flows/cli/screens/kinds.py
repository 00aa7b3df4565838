"""The screen of `selfcheck` where audits are judged by the copy score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from flows.cli.console import output, safe
from flows.cli.screens.parts import passed_text, print_table, table, verdict_text

if TYPE_CHECKING:  # importing these would load Ray and Prefect for --help
    from flows.selfcheck.judged import CopiesSelfCheck, CopiesTrial

ALL_KINDS = "layerprint selfcheck SPEC --kinds all"

_EXPECTED = {1: "copying", 2: "not clean", 3: "any"}


def show_kinds(checked: CopiesSelfCheck) -> None:
    """Print the test releases, the kinds of copies, and what audits of other sizes would see."""
    out = output()
    print_table(_trials(checked))
    for trial in checked.trials:
        if not trial.passed or not trial.images:
            out.print(f"[bold]{safe(trial.name)}[/] {safe(trial.sentence)}")
    out.print("\n[bold]Kinds of copies[/]")
    print_table(_kinds(checked))
    out.print(
        "[dim]Found: above the line that 1 % of the unseen images pass; right: and most like the image that it is a copy "
        "of. Verdict and list: of a release of which 5 % are such copies. Called from: the smallest rate of such copies "
        "that is called copying with 80 % probability.[/]"
    )
    out.print(
        f"\nWith copies of all these kinds {_rate(checked.smallest_rate, 'no rate')} is called, with these halves of "
        f"{checked.unseen_images:,} unseen images. With all {checked.held_out_images:,} held-out images, and copies that "
        "no unseen image resembles:"
    )
    power = table("generated images|", "called copying (80 % power)|")
    for size, rate in checked.detectable.items():
        power.add_row(f"{size:,}", _rate(rate, "none"))
    print_table(power)
    out.print(
        f"\n{checked.altered_images:,} altered images were compared with the training images, each in {checked.views} "
        f"views. They stay in the store. All 25 kinds of copies: {ALL_KINDS}"
    )
    works = "[green]This setup works as expected.[/]"
    fails = (
        "[bold red]This setup gives wrong verdicts.[/] An honest release is called copying in at most 5 of 100 audits: "
        "try another scoring.seed before you blame the images."
    )
    out.print(f"\n{works if checked.passed else fails}")


def _trials(checked: CopiesSelfCheck) -> Table:
    shown = table("test release", "images|", "verdict", "expected", "", "copies|", "listed|")
    for trial in checked.trials:
        mark = passed_text(trial.passed, "[bold red]wrong[/]") if trial.images else "–"
        least = "–" if trial.at_least is None else f"≥ {trial.at_least:,}"
        listed = _listed(trial.listed, trial.listed_right, trial.planted)
        images = f"{trial.images:,}" if trial.images else "–"
        shown.add_row(safe(trial.name), images, verdict_text(trial.verdict), _expected(trial), mark, least, listed)
    return shown


def _kinds(checked: CopiesSelfCheck) -> Table:
    shown = table("kind", "planted|", "found|", "right|", "missed|", "verdict", "listed|", "called from|")
    for kind in checked.kinds:
        verdict = verdict_text(kind.verdict) if kind.passed else f"[bold red]wrong:[/] {safe(kind.verdict)}"
        numbers = (f"{count:,}" for count in (kind.planted, kind.found, kind.source_right, kind.missed))
        listed = _listed(kind.listed, kind.listed_right, 1)
        shown.add_row(safe(kind.name), *numbers, verdict, listed, _rate(kind.smallest_rate, "–"))
    return shown


def _expected(trial: CopiesTrial) -> str:
    """The right verdicts in a word."""
    return "not copying" if "copying" not in trial.wanted else _EXPECTED[len(trial.wanted)]


def _listed(listed: int | None, right: int | None, planted: int) -> str:
    """How many images are listed, and how many of them are planted."""
    if listed is None:
        return "–"
    return f"{listed:,} ({right:,} right)" if planted and listed else f"{listed:,}"


def _rate(rate: float | None, none: str) -> str:
    return none if rate is None else f"{100 * rate:.2g} %"
