"""`stack up`, `stack down`, `stack status`: object store, Ray and Prefect as local processes."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.commands.common import Json
from flows.cli.console import messages, output, print_json, safe
from flows.cli.screens.machine import show_services

app = typer.Typer(
    name="stack",
    no_args_is_help=True,
    help="Run an object store, a Ray cluster, a Prefect server and a worker on this machine, on loopback.",
)

Folder = Annotated[Path, typer.Option(metavar="FOLDER", help="Holds the pid files, logs, objects and database.")]
_FOLDER = Path("layerprint-stack")


@app.command()
def up(folder: Folder = _FOLDER, as_json: Json = False) -> None:
    """Start the services that are not running, wait for them, and print the environment variables to use them.

    Example: `eval "$(layerprint stack up)"`
    """
    from flows.local_stack.stack import Stack

    lines = messages(as_json)
    environment = Stack(folder).up(lambda text: lines.print(f"[green]✓[/] {safe(text)}", soft_wrap=True))
    if as_json:
        print_json({"environment": environment})
        return
    sys.stdout.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())


@app.command()
def down(folder: Folder = _FOLDER, as_json: Json = False) -> None:
    """Stop the services that `stack up` started in this folder. Objects and database are kept."""
    from flows.local_stack.stack import Stack

    ended = Stack(folder).down()
    if as_json:
        print_json({"ended": ended})
    else:
        text = f"stopped: {', '.join(ended)}" if ended else f"no service of {folder} was running"
        output().print(safe(text), soft_wrap=True)


@app.command()
def status(folder: Folder = _FOLDER, as_json: Json = False) -> None:
    """Show which services run and answer. Exits with code 1 unless all do."""
    from flows.local_stack.stack import Stack

    services = Stack(folder).status()
    if as_json:
        print_json([service._asdict() for service in services])
    else:
        show_services(services)
    if not all(service.ready for service in services):
        raise typer.Exit(1)
