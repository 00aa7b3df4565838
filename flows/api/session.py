"""What a call from Python has around it: quiet libraries, a Prefect server, progress on stderr, a runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flows.runtime.libraries import quiet_libraries

if TYPE_CHECKING:
    from flows.runtime.runtime import Runtime


@contextmanager
def session(quiet: bool) -> Iterator[Runtime]:
    """A runtime that ends with this block; the Prefect server stays for the next one.

    Args:
        quiet: Show no progress.
    """
    quiet_libraries()
    from flows.cli.progress import ProgressBoard
    from flows.orchestration.local_server import process_server

    with process_server(_import_flows):
        from flows.runtime.runtime import running

        with ProgressBoard(quiet) as board, running(board.report) as runtime:
            yield runtime


def _import_flows() -> None:
    import flows.audit  # noqa: F401 (takes seconds, as the server's start does)
