"""Commands that audit: `init`, `audit`, `reference`, `selfcheck`, `compare`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.cli import console as screen, screens
from flows.cli.commands.common import EXIT_GATE, Harmonise, Json, Spec, load, working
from storage.errors import InputError


def init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="the file to write")] = Path("spec.yaml"),
    as_json: Json = False,
) -> None:
    """Write an example spec, with every field explained, to start from."""
    from flows.spec.example import EXAMPLE

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", "give the path of a new file") from error
    if as_json:
        screen.print_json({"spec": str(path)})
    else:
        Console().print(f"wrote {path}: set reference, releases and store, then run layerprint audit {path}")


def audit(
    spec: Spec,
    release: Annotated[str | None, typer.Option(help="only this release: NAME or NAME@VERSION")] = None,
    gate: Annotated[
        bool, typer.Option("--gate", help="exit 3 unless every release is judged and free of copying")
    ] = False,
    harmonise: Harmonise = None,
    as_json: Json = False,
) -> None:
    """Audit the releases of a spec: embed, score every layer, write Parquet results and pictures.

    What is already in the store is not computed again; an interrupted audit goes on where it stopped.
    """
    loaded = load(spec, harmonise)
    chosen = [loaded.release(release)] if release else loaded.releases

    with working(as_json) as (_, runtime):
        from flows.audit import audit as audit_flow  # takes seconds: after the spec is known to be good
        from flows.report.figures.gallery import save_curves, save_pairs
        from flows.results.audit_result import NO_COPYING
        from storage.objects.open import open_store

        report = audit_flow(runtime, loaded, chosen)
        store = open_store(loaded.store)
        pictures = [save_curves(store, report.outcomes)]
        pictures += [save_pairs(store, loaded, outcome) for outcome in report.outcomes]
        forward = runtime.forward_images
    if as_json:
        screen.print_json(
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
        screens.show_report(report, forward, pictures)
    if report.failures:
        raise typer.Exit(max(error.exit_code for error in report.failures.values()))
    if gate and any(outcome.verdict != NO_COPYING for outcome in report.outcomes):
        raise typer.Exit(EXIT_GATE)


def reference(spec: Spec, harmonise: Harmonise = None, as_json: Json = False) -> None:
    """Build the reference of a spec: embed train and held-out images, fit partitions, build the indexes.

    An audit does this by itself; run it before, to have the long part done.
    """
    loaded = load(spec, harmonise)

    with working(as_json) as (_, runtime):
        from flows.audit import build_reference

        built = build_reference(runtime, loaded)
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
        screen.print_json(facts)
        return
    screens.show_reference(facts)


def selfcheck(spec: Spec, harmonise: Harmonise = None, as_json: Json = False) -> None:
    """What can this reference and encoder detect? Placebos and planted copies, made of your own images.

    Half of the held-out images plays the release: as it is, re-encoded, and with 1 % and 5 % training images planted.
    Exit code 3 when a placebo is called copying or planted copies that should be seen are not.
    """
    loaded = load(spec, harmonise)

    with working(as_json) as (_, runtime):
        from flows.selfcheck import selfcheck as selfcheck_flow

        found = selfcheck_flow(runtime, loaded)
    if as_json:
        screen.print_json({**asdict(found), "passed": found.passed})
    else:
        screens.show_selfcheck(found)
    if not found.passed:
        raise typer.Exit(EXIT_GATE)


def compare(
    spec: Spec,
    first: Annotated[str, typer.Argument(metavar="A", help="a release: NAME or NAME@VERSION")],
    second: Annotated[str, typer.Argument(metavar="B", help="another one")],
    harmonise: Harmonise = None,
    as_json: Json = False,
) -> None:
    """Does one release lie closer to the training images than another? Paired on the same held-out images."""
    loaded = load(spec, harmonise)
    releases = loaded.release(first), loaded.release(second)

    with working(as_json) as (_, runtime):
        from flows.compare import compare as compare_flow

        found = compare_flow(runtime, loaded, *releases)
    if as_json:
        screen.print_json(found.to_json())
    else:
        screens.show_comparison(found)
