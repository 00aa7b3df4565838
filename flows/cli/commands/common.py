"""What the commands share: their arguments, progress on the screen, the spec and the store they name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.console import ProgressBoard
from storage.errors import InputError

if TYPE_CHECKING:
    from flows.runtime.runtime import Runtime
    from flows.spec.spec import AuditSpec

EXIT_BAD_INPUT = 2
EXIT_GATE = 3

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="the spec, a YAML file")]
Harmonise = Annotated[
    str | None,
    typer.Option("--harmonise", metavar="jpeg:QUALITY", help="re-encode the images of all sets alike before anything"),
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout, nothing else")]


@contextmanager
def working(as_json: bool) -> Iterator[tuple[ProgressBoard, Runtime]]:
    """Progress on the screen, a Prefect server, and a runtime that ends with the command.

    Import the flows within its block: they are loaded while the server starts.

    What libraries print on stdout in the meantime (Ray, when a process dies) goes to stderr with ``--verbose``, else
    nowhere: stdout is for the command's result.
    """
    from flows.orchestration.local_server import prefect_server

    with ExitStack() as stack:
        stack.enter_context(prefect_server(meanwhile=_import_flows))
        from flows.runtime.runtime import running

        board = stack.enter_context(ProgressBoard(quiet=as_json))
        verbose = os.environ.get("LAYERPRINT_VERBOSE")
        stack.enter_context(redirect_stdout(sys.stderr if verbose else stack.enter_context(open(os.devnull, "w"))))
        yield board, stack.enter_context(running(board.report))


def _import_flows() -> None:
    import flows.audit  # noqa: F401 (takes seconds, as the server's start does)


def load(path: Path, harmonise: str | None) -> AuditSpec:
    """The spec, with what the command line changes in it."""
    from flows.spec.spec import load_spec

    return load_spec(path, harmonise)


def store_of(store: str | None, spec: Path | None) -> str:
    """The store that a command is told, or that its spec names.

    Raises:
        InputError: neither is given.
    """
    if store:
        from flows.spec.spec import absolute_uri

        return str(absolute_uri(store, Path.cwd()))
    if spec:
        from flows.spec.spec import load_spec

        return load_spec(spec).store
    raise InputError("which store?", "give --store FOLDER_OR_S3_URI, or --spec SPEC")
