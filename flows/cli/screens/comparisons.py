"""The screens of `selfcheck` and `compare`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from flows.cli.console import output, safe
from flows.cli.screens.parts import copies_text, number, passed_text, print_table, rate_text, table, verdict_text

if TYPE_CHECKING:  # importing these would load Ray and Prefect for --help
    from flows.compare import ReleaseComparison
    from flows.selfcheck.by_layers import SelfCheck


def show_selfcheck(selfcheck: SelfCheck) -> None:
    """Print the trials of `layerprint selfcheck` by layers, and what releases of other sizes would show."""
    out = output()
    shown = table("test release", "images|", "verdict", "expected", "", "copy rate %|")
    for trial in selfcheck.trials:
        verdict = "copying" if trial.copying else "no copying"
        expected = {True: "copying", False: "no copying", None: "either"}[trial.wanted]
        mark = passed_text(trial.passed, "[bold red]wrong[/]")
        shown.add_row(safe(trial.name), f"{trial.images:,}", verdict, expected, mark, rate_text(asdict(trial)))
    print_table(shown)
    for trial in selfcheck.trials:
        ends = [trial.a_hats[min(trial.a_hats)], trial.a_hats[max(trial.a_hats)]] if trial.a_hats else [None, None]
        out.print(
            f"\n[bold]{safe(trial.name)}[/] Â first {number(ends[0])}, last {number(ends[1])}; {safe(trial.sentence)}"
        )
    power = table("generated images|", "detectable copy rate (80 % power)|")
    for size, rate in selfcheck.detectable.items():
        power.add_row(f"{size:,}", "none" if rate is None else f"{100 * rate:.2g} %")
    out.print(f"\nWith all {selfcheck.held_out_images:,} held-out images and {selfcheck.layers} layers:")
    print_table(power)
    works, fails = "[green]This setup works as expected.[/]", "[bold red]This setup gives wrong verdicts.[/]"
    out.print(f"\n{works if selfcheck.passed else fails}")


def show_comparison(compared: ReleaseComparison) -> None:
    """Print what `layerprint compare` found."""
    first, second = safe(compared.first.label), safe(compared.second.label)
    shown = table("layer", f"Â {first}|", f"Â {second}|", "difference|", "95 %|", "p|", "drift|")
    rows = [{row["layer"]: row["a_hat"] for row in outcome.scores} for outcome in (compared.first, compared.second)]
    result = compared.comparison
    for i, layer in enumerate(compared.layers):
        ends = [number(row[layer]) for row in rows]
        difference, interval = f"{result.difference[i]:+.3f}", f"{result.low[i]:+.3f}…{result.high[i]:+.3f}"
        p, drift = f"{result.p_adjusted[i]:.2g}", number(compared.drift.distance[i])
        shown.add_row(str(layer), *ends, difference, interval, p, drift)
    out = output()
    print_table(shown)
    for outcome in (compared.first, compared.second):
        copies = f", copies {copies_text(outcome.audit)}" if outcome.by_copies else ""
        rate = f"copy rate {rate_text(outcome.audit)} %"
        out.print(f"{safe(outcome.label)}: {verdict_text(outcome.verdict)}{copies}, {rate}")
    out.print(f"\n{safe(compared.sentence)}\n{safe(compared.drift_sentence)}")
    out.print(
        "\n[dim]Difference: between the two Â, with its interval and p over all layers. Drift: distance between the "
        "mean embeddings, in standard deviations of one image.[/]"
    )
