"""Commands that audit: `init`, `audit`, `reference`, `selfcheck`, `compare`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli.commands.common import EXIT_GATE, Gate, Harmonise, Json, Spec, load, working
from flows.cli.console import output, print_json, safe
from flows.cli.screens.audits import show_reference, show_report
from flows.cli.screens.comparisons import show_comparison, show_selfcheck
from flows.cli.screens.kinds import show_kinds
from storage.errors import InputError


def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The file to write.")] = Path("spec.yaml"),
    as_json: Json = False,
) -> None:
    """Write an example spec that explains every field."""
    from flows.spec.example import EXAMPLE

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", "use the path of a new file") from error
    if as_json:
        print_json({"spec": str(path)})
        return
    out = output()
    out.print(f"Wrote {safe(str(path))}. Set its store, reference and releases, then run:", soft_wrap=True)
    out.print(f"  layerprint audit {safe(str(path))}", soft_wrap=True)


def audit(
    spec: Spec,
    release: Annotated[str | None, typer.Option(metavar="NAME[@VERSION]", help="Audit this release only.")] = None,
    gate: Gate = False,
    harmonise: Harmonise = None,
    as_json: Json = False,
) -> None:
    """Audit the releases of a spec: embed images, score every layer, write Parquet results and pictures.

    Nothing that is already in the store is computed again; an interrupted audit continues where it stopped.
    """
    loaded = load(spec, harmonise)
    chosen = [loaded.release(release)] if release else loaded.releases

    with working(as_json) as (_, runtime):
        from flows.audit import audit as audit_flow  # takes seconds, so only once the spec is valid
        from flows.report.make import save_pictures
        from flows.results.audit_result import NO_COPYING

        report = audit_flow(runtime, loaded, chosen)
        pictures = save_pictures(loaded, chosen, report.outcomes)
        forward = runtime.forward_images
    if as_json:
        print_json(
            {
                "audits": [outcome.to_json() for outcome in report.outcomes],
                "failures": [
                    {"release": label, "error": error.found, "remedy": error.remedy}
                    for label, error in report.failures.items()
                ],
                "forward_images": forward,
                "pictures": pictures,
            }
        )
    else:
        show_report(report, forward, pictures)
    if report.failures:
        raise typer.Exit(max(error.exit_code for error in report.failures.values()))
    if gate and any(outcome.verdict != NO_COPYING for outcome in report.outcomes):
        raise typer.Exit(EXIT_GATE)


def reference(spec: Spec, harmonise: Harmonise = None, as_json: Json = False) -> None:
    """Build the reference of a spec: embed training and held-out images, fit partitions, build indexes.

    An audit does this by itself. Build the reference beforehand to get the long part done.
    """
    loaded = load(spec, harmonise)

    with working(as_json) as (_, runtime):
        from flows.audit import prepare_reference

        built = prepare_reference(runtime, loaded)
        forward = runtime.forward_images
    facts = {
        "reference": loaded.reference.name,
        "reference_digest": built.digest,
        "encoder_digest": built.facts.digest,
        "layers": built.facts.names,
        "train_images": built.tables.train.rows,
        "held_out_images": built.tables.held_out_images,
        "contaminated": built.tables.contaminated_images,
        "rejects": [*built.tables.train.rejects, *built.tables.held_out.rejects],
        "checks": [asdict(check) for check in built.checks],
        "forward_images": forward,
    }
    if as_json:
        print_json(facts)
    else:
        show_reference(facts)


def selfcheck(
    spec: Spec,
    kinds: Annotated[
        Literal["usual", "all"], typer.Option(help="Kinds of copies: the usual ones, or all 25 of the published list.")
    ] = "usual",
    perturb: Annotated[
        list[str] | None,
        typer.Option(metavar="CHANGE", help="One kind more, such as 'crop 50-60' or 'mirrored + jpeg 40'; repeatable."),
    ] = None,
    copies: Annotated[int, typer.Option(min=1, metavar="N", help="Copies of each kind.")] = 100,
    harmonise: Harmonise = None,
    as_json: Json = False,
) -> None:
    """Test what this reference and encoder can detect, on placebos and planted copies of your own images.

    Half of the held-out images acts as the release: as it is, changed as honest images may be, and with planted
    copies of training images, kind by kind. With `copies: false` only re-encoded copies are planted. Exits with code 3
    if a placebo is called copying, or if planted copies that should be detected are not.
    """
    loaded = load(spec, harmonise)
    if perturb and loaded.copy_settings is None:
        raise InputError("--perturb plants copies for the copy score, which this spec turns off", "remove --perturb")

    with working(as_json) as (_, runtime):
        from actors.encoder.alterations import ALL_KINDS, USUAL_KINDS
        from flows.selfcheck.by_layers import SelfCheck
        from flows.selfcheck.flow import selfcheck as selfcheck_flow

        chosen = USUAL_KINDS if kinds == "usual" else tuple(ALL_KINDS)
        checked = selfcheck_flow(runtime, loaded, (*chosen, *(perturb or ())), copies)
    if as_json:
        print_json(checked.to_json())
    elif isinstance(checked, SelfCheck):
        show_selfcheck(checked)
    else:
        show_kinds(checked)
    if not checked.passed:
        raise typer.Exit(EXIT_GATE)


def compare(
    spec: Spec,
    first: Annotated[str, typer.Argument(metavar="A", help="A release: NAME or NAME@VERSION.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The release to compare it with.")],
    harmonise: Harmonise = None,
    as_json: Json = False,
) -> None:
    """Test whether one release is closer to the training images than another, on the same held-out images."""
    loaded = load(spec, harmonise)
    releases = loaded.release(first), loaded.release(second)

    with working(as_json) as (_, runtime):
        from flows.compare import compare as compare_flow

        compared = compare_flow(runtime, loaded, *releases)
    if as_json:
        print_json(compared.to_json())
    else:
        show_comparison(compared)
