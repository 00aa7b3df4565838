"""The command `status`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.commands.common import Json, Store, store_of
from flows.cli.console import print_json
from flows.cli.screens.store import show_status


def status(
    store: Store = None,
    spec: Annotated[
        Path | None,
        typer.Option(metavar="SPEC", help="Or a spec: its store, with the releases not audited yet."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a store holds: audited releases with their verdicts, and unfinished work."""
    from flows.registry.store_status import store_status
    from flows.spec.spec import load_spec

    place = store_of(store, spec)
    held = store_status(place, load_spec(spec) if spec else None)
    if as_json:
        print_json(held._asdict())
    else:
        show_status(place, held)
