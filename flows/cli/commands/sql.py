"""The command `sql`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.commands.common import EXIT_BAD_INPUT, Json, Store, StoreSpec, store_of
from flows.cli.console import output, print_json, safe
from flows.cli.sql.output import RowFormat, format_of, write_rows
from storage.errors import InputError


def sql(
    statement: Annotated[
        str | None, typer.Argument(metavar="SELECT", help="One query. Default: a shell, or the queries on stdin.")
    ] = None,
    store: Store = None,
    spec: StoreSpec = None,
    form: Annotated[
        RowFormat | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="table, csv, json or parquet. Default: the ending of --out, else table.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the rows of one query to this file.")] = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE.duckdb", help="Write a database with the views, for BI tools, and exit."),
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.001, help="Stop a query after this time.")] = 60.0,
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory limit of a query, such as 4GB or 50%.")] = "50%",
    as_json: Json = False,
) -> None:
    """Query the results in SQL (DuckDB): one query, an interactive shell, or a file of queries.

    Tables: audits, scores, checks, profiles, evidence, rejects, attributions. Each has a view `latest_…` with the
    latest audit of every release, version and run. The view `releases` has one row per release. See docs/sql.md.

    For example:

        layerprint sql --store ./audits    # an interactive shell
        layerprint sql --store ./audits < questions.sql
        layerprint sql --store ./audits --export audits.duckdb
        layerprint sql --spec spec.yaml --out releases.csv "FROM releases"
        layerprint sql --spec spec.yaml "FROM latest_scores ORDER BY a_hat LIMIT 5"

    Queries are read-only and see nothing but the results. In CSV, text that a spreadsheet would run as a formula starts
    with an apostrophe; JSON and Parquet are exact.
    """
    chosen = RowFormat.JSON if as_json else format_of(form, out)
    if export is not None:
        _export(store_of(store, spec), export, as_json)
        return

    from storage.results.sql_process import SqlProcess

    with SqlProcess(seconds=timeout, memory_limit=memory) as session:  # before what is imported here
        session.open(store_of(store, spec))
        if statement is not None:
            write_rows(session.run(statement), chosen, out)
            return
        if out is not None or chosen is RowFormat.PARQUET:
            raise InputError("--out and --format parquet need exactly one query", "add the query to the command")

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

    exported = export_views(store_uri, path)
    if as_json:
        print_json({"file": str(exported.path), "live": exported.live, "empty": exported.empty})
        return
    what = "views of the store's files, including later ones" if exported.live else "a copy of the current rows"
    out = output()
    out.print(f"wrote {safe(str(path))}: {what}", soft_wrap=True)
    if exported.live and exported.empty:
        out.print(f"empty until the next export: {', '.join(exported.empty)}", soft_wrap=True)
