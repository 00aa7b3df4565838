"""Commands for operations: `sweep`, `releases`, `serve`, `maintain`."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from flows.cli.commands.common import EXIT_GATE, Gate, Json, Store, StoreSpec, store_of, working
from flows.cli.console import messages, output, print_json, safe
from flows.cli.screens.store import show_registry, show_sweep

SpecUri = Annotated[str, typer.Argument(metavar="SPEC", help="The spec: a YAML file or its s3:// URI.")]
Settle = Annotated[
    float, typer.Option(min=0.0, metavar="SECONDS", help="Skip a release whose images change within this time.")
]


def sweep(
    spec: SpecUri,
    gate: Gate = False,
    settle: Settle = 10.0,
    as_json: Json = False,
) -> None:
    """Audit every release that is new, changed or stale. Current releases cost nothing.

    Two sweeps at the same time share the work. A failed release does not stop the others: if its own input is at fault,
    it is retried once it has changed, otherwise after 15 minutes, 30, 60 and so on up to a day. Write the release.yaml
    of a release last, so that a sweep finds it complete.
    """
    with working(as_json) as (_, runtime):
        from flows.sweep import SweepReport, sweep_releases

        # a flow that ends with a state returns its data
        report = cast(SweepReport, sweep_releases(runtime, spec, settle))
        forward = runtime.forward_images
    if as_json:
        print_json({**report.to_json(), "forward_images": forward})
    else:
        show_sweep(report, forward)
    if report.failures:
        raise typer.Exit(max(error.exit_code for error in report.failures.values()))
    if gate and not report.passed:
        raise typer.Exit(EXIT_GATE)


def releases(
    spec: Annotated[
        str | None, typer.Option(metavar="SPEC", help="A spec, or its s3:// URI: shows all of its releases.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(metavar="STORE", help="Or a store: shows the releases that it knows.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the state of every release, and when the next sweep starts.

    States: never audited, current, stale (encoder, reference, images, scoring or gate have changed since), flagged,
    invalid, failed (with the reason and the time of the next attempt), auditing now. Nothing is computed.
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
        print_json({"releases": [entry.to_json() for entry in entries], "next_sweep": coming})
        return
    show_registry(entries, f"{coming:%Y-%m-%d %H:%M:%S} UTC" if coming else "not scheduled")


def serve(
    spec: SpecUri,
    every: Annotated[str | None, typer.Option(metavar="1h", help="Time between sweeps: 90s, 15m, 1h, 1d.")] = None,
    cron: Annotated[
        str | None, typer.Option(metavar='"0 * * * *"', help="Or a cron schedule of five fields, in UTC.")
    ] = None,
    settle: Settle = 10.0,
) -> None:
    """Sweep on a schedule, in this process, until Ctrl-C.

    Uses the configured Prefect server (PREFECT_API_URL), else that of another `serve` or `stack` of yours, else starts
    its own and says where the key is that its UI asks for. An interrupted audit continues with the next sweep.
    """
    from flows.serve import schedule_of, serve_sweeps

    out = messages()
    serve_sweeps(spec, schedule_of(every, cron), settle, lambda text: out.print(safe(text), soft_wrap=True))


def maintain(
    store: Store = None,
    spec: StoreSpec = None,
    keep_days: Annotated[
        float, typer.Option(metavar="DAYS", min=1.0, help="Keep what was written or used within this time.")
    ] = 30.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Show what would be removed, and remove nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove data that nothing in the store refers to any more. Results and tagged versions are always kept.

    Removes embeddings that no audit, profile or reference needs, old versions of tables, files of workers that died,
    receipts of finished tables, and old claims and failures.
    """
    from flows.maintain import maintain as clean

    upkeep = clean(store_of(store, spec), keep_days, dry_run)
    if as_json:
        print_json(upkeep.to_json())
        return
    output().print(upkeep.sentence)
    for table in [*upkeep.tables, *upkeep.unfinished]:
        output().print(f"  {safe(table)}", soft_wrap=True)
