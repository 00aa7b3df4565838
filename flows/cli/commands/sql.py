"""The command `sql`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli import console as screen
from flows.cli.commands.common import EXIT_BAD_INPUT, Json, store_of
from flows.cli.sql.output import Format, format_of, write_rows
from storage.errors import InputError


def sql(
    statement: Annotated[
        str | None, typer.Argument(metavar="[SELECT]", help="one reading statement; none: a shell, or those of stdin")
    ] = None,
    store: Annotated[str | None, typer.Option(help="the store to ask: a folder or s3:// URI")] = None,
    spec: Annotated[Path | None, typer.Option(help="… or the spec whose store to ask")] = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="table by default, or what --out ends with", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="write the rows there (one statement)")] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE.duckdb", help="write the views as a file for BI tools, and end")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="seconds after which a statement is stopped")] = 60.0,
    memory: Annotated[str, typer.Option(help="what a statement may use, such as 4GB or 50%")] = "50%",
    as_json: Json = False,
) -> None:
    """Ask the results in SQL (DuckDB): one statement, a shell, or a file of statements.

    Tables: audits, scores, checks, profiles, evidence, rejects, attributions; each as `latest_…` too, which holds the
    latest audit of every release, version and run; and releases, one line each. docs/sql.md answers many questions.

    \b
    layerprint sql --store ./audits "SELECT release, layer, a_hat FROM latest_scores ORDER BY a_hat LIMIT 5"
    layerprint sql --store ./audits                        (a shell with completion and history)
    layerprint sql --store ./audits < questions.sql
    layerprint sql --store s3://bucket/audits --out releases.csv "FROM releases"
    layerprint sql --store ./audits --export audits.duckdb

    Statements can only read, and only the results. In CSV a text that a spreadsheet would run as a formula begins
    with an apostrophe; JSON and Parquet are exact.
    """  # noqa: D301 (typer's mark for lines that are not joined)
    place = store_of(store, spec)
    chosen = Format.JSON if as_json else format_of(form, out)
    if export is not None:
        _export(place, export, as_json)
        return

    from storage.results.sql import SqlSession

    with SqlSession(place, seconds=timeout, memory_limit=memory) as session:
        if statement is not None:
            write_rows(session.run(statement), chosen, out)
            return
        if out is not None or chosen is Format.PARQUET:
            raise InputError("--out and Parquet take one statement", "give the statement")

        from flows.cli.sql.shell import SqlShell

        shell = SqlShell(session, chosen)
        if sys.stdin.isatty():
            shell.interact()
            return
        shell.script(sys.stdin.read())
        if shell.failed:
            raise typer.Exit(EXIT_BAD_INPUT)


def _export(store_uri: str, path: Path, as_json: bool) -> None:
    from storage.results.export import export_views

    done = export_views(store_uri, path)
    if as_json:
        screen.print_json({"file": str(done.path), "live": done.live, "empty": done.empty})
        return
    what = "views that read the store's files, later ones too" if done.live else "a copy of the rows as they are now"
    sys.stdout.write(f"wrote {path}: {what}\n")
    if done.live and done.empty:
        sys.stdout.write(f"empty until they are exported again: {', '.join(done.empty)}\n")
