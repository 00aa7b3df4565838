"""Commands for a new machine: `doctor` checks it, `demo` shows what layerprint does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.commands.common import Json, working
from flows.cli.console import print_json
from flows.cli.screens.audits import show_demo
from flows.cli.screens.machine import show_finding

_FOLDER = Path("layerprint-demo")


def doctor(
    store: Annotated[
        str | None, typer.Option(metavar="STORE", help="A store to test; the test object is removed.")
    ] = None,
    images: Annotated[
        list[str] | None, typer.Option(metavar="IMAGES", help="An image set to list. May be repeated.")
    ] = None,
    spec: Annotated[
        Path | None, typer.Option(metavar="SPEC", help="Test the store and image sets of this spec.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check this machine: versions, device, Ray, disk, memory and object storage, with a remedy for each problem."""
    from flows.doctor.checks import exit_code, run_checks
    from flows.spec.spec import load_spec

    sets = list(images or [])
    if spec:
        loaded = load_spec(spec)
        store = store or loaded.store
        sets += [loaded.reference.train, loaded.reference.held_out, *(release.images for release in loaded.releases)]
    findings = []
    for finding in run_checks(store, sets):
        findings.append(finding)
        if not as_json:
            show_finding(finding)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    if code := exit_code(findings):
        raise typer.Exit(code)


def demo(
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to keep the images and the store.")] = _FOLDER,
    local: Annotated[
        bool, typer.Option("--local", metavar="", help="Use folders instead of the embedded S3 server.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed of images, generators and encoder.")] = 0,
    as_json: Json = False,
) -> None:
    """Audit generators fitted on real handwritten digits, to see layerprint work from end to end.

    Takes about three minutes. A second run finds everything in its store and runs no forward pass.
    """
    with working(as_json) as (board, runtime):
        from flows.demo.run import run_demo

        result = run_demo(runtime, folder.resolve(), local=local, seed=seed, say=board.say)
        forward = runtime.forward_images
    if as_json:
        print_json({**result.to_json(), "forward_images": forward})
    else:
        show_demo(result, forward)
