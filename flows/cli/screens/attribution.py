"""The screens of `enrol` and `attribute`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.cli.console import output, safe
from flows.cli.screens.parts import print_table, table

if TYPE_CHECKING:  # importing these would load Ray and Prefect for --help
    from flows.attribute import AttributedImages
    from flows.enrol import EnrolledRelease
    from flows.stress import StressedAttribution

MOST_CANDIDATES = 10


def show_enrolled(enrolled: Sequence[EnrolledRelease]) -> None:
    """Print what `layerprint enrol` stored."""
    shown = table("release", "run", "images|", "parts|", "layers|")
    for release in enrolled:
        cells = (f"{release.images:,}", str(release.parts), str(release.layers))
        shown.add_row(safe(release.release), safe(release.run), *cells)
    print_table(shown)


def show_attribution(attributed: AttributedImages) -> None:
    """Print what `layerprint attribute` found: the answer and the most probable releases."""
    from scoring.attribution.enrolment import ORIGINAL  # loads SciPy, which --help does not need

    answer, out = attributed.answer, output()
    style = {"attributed": "bold green", "one of": "bold cyan", "unknown": "bold yellow", "undecided": "bold"}[
        answer.verdict
    ]
    out.print(f"[{style}]{safe(answer.sentence)}[/]")
    if attributed.enrolled_as:
        out.print(f"[yellow]{safe(', '.join(attributed.enrolled_as))} was enrolled with these same images.[/]")
    out.print()
    shown = table("enrolled release", "probability|", "if enrolled|", "p|", "nearest after")
    for candidate in answer.candidates[:MOST_CANDIDATES]:
        numbers = (candidate.posterior, candidate.closed)
        after = "" if candidate.processing == ORIGINAL else safe(candidate.processing)
        shown.add_row(safe(candidate.maker), *map(probability_text, numbers), f"{candidate.p_value:.2g}", after)
    shown.add_row("[dim]none of these[/]", probability_text(answer.unknown), "", "", "")
    print_table(shown)
    if (more := len(answer.candidates) - MOST_CANDIDATES) > 0:
        out.print(f"[dim]and {more} less probable releases (--json shows all)[/]")
    out.print(f"\n{_baselines(attributed)}\n\n[dim]{_explained(attributed)}[/]")


def show_stress(stressed: StressedAttribution) -> None:
    """Print the answer after each perturbation."""
    shown = table("images", "verdict", "most probable", "prob.|", "unknown|", "answer")
    answers = {"unchanged": stressed.plain.answer} | {name: done.answer for name, done in stressed.perturbed.items()}
    for name, answer in answers.items():
        best = answer.candidates[0]
        mark = ""
        if name in stressed.perturbed:
            mark = "[green]same[/]" if stressed.same(name) else "[bold red]different[/]"
        numbers = (probability_text(best.posterior), probability_text(answer.unknown))
        shown.add_row(safe(name), safe(answer.verdict), safe(best.maker), *numbers, mark)
    out = output()
    out.print()
    print_table(shown)
    out.print(f"\n{safe(stressed.sentence)}")


def probability_text(probability: float) -> str:
    """A probability in per cent, shown as 0 or 100 % only if it is exactly that.

    >>> probability_text(0.5), probability_text(0.99996), probability_text(1e-9), probability_text(0.0)
    ('50.0 %', '> 99.9 %', '< 0.1 %', '0.0 %')
    """
    if 0 < probability < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= probability < 1 else f"{100 * probability:.1f} %"


def _baselines(attributed: AttributedImages) -> str:
    """The answers of the baselines in one line."""
    baselines = attributed.baselines
    scores_of = {
        "memorization curve": {one.maker: one.curve_posterior for one in attributed.answer.candidates},
        "published rule": baselines.published_similarity,
        "one Fréchet distance": baselines.frechet,
        "nearest mean": baselines.mean_distance,
        f"per-image probe (layer {baselines.probe_layer})": baselines.probe_log_p,
    }
    answers = [f"{name} {safe(max(scores, key=scores.__getitem__))}" for name, scores in scores_of.items() if scores]
    missing = len(baselines.probe_missing)
    without = f"; no probe: the embeddings of {missing} releases are missing" if missing else ""
    return f"Baselines: {', '.join(answers)}{without}."


def _explained(attributed: AttributedImages) -> str:
    answer = attributed.answer
    trials = (
        f"{attributed.trials_right} of {attributed.trials} test sets of the enrolled releases were attributed "
        "correctly. p: share of these sets at least as far from their own release; if p is not above the level for any "
        "release, the answer is unknown. "
        if attributed.trials
        else "No release has enough images to be split into test sets: the reliability of this answer is not known. "
    )
    best = safe(answer.candidates[0].maker)
    needed = (
        f"No number of images would be attributed to {best} alone with 80 % probability: enrol more of each release."
        if answer.needed is None
        else f"{answer.needed:,} images of {best} would be attributed to it alone with 80 % probability."
    )
    curve = "" if answer.curve_weight else " The memorization curve adds nothing to the signature on these releases."
    runs = "" if attributed.runs_compared else " Each release has one run: how much training runs differ is not known."
    return f"{trials}{needed}{curve}{runs}"
