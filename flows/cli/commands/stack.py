"""`stack up`, `stack down`, `stack status`: object store, Ray and Prefect as processes of this machine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from flows.cli import console as screen
from flows.cli.commands.common import Json

if TYPE_CHECKING:
    from flows.local_stack.stack import ServiceState

app = typer.Typer(
    name="stack",
    no_args_is_help=True,
    help="Object store, Ray cluster, Prefect server and worker as processes of this machine, on loopback.",
)

Folder = Annotated[Path, typer.Option(help="pid files, logs, objects and database stand here")]
_FOLDER = Path("layerprint-stack")


@app.command()
def up(folder: Folder = _FOLDER, as_json: Json = False) -> None:
    """Start what does not run, wait until it answers, print the environment in which commands use it.

    Example: eval "$(layerprint stack up)"
    """
    from flows.local_stack.stack import Stack

    lines = Console(stderr=True, quiet=as_json, highlight=False)
    environment = Stack(folder).up(lambda text: lines.print(f"[green]✓[/] {escape(text)}", soft_wrap=True))
    if as_json:
        screen.print_json({"environment": environment})
        return
    sys.stdout.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())


@app.command()
def down(folder: Folder = _FOLDER, as_json: Json = False) -> None:
    """End what `stack up` started in this folder, and nothing else; objects and database stay."""
    from flows.local_stack.stack import Stack

    ended = Stack(folder).down()
    if as_json:
        screen.print_json({"ended": ended})
    else:
        Console().print(f"ended: {', '.join(ended)}" if ended else f"nothing of {folder} ran")


@app.command()
def status(folder: Folder = _FOLDER, as_json: Json = False) -> None:
    """What runs and whether it answers. Exit code 1 unless all of it does."""
    from flows.local_stack.stack import Stack

    found = Stack(folder).status()
    if as_json:
        screen.print_json([service._asdict() for service in found])
    else:
        _show(found)
    if not all(service.ready for service in found):
        raise typer.Exit(1)


def _show(found: list[ServiceState]) -> None:
    out = Console(highlight=False)
    for service in found:
        if service.pid is None:
            out.print(f"[yellow]down[/]     {service.name}")
        else:
            how = "[green]ready[/]   " if service.ready else "[bold red]no answer[/]"
            out.print(f"{how} {service.name:15} process {service.pid:<8} {escape(service.where)}", soft_wrap=True)
