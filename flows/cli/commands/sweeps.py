"""Commands of the daily life: `sweep`, `releases`, `serve`, `maintain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from flows.cli import console as screen, screens
from flows.cli.commands.common import EXIT_GATE, Json, store_of, working
from flows.cli.screens_sweeps import show_registry, show_sweep

SpecUri = Annotated[str, typer.Argument(metavar="SPEC", help="the spec, a YAML file, or its s3:// URI")]
Settle = Annotated[
    float, typer.Option(min=0.0, metavar="SECONDS", help="a release that changes within so long is left alone")
]


def sweep(
    spec: SpecUri,
    gate: Annotated[
        bool, typer.Option("--gate", help="exit 3 unless every release is judged and free of copying")
    ] = False,
    settle: Settle = 10.0,
    as_json: Json = False,
) -> None:
    """Audit once every release that is new, changed or stale; releases that are current cost nothing.

    Two sweeps at the same time share the work. A release that fails does not stop the others: one whose own input is at
    fault is tried again when it has changed, any other after 15 minutes, 30, 60 and so on up to a day. Write the
    release.yaml of a release last: then it is whole when a sweep sees it.
    """
    with working(as_json) as (_, runtime):
        from flows.sweep import SweepReport, sweep_releases

        report = cast(SweepReport, sweep_releases(runtime, spec, settle))  # the data of the flow's final state
        forward = runtime.forward_images
    if as_json:
        screen.print_json({**report.to_json(), "forward_images": forward})
    else:
        show_sweep(report, forward)
    if report.failures:
        raise typer.Exit(max(error.exit_code for error in report.failures.values()))
    if gate and not report.passed:
        raise typer.Exit(EXIT_GATE)


def releases(
    spec: Annotated[
        str | None, typer.Option(help="the spec, a file or an s3:// URI: says too what is not audited")
    ] = None,
    store: Annotated[str | None, typer.Option(help="… or only a store: the releases that it knows")] = None,
    as_json: Json = False,
) -> None:
    """The registry: how every release stands, and when the next sweep comes.

    never audited · current · stale (encoder, reference, images, scoring or gate changed since) · flagged · invalid ·
    failed (why, and when it is tried again) · auditing now. Nothing is computed.
    """
    from flows.orchestration.schedules import sweeps
    from flows.registry.registry import registry_of, registry_of_store
    from flows.runtime.runtime import running
    from flows.spec.live_spec import load_live_spec
    from storage.objects.open import open_store

    if spec:
        with running() as runtime:
            entries = registry_of(runtime, load_live_spec(spec))
    else:
        entries = registry_of_store(open_store(store_of(store, None)))
    coming = sweeps(spec).coming if spec else None
    if as_json:
        screen.print_json({"releases": [entry.to_json() for entry in entries], "next_sweep": coming})
        return
    show_registry(entries, f"{coming:%Y-%m-%d %H:%M:%S} UTC" if coming else "not scheduled")


def serve(
    spec: SpecUri,
    every: Annotated[str | None, typer.Option(metavar="1h", help="time between sweeps: 90s, 15m, 1h, 1d")] = None,
    cron: Annotated[str | None, typer.Option(metavar='"0 * * * *"', help="… or five fields of cron, in UTC")] = None,
    settle: Settle = 10.0,
) -> None:
    """Sweep by a schedule, in this process and on this machine, until Ctrl-C.

    Uses the Prefect server that is configured (PREFECT_API_URL), or one that runs on this machine, or starts one that
    ends with it. An audit that is interrupted goes on with the next sweep.
    """
    from flows.serve import schedule_of, serve_sweeps

    serve_sweeps(spec, schedule_of(every, cron), settle, Console(stderr=True, highlight=False).print)


def maintain(
    store: Annotated[str | None, typer.Option(help="the store to clean")] = None,
    spec: Annotated[Path | None, typer.Option(help="… or the spec whose store to clean")] = None,
    keep_days: Annotated[float, typer.Option(min=1.0, help="what was written or used since stays")] = 30.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be removed")] = False,
    as_json: Json = False,
) -> None:
    """Remove from a store what nothing refers to any more; results, and tagged versions, always stay.

    Embeddings of sets that no audit, profile or reference needs, old versions of tables, files of workers that died,
    receipts of finished tables, old claims and failures.
    """
    from flows.maintain import maintain as upkeep

    done = upkeep(store_of(store, spec), keep_days, dry_run)
    if as_json:
        screen.print_json(done.to_json())
        return
    Console(highlight=False).print(done.sentence)
    for table in [*done.tables, *done.unfinished]:
        Console(highlight=False).print(f"  {screens.safe(table)}")
