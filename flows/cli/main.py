"""The command line.

Exit codes: 0 passed · 1 unexpected error · 2 bad input or storage · 3 gate failed · 130 interrupted, 143 by SIGTERM,
129 by SIGHUP.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

import typer

from flows.cli import interrupts
from flows.cli.commands import attribution, audits, machine, report, results, sql, stack, sweeps
from flows.cli.console import clean_logs, messages, print_error, print_marked, print_text
from flows.cli.progress import own_warnings
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
    "Exit codes: 0 passed · 1 unexpected error · 2 bad input or storage · 3 gate failed · 130 interrupted, 143 by "
    "SIGTERM, 129 by SIGHUP.",
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
    clean_logs()


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


class _Warnings(logging.Handler):
    """Prints warnings where no progress board shows them, as text that is safe for a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        print_marked(messages(), "!", "yellow", record.getMessage())


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    with own_warnings(_Warnings(logging.WARNING)):
        return _run(arguments, "--json" in arguments)


def _run(arguments: list[str], as_json: bool) -> int:
    try:
        code = int(app(arguments, standalone_mode=False) or 0)
        return _interrupted() if code == EXIT_INTERRUPTED else code  # typer has turned an interrupt into this code
    except SystemExit as end:  # Ray's own handler of SIGTERM
        if end.code != signal.SIGTERM:
            raise
        return _interrupted(signal.SIGTERM)
    except LayerprintError as error:
        print_error(error, as_json)
        return error.exit_code
    except typer.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except BrokenPipeError:
        return 0
    except Exception as error:  # the last line of defence: no traceback for users
        return _unexpected(error, as_json)


def _unexpected(error: Exception, as_json: bool) -> int:
    if interrupts.received() is not None:  # what a library made of it
        return _interrupted()
    if getattr(error, "exit_code", None) == 2 and hasattr(error, "format_message"):
        return _usage(error)
    if os.environ.get("LAYERPRINT_VERBOSE"):
        print_text(traceback.format_exc())
    print_error(
        LayerprintError(f"{type(error).__name__}: {error}", "run `layerprint --verbose …` and report its output"),
        as_json,
    )
    return 1


def _usage(error: Any) -> int:
    """Print what is wrong with the options or arguments."""
    text = io.StringIO()
    error.show(file=text)
    print_text(text.getvalue())
    return 2


def _interrupted(by: signal.Signals = signal.SIGINT) -> int:
    """Say that a signal ended the command, and return its exit code."""
    number = interrupts.received() or by
    messages().print(interrupts.sentence(number), soft_wrap=True)
    return interrupts.exit_code(number)


def main() -> None:
    """Run the command of this process, and end with its exit code."""
    interrupts.watch()
    for stream in (sys.stdout, sys.stderr):  # characters that its encoding lacks are replaced
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        code = run(sys.argv[1:])
    finally:
        interrupts.unwatch()
    sys.exit(code)


if __name__ == "__main__":
    main()
