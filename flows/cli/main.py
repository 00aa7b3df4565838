"""The command line.

Exit codes: 0 passed · 1 unexpected error · 2 bad input or storage · 3 gate failed · 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

import typer
from rich.console import Console

from flows.cli.commands import attribution, audits, machine, report, results, sql, stack, sweeps
from flows.cli.console import print_error
from flows.runtime.libraries import quiet_libraries
from storage.errors import LayerprintError
from storage.objects.private import SHARED, private_files

EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="layerprint",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Audit releases of image-generation models: does a release copy its training images, at which level, and "
    "which known release made a set of images?\n\n"
    "Start with `layerprint demo`; then write a spec (`layerprint init`) and run `layerprint audit SPEC`.\n\n"
    "Exit codes: 0 passed · 1 unexpected error · 2 bad input or storage · 3 gate failed · 130 interrupted.",
)


def _show_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"layerprint {version('layerprint')}\n")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", metavar="", help="Show logs, and tracebacks of errors.")
    ] = False,
    share: Annotated[
        bool,
        typer.Option(
            "--shared",
            metavar="",
            envvar=SHARED,
            help="Let the umask say who may read new stores, reports and logs; else only you may.",
        ),
    ] = False,
    show_version: Annotated[
        bool,
        typer.Option("--version", metavar="", help="Show the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    if verbose:
        os.environ["LAYERPRINT_VERBOSE"] = "1"
    os.environ[SHARED] = "1" if share else "0"
    context.with_resource(private_files())
    quiet_libraries(verbose)


_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Start": {"demo": machine.demo, "doctor": machine.doctor, "init": audits.init},
    "Audit": {
        "audit": audits.audit,
        "reference": audits.reference,
        "selfcheck": audits.selfcheck,
        "compare": audits.compare,
    },
    "Attribution": {"enrol": attribution.enrol, "attribute": attribution.attribute},
    "Results": {"status": results.status, "report": report.report, "open": report.open_reports, "sql": sql.sql},
    "Operations": {
        "sweep": sweeps.sweep,
        "releases": sweeps.releases,
        "serve": sweeps.serve,
        "maintain": sweeps.maintain,
    },
}
"""The commands by the panel of `--help` that lists them."""

for panel, commands in _COMMANDS.items():
    for name, command in commands.items():
        app.command(name, rich_help_panel=panel)(command)
app.add_typer(stack.app, rich_help_panel="Operations")


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    as_json = "--json" in arguments
    try:
        code = int(app(arguments, standalone_mode=False) or 0)
        if code == EXIT_INTERRUPTED:  # typer has turned the interrupt into this code
            raise KeyboardInterrupt
        return code
    except LayerprintError as error:
        print_error(error, as_json)
        return error.exit_code
    except typer.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, typer.Abort):
        Console(stderr=True).print("interrupted; finished work is kept: run the same command again to continue")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return 0
    except Exception as error:  # the last line of defence: no traceback for users
        if getattr(error, "exit_code", None) == 2 and hasattr(error, "format_message"):
            return _usage(error)
        if os.environ.get("LAYERPRINT_VERBOSE"):
            traceback.print_exc()
        print_error(
            LayerprintError(f"{type(error).__name__}: {error}", "run `layerprint --verbose …` and report its output"),
            as_json,
        )
        return 1


def _usage(error: Any) -> int:
    """Print what is wrong with the options or arguments."""
    error.show()
    return 2


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of the command ``layerprint``. SIGTERM ends it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
