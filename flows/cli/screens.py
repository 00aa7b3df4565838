"""The results of each command as a person reads them in a terminal, 80 columns or less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.cli.console import explain
from flows.text import terminal_text

if TYPE_CHECKING:  # what is shown; importing it would load Ray and Prefect for --help
    from flows.attribute import AttributedImages
    from flows.audit import AuditReport
    from flows.compare import ReleaseComparison
    from flows.demo.run import DemoResult
    from flows.doctor.checks import Finding
    from flows.enrol import EnrolledRelease
    from flows.registry.store_status import StoreStatus
    from flows.results.audit_result import AuditResult
    from flows.selfcheck import SelfCheck
    from flows.stress import StressedAttribution
    from storage.errors import LayerprintError

VERDICT_STYLE = {"copying": "bold red", "invalid": "bold yellow", "inconclusive": "yellow", "not judged": "yellow"}
FINDING_STYLE = {"ok": "green", "warn": "yellow", "fail": "bold red"}
MOST_LEFT_OUT = 1000

MEANING = (
    "[dim]Copy rate: share of the images that lie closer to a training image than unseen real images come, beyond "
    "chance, with its 95 % interval, at the layer that shows most. Â: chance that a generated image lies farther from "
    "training images than an unseen real image does; 0.5 = like unseen images, below = closer to training, above = "
    "farther.[/]"
)


def show_report(report: AuditReport, forward: int, pictures: Sequence[str]) -> None:
    """What `layerprint audit` found."""
    out = _out()
    out.print()
    out.print(outcome_table(report.outcomes))
    if len(report.outcomes) == 1:
        out.print()
        out.print(layer_table(report.outcomes[0]))
        out.print()
        out.print(check_table(report.outcomes[0]))
    for outcome in report.outcomes:
        show_verdicts(out, outcome)
    for label, error in report.failures.items():
        out.print()
        show_failure(out, label, error)
    out.print(f"\n{MEANING}\n")
    out.print(forward_text(forward))
    out.print("pictures:", *pictures, sep="\n  ", soft_wrap=True)


def show_failure(out: Console, label: str, error: LayerprintError) -> None:
    """Why a release was not audited."""
    found = error.found if error.found.startswith(label) else f"{label}: {error.found}"
    explain(out, "not audited", found, error.remedy)


def show_verdicts(out: Console, outcome: AuditResult) -> None:
    """The two verdicts in words, and what keeps them from being valid."""
    audit = outcome.audit
    out.print(f"\n[bold]{safe(outcome.label)}[/] {verdict_text(outcome.verdict)}")
    if audit["invalid_reason"]:
        out.print(f"  [yellow]{safe(audit['invalid_reason'])}[/]")
    out.print(f"  {safe(audit['sentence'])}")
    out.print(f"  {safe(audit['fit_sentence'])}")


def check_table(outcome: AuditResult) -> Table:
    """What must hold for the audit to be valid."""
    table = _table("check", "", "found")
    for row in outcome.checks:
        mark = "[green]ok[/]" if row["passed"] else f"[yellow]{'note' if row['severity'] == 'note' else 'failed'}[/]"
        remedy = f"\n→ {safe(row['remedy'])}" if row["remedy"] and not row["passed"] else ""
        table.add_row(safe(row["name"]), mark, safe(row["sentence"]) + remedy)
    return table


def show_demo(result: DemoResult, forward: int) -> None:
    """What `layerprint demo` found, and what to try next."""
    out = _out()
    out.print()
    out.print(outcome_table(result.outcomes, result.attributed))
    out.print(f"\n{MEANING}\n")
    out.print(forward_text(forward))
    out.print("pictures:", *result.pictures, sep="\n  ", soft_wrap=True)
    out.print("\n[bold]Try next[/]")
    for line in result.next_commands:
        out.print(f"  {escape(line)}", soft_wrap=True)


def outcome_table(outcomes: Sequence[AuditResult], attributed: Sequence[str] | None = None) -> Table:
    """One row per release: verdict, copy rate with its interval, Â of the first and last informative layer.

    Args:
        outcomes: Audits.
        attributed: For each audit the release that a fresh batch was attributed to, if that was asked.
    """
    table = _table("release", "verdict", "copy rate %|", "Â first|", "Â last|")
    if attributed is not None:
        table.add_column("fresh batch → ", overflow="fold")
    for i, outcome in enumerate(outcomes):
        ends = [outcome.informative[at]["a_hat"] for at in (0, -1)] if outcome.informative else [None, None]
        cells = [safe(outcome.label), verdict_text(outcome.verdict), rate_text(outcome.audit), *map(_number, ends)]
        table.add_row(*cells, *([_attributed(outcome, attributed[i])] if attributed is not None else []))
    return table


def layer_table(outcome: AuditResult) -> Table:
    """One row per layer of one audit."""
    table = _table("layer", "Â|", "95 %|", "p|", "C_T|", "Z_S|", "copy rate %|", "near-dup.|", "covered|")
    for row in outcome.scores:
        if not row["informative"]:
            table.add_row(str(row["layer"]), "–", "no information", *["–"] * 6)
            continue
        interval = f"{row['a_low']:.2f}–{row['a_high']:.2f}"
        tail = "–" if row["copy_rate"] is None else f"{100 * row['copy_rate']:.1f}"
        near = "–" if row["near_duplicates"] is None else str(row["near_duplicates"])
        p = f"{row['p_adjusted']:.2g}"
        numbers = [_number(row["a_hat"]), interval, p, _number(row["c_t"]), _number(row["z_s"]), tail, near]
        table.add_row(str(row["layer"]), *numbers, f"{row['coverage']:.0%}")
    return table


def show_reference(facts: dict[str, Any]) -> None:
    """What `layerprint reference` built."""
    _out().print(
        f"reference [bold]{safe(facts['reference'])}[/]: {facts['train_images']:,} train and "
        f"{facts['held_out_images']:,} held-out images ({facts['contaminated']} more left out: they are in train), "
        f"{len(facts['layers'])} layers, {len(facts['rejects'])} unreadable\n{forward_text(facts['forward_images'])}"
    )
    for check in facts["checks"]:
        mark = "[green]ok[/]" if check["passed"] else "[yellow]failed[/]"
        _out().print(f"{mark} {safe(check['name'])}: {safe(check['sentence'])}")


def show_enrolled(found: Sequence[EnrolledRelease]) -> None:
    """What `layerprint enrol` stored."""
    table = _table("release", "run", "images|", "parts|", "layers|")
    for one in found:
        table.add_row(safe(one.release), safe(one.run), f"{one.images:,}", str(one.parts), str(one.layers))
    _out().print(table)


def show_attribution(found: AttributedImages, most: int = 10) -> None:
    """What `layerprint attribute` found: the answer, and the most probable makers."""
    answer, out = found.answer, _out()
    style = {"attributed": "bold green", "unknown": "bold yellow", "undecided": "bold"}[answer.verdict]
    out.print(f"[{style}]{safe(answer.sentence)}[/]")
    if found.enrolled_as:
        out.print(f"[yellow]{safe(', '.join(found.enrolled_as))} was enrolled with these very images.[/]")
    out.print()
    table = _table("enrolled release", "probability|", "curve alone|", "signature alone|", "p|")
    for one in answer.candidates[:most]:
        numbers = (one.posterior, one.curve_posterior, one.signature_posterior)
        table.add_row(safe(one.maker), *(_percent(number) for number in numbers), f"{one.p_value:.2g}")
    table.add_row("[dim]none of these[/]", _percent(answer.unknown), "", "", "")
    out.print(table)
    if len(answer.candidates) > most:
        out.print(f"[dim]and {len(answer.candidates) - most} less probable ones (--json shows all)[/]")
    out.print(f"\n{_simpler(found)}\n\n[dim]{_explained(found)}[/]")


def show_stress(found: StressedAttribution) -> None:
    """What became of the answer after each perturbation."""
    table = _table("images", "verdict", "most probable", "prob.|", "unknown|", "")
    answers = {"as they are": found.plain.answer} | {name: one.answer for name, one in found.perturbed.items()}
    for name, answer in answers.items():
        best = answer.candidates[0]
        mark = "" if name not in found.perturbed else "[green]same[/]" if found.same(name) else "[bold red]other[/]"
        numbers = (_percent(best.posterior), _percent(answer.unknown))
        table.add_row(name, answer.verdict, safe(best.maker), *numbers, mark)
    out = _out()
    out.print()
    out.print(table)
    out.print(f"\n{safe(found.sentence)}")


def _simpler(found: AttributedImages) -> str:
    """What the baselines say, in one line."""
    simpler = found.baselines
    rules = {
        "published rule": simpler.published_similarity,
        "one Fréchet distance": simpler.frechet,
        "nearest mean": simpler.mean_distance,
        f"per-image probe (layer {simpler.probe_layer})": simpler.probe_log_p,
    }
    said = [f"{name} {safe(max(scores, key=lambda one: scores[one]))}" for name, scores in rules.items() if scores]
    gone = f"; no probe: the embeddings of {len(simpler.probe_missing)} are gone" if simpler.probe_missing else ""
    return f"Simpler rules say: {', '.join(said)}{gone}."


def _explained(found: AttributedImages) -> str:
    answer = found.answer
    trials = (
        f"{found.trials_right} of {found.trials} sets of the enrolled releases were attributed rightly. "
        if found.trials
        else "No release has enough images to be cut into parts: nothing is known about how sure this is. "
    )
    enough = "no number of images is enough" if answer.needed is None else f"{answer.needed:,} images are enough"
    runs = "" if found.runs_compared else " Each release has one run: how far training runs differ is not known."
    return (
        f"{trials}p: share of them that lay as far from their own maker; tiny on every line = unknown. "
        f"To tell {safe(answer.candidates[0].maker)} from the others with 95 % probability {enough}.{runs}"
    )


def _percent(number: float) -> str:
    """A probability: never 0 or 100 % unless it is.

    >>> _percent(0.5), _percent(0.99996), _percent(1e-9), _percent(0.0)
    ('50.0 %', '> 99.9 %', '< 0.1 %', '0.0 %')
    """
    if 0 < number < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= number < 1 else f"{100 * number:.1f} %"


def show_selfcheck(found: SelfCheck) -> None:
    """What `layerprint selfcheck` found: the trials, and what releases of other sizes would show."""
    table = _table("made-up release", "images|", "called", "should be", "", "copy rate %|")
    for trial in found.trials:
        called = "copying" if trial.copying else "no copying"
        wanted = {True: "copying", False: "no copying", None: "either"}[trial.wanted]
        mark = "[green]ok[/]" if trial.passed else "[bold red]wrong[/]"
        table.add_row(trial.name, f"{trial.images:,}", called, wanted, mark, rate_text(asdict(trial)))
    out = _out()
    out.print(table)
    for trial in found.trials:
        ends = [trial.a_hats[min(trial.a_hats)], trial.a_hats[max(trial.a_hats)]] if trial.a_hats else [None, None]
        out.print(
            f"\n[bold]{trial.name}[/] Â first {_number(ends[0])}, last {_number(ends[1])}; {safe(trial.sentence)}"
        )
    power = _table("generated images|", "copy rate that would be called copying (80 % probability)|")
    for size, seen in found.detectable.items():
        power.add_row(f"{size:,}", "none" if seen is None else f"{100 * seen:.2g} %")
    out.print(f"\nWith all {found.held_out_images:,} held-out images and {found.layers} layers:")
    out.print(power)
    verdict = "[green]This set-up does what it should.[/]" if found.passed else "[bold red]This set-up misleads.[/]"
    out.print(f"\n{verdict}")


def show_comparison(found: ReleaseComparison) -> None:
    """What `layerprint compare` found."""
    first, second = safe(found.first.label), safe(found.second.label)
    table = _table("layer", f"Â {first}|", f"Â {second}|", "difference|", "95 %|", "p|", "apart|")
    rows = [{row["layer"]: row["a_hat"] for row in outcome.scores} for outcome in (found.first, found.second)]
    result = found.comparison
    for i, layer in enumerate(found.layers):
        interval = f"{result.low[i]:+.3f}…{result.high[i]:+.3f}"
        ends = [_number(row[layer]) for row in rows]
        table.add_row(
            str(layer),
            *ends,
            f"{result.difference[i]:+.3f}",
            interval,
            f"{result.p_adjusted[i]:.2g}",
            _number(found.drift.distance[i]),
        )
    out = _out()
    out.print(table)
    for outcome in (found.first, found.second):
        out.print(f"{safe(outcome.label)}: {verdict_text(outcome.verdict)}, copy rate {rate_text(outcome.audit)} %")
    out.print(f"\n{safe(found.sentence)}\n{safe(found.drift_sentence)}")
    out.print(
        "\n[dim]Difference: of Â, with its interval and p over all layers. Apart: distance of the mean embeddings in "
        "standard deviations of one image.[/]"
    )


def show_status(found: StoreStatus) -> None:
    """What `layerprint status` found."""
    table = _table("release", "verdict", "copy rate %|", "images|", "unreadable|", "audited (UTC)")
    for row in found.releases:
        name, when = safe(f"{row['release']}@{row['version']}"), row["created_at"].strftime("%Y-%m-%d %H:%M")
        numbers = [rate_text(row), f"{row['images']:,}", str(row["rejected"])]
        table.add_row(name, verdict_text(row["verdict"]), *numbers, when)
    out = _out()
    out.print(table if found.releases else "no finished audit in this store")
    for name in found.not_audited:
        out.print(f"[yellow]not audited[/] {safe(name)}")
    for name in found.unfinished:
        out.print(f"[yellow]begun, not finished[/] {safe(name)}; the next audit goes on from there")
    for name in found.left_out[:MOST_LEFT_OUT]:
        out.print(f"[yellow]left out[/] {safe(name)}: it killed the process that embedded it; see rejects in SQL")


def show_finding(finding: Finding) -> None:
    """One line of `layerprint doctor`, with its remedy."""
    out = _out()
    out.print(f"[{FINDING_STYLE[finding.status]}]{finding.status:4}[/] {safe(finding.name)}: {safe(finding.found)}")
    if finding.remedy:
        out.print(f"     [bold]→[/] {safe(finding.remedy)}")


def verdict_text(verdict: str) -> str:
    """A verdict in its colour."""
    return f"[{VERDICT_STYLE.get(verdict, 'green')}]{safe(verdict)}[/]"


def rate_text(audit: dict[str, Any]) -> str:
    """The copy rate in percent with its interval, for example ``5.2 (2.7–8.4)``.

    >>> rate_text({"copy_rate": 0.052, "copy_rate_low": 0.027, "copy_rate_high": 0.084})
    '5.2 (2.7–8.4)'
    """
    if audit["copy_rate"] is None:
        return "–"
    return f"{100 * audit['copy_rate']:.1f} ({100 * audit['copy_rate_low']:.1f}–{100 * audit['copy_rate_high']:.1f})"


def forward_text(forward: int) -> str:
    """How many forward passes the command cost."""
    if forward:
        return f"{forward:,} images went through the encoder."
    return "0 images went through the encoder: everything was found in the store."


def safe(text: str) -> str:
    """A stranger's text for the terminal: no control characters, no markup."""
    return escape(terminal_text(text))


def _attributed(outcome: AuditResult, name: str) -> str:
    right = name == outcome.label
    return f"[{'green' if right else 'yellow'}]{safe(name)}{'' if right else ' ✗'}[/]"


def _table(*names: str) -> Table:
    """A plain table; a name that ends with ``|`` is a column of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name.removesuffix("|"), justify="right" if name.endswith("|") else "left", overflow="fold")
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _out() -> Console:
    return Console(highlight=False)
