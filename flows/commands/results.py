"""Commands that read what a store holds: `sql`, `status`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import console as screen
from flows import screens
from flows.commands.common import Json, store_of


def sql(
    statement: Annotated[str, typer.Argument(metavar="SELECT", help="one reading statement")],
    store: Annotated[str | None, typer.Option(help="the store to ask")] = None,
    spec: Annotated[Path | None, typer.Option(help="… or the spec whose store to ask")] = None,
    as_json: Json = False,
) -> None:
    """Ask the results in SQL (DuckDB): audits, scores, checks, profiles, evidence, rejects, releases.

    Example: layerprint sql --store ./audits "SELECT release, layer, a_hat FROM scores ORDER BY a_hat LIMIT 5"
    """
    from storage.sql import run_sql

    found = run_sql(store_of(store, spec), statement)
    if as_json:
        screen.print_json(found.to_pylist())
        return
    screens.show_rows(found)


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
