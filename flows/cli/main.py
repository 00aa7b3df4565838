"""The command line.

Exit codes: 0 passed · 1 something broke · 2 bad input or storage · 3 the gate failed · 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from importlib.metadata import version
from typing import Annotated, Any

import typer
from rich.console import Console

from flows.cli import console as screen
from flows.cli.commands import attribution, audits, machine, report, results, sql, stack, sweeps
from flows.runtime.libraries import quiet_libraries
from storage.errors import LayerprintError

EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="layerprint",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Does a release of an image-generation model copy its training images, at which level, and which known "
    "model made a set of images?\n\n"
    "Start with [bold]layerprint demo[/]; then write a spec ([bold]layerprint init[/]) and run [bold]layerprint audit "
    "SPEC[/].\n\n"
    "Exit codes: 0 passed · 1 something broke · 2 bad input or storage · 3 the gate failed · 130 interrupted.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"layerprint {version('layerprint')}\n")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="show logs, and tracebacks of faults")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", help="show the version and end", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    if verbose:
        os.environ["LAYERPRINT_VERBOSE"] = "1"
    quiet_libraries(verbose)


for command in (
    audits.init,
    audits.audit,
    audits.reference,
    attribution.enrol,
    attribution.attribute,
    audits.selfcheck,
    audits.compare,
    sql.sql,
    report.report,
    results.status,
    sweeps.sweep,
    sweeps.releases,
    sweeps.serve,
    sweeps.maintain,
    machine.doctor,
    machine.demo,
):
    app.command()(command)
app.add_typer(stack.app)
app.command("open")(report.open_reports)


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    as_json = "--json" in arguments
    try:
        code = int(app(arguments, standalone_mode=False) or 0)
        if code == EXIT_INTERRUPTED:  # typer has turned the interrupt into this code
            raise KeyboardInterrupt
        return code
    except LayerprintError as error:
        screen.print_error(error, as_json)
        return error.exit_code
    except typer.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, typer.Abort):
        Console(stderr=True).print("interrupted; what is finished is kept, run the same command to go on")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return 0
    except Exception as error:  # the last line of defence: no traceback for users
        if getattr(error, "exit_code", None) == 2 and hasattr(error, "format_message"):
            return _usage(error)
        if os.environ.get("LAYERPRINT_VERBOSE"):
            traceback.print_exc()
        screen.print_error(
            LayerprintError(
                f"{type(error).__name__}: {error}", "run with `layerprint --verbose …` and report the lines"
            ),
            as_json,
        )
        return 1


def _usage(error: Any) -> int:
    """A wrong option or argument: click knows how to say it."""
    error.show()
    return 2


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of the command ``layerprint``. A termination ends it as an interrupt does, in good order."""
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
