"""The command `status`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import console as screen
from flows import screens
from flows.commands.common import Json, store_of


def status(
    store: Annotated[str | None, typer.Option(help="the store to look at")] = None,
    spec: Annotated[Path | None, typer.Option(help="… or the spec: says too what is not audited yet")] = None,
    as_json: Json = False,
) -> None:
    """What a store holds: audited releases, their verdicts, and what was begun but not finished."""
    from flows.spec import load_spec
    from flows.status import store_status

    loaded = load_spec(spec) if spec else None
    found = store_status(store_of(store, spec), loaded)
    if as_json:
        screen.print_json(found._asdict())
        return
    screens.show_status(found)
