"""The command `status`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli import console as screen, screens
from flows.cli.commands.common import Json, store_of


def status(
    store: Annotated[str | None, typer.Option(help="the store to look at")] = None,
    spec: Annotated[Path | None, typer.Option(help="… or the spec: says too what is not audited yet")] = None,
    as_json: Json = False,
) -> None:
    """What a store holds: audited releases, their verdicts, and what was begun but not finished."""
    from flows.registry.store_status import store_status
    from flows.spec.spec import load_spec

    loaded = load_spec(spec) if spec else None
    found = store_status(store_of(store, spec), loaded)
    if as_json:
        screen.print_json(found._asdict())
        return
    screens.show_status(found)
