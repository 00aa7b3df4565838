"""Commands about this machine: `doctor` checks it, `demo` shows layerprint on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli import console as screen, screens
from flows.cli.commands.common import Json, working


def doctor(
    store: Annotated[str | None, typer.Option(help="a store to test: written to, read, cleaned up")] = None,
    images: Annotated[list[str] | None, typer.Option(help="an image set to list; may be repeated")] = None,
    spec: Annotated[Path | None, typer.Option(help="take store and image sets from this spec")] = None,
    as_json: Json = False,
) -> None:
    """Check this machine: versions, device, Ray, disk, memory, object storage; says what is wrong and what to do."""
    from flows.doctor.checks import exit_code, run_checks
    from flows.spec.spec import load_spec

    sets = list(images or [])
    if spec:
        loaded = load_spec(spec)
        store = store or loaded.store
        sets += [
            loaded.reference.train,
            loaded.reference.held_out,
            *(release.images for release in loaded.releases),
        ]
    findings = []
    for finding in run_checks(store, sets):
        findings.append(finding)
        if not as_json:
            screens.show_finding(finding)
    if as_json:
        screen.print_json([finding._asdict() for finding in findings])
    if code := exit_code(findings):
        raise typer.Exit(code)


def demo(
    folder: Annotated[Path, typer.Option(help="where the demo keeps its images and its store")] = Path(
        "layerprint-demo"
    ),
    local: Annotated[bool, typer.Option("--local", help="folders instead of the embedded S3 server")] = False,
    seed: Annotated[int, typer.Option(help="another seed gives another demo")] = 0,
    as_json: Json = False,
) -> None:
    """See it work: real handwritten digits, generators fitted on them, audited through the whole real path.

    Takes about two minutes. A second run finds everything in its store and runs no forward pass.
    """
    with working(as_json) as (board, runtime):
        from flows.demo.run import run_demo

        result = run_demo(runtime, folder.resolve(), local=local, seed=seed, say=board.say)
        forward = runtime.forward_images
    if as_json:
        screen.print_json({**result.to_json(), "forward_images": forward})
        return
    screens.show_demo(result, forward)
