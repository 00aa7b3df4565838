"""What the commands share: arguments, progress, and how they find their spec and store."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.progress import ProgressBoard
from storage.errors import InputError

if TYPE_CHECKING:
    from flows.runtime.runtime import Runtime
    from flows.spec.spec import AuditSpec

EXIT_BAD_INPUT = 2
EXIT_GATE = 3

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec: a YAML file.")]
Harmonise = Annotated[
    str | None,
    typer.Option("--harmonise", metavar="jpeg:QUALITY", help="Re-encode the images of all sets alike first."),
]
Gate = Annotated[
    bool,
    typer.Option("--gate", metavar="", help="Exit with code 3 unless every release is judged and free of copying."),
]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON document on stdout, nothing else.")]
Store = Annotated[str | None, typer.Option(metavar="STORE", help="The store: a folder or an s3:// URI.")]
StoreSpec = Annotated[Path | None, typer.Option(metavar="SPEC", help="Or a spec: its store is used.")]


@contextmanager
def working(as_json: bool) -> Iterator[tuple[ProgressBoard, Runtime]]:
    """Provide progress on stderr, a Prefect server, and a runtime that ends with the command.

    Import the flows inside the block: the server starts meanwhile. Inside it, what libraries print on stdout (Ray, when
    a process dies) goes to stderr with ``--verbose`` and is dropped without, since stdout is for the command's result.
    """
    from flows.runtime.libraries import prefect_home

    with ExitStack() as stack:
        stack.enter_context(prefect_home())

        from flows.orchestration.local_server import prefect_server
        from flows.orchestration.settings import demand_configured_server

        demand_configured_server()
        stack.enter_context(prefect_server(meanwhile=_import_flows))
        from flows.runtime.runtime import running

        board = stack.enter_context(ProgressBoard(quiet=as_json))
        verbose = os.environ.get("LAYERPRINT_VERBOSE")
        stack.enter_context(redirect_stdout(sys.stderr if verbose else stack.enter_context(open(os.devnull, "w"))))
        yield board, stack.enter_context(running(board.report))


def _import_flows() -> None:
    import flows.audit  # noqa: F401 (takes seconds, as the server's start does)


def load(path: Path, harmonise: str | None) -> AuditSpec:
    """The spec, with the changes that the command line makes to it."""
    from flows.spec.spec import load_spec

    return load_spec(path, harmonise)


def store_of(store: str | None, spec: Path | None) -> str:
    """The URI of the store that is given, else of the spec's store, which may not have been made yet.

    Raises:
        InputError: neither is given, or there is no store where one is given.
    """
    if store:
        from flows.spec.spec import absolute_uri
        from storage.layout import is_store
        from storage.objects.open import open_store

        uri = str(absolute_uri(store, Path.cwd()))
        if not is_store(open_store(uri)):
            raise InputError(f"{uri}: there is no store here", "check the place; layerprint audit SPEC makes a store")
        return uri
    if spec:
        from flows.spec.spec import load_spec

        return load_spec(spec).store
    raise InputError("no store is given", "add --store FOLDER_OR_S3_URI, or --spec SPEC")
