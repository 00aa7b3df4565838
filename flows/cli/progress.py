"""What a person sees: progress with rate and time left, tables, errors. All but results goes to stderr."""

from __future__ import annotations

import json
import logging
import sys
import time
from textwrap import TextWrapper
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from flows.text import printable
from storage.errors import LayerprintError

if TYPE_CHECKING:  # importing it would load Ray for --help
    from actors.stages.context import Progress as StageProgress


_LOGGERS = [logging.getLogger(package) for package in ("actors", "flows", "storage")]


class ProgressBoard:
    """Progress bars of running stages; a line for each that ends. Without a terminal only the lines.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._tasks: dict[str, tuple[TaskID, float]] = {}
        self._warnings = _Warnings(self)

    def __enter__(self) -> ProgressBoard:
        self._progress.start()
        for logger in _LOGGERS:
            logger.addHandler(self._warnings)
            logger.propagate = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for logger in _LOGGERS:
            logger.removeHandler(self._warnings)
            logger.propagate = True
        self._progress.stop()

    def say(self, text: str) -> None:
        """One line above the bars; Rich markup is allowed, so escape what comes from strangers."""
        self._progress.console.print(text)

    def report(self, now: StageProgress) -> None:
        """Take one step of a stage; the stage of a command's `Report`."""
        if now.stage not in self._tasks:
            task = self._progress.add_task(escape(now.stage), total=now.total, rate="")
            self._tasks[now.stage] = (task, time.monotonic())
        task, began = self._tasks[now.stage]
        seconds = max(time.monotonic() - began, 1e-3)
        fresh = now.done - now.skipped
        rate = f"{fresh / seconds:,.0f} {now.unit}/s" if fresh and seconds >= 1 else now.unit
        self._progress.update(task, completed=now.done, total=now.total, rate=rate)
        if now.done >= now.total:
            self._progress.remove_task(task)
            del self._tasks[now.stage]
            self.say(_ended(now, seconds))


class _Warnings(logging.Handler):
    """Shows what our own packages warn of: a dead process, an image that was left out for it."""

    def __init__(self, board: ProgressBoard) -> None:
        super().__init__(logging.WARNING)
        self._board = board

    def emit(self, record: logging.LogRecord) -> None:
        self._board.say(f"[yellow]![/] {escape(printable(record.getMessage()))}")


def _ended(now: StageProgress, seconds: float) -> str:
    stage, fresh = escape(now.stage), now.total - now.skipped
    if not fresh:
        return f"[dim]· {stage}: {now.total:,} {now.unit} found in the store[/]"
    found = f", {now.skipped:,} found in the store" if now.skipped else ""
    rate = f" ({fresh / seconds:,.0f}/s)" if now.unit == "images" else ""
    return f"[green]✓[/] {stage}: {fresh:,} {now.unit} in {seconds:.1f} s{rate}{found}"


def print_json(document: Any) -> None:
    """One JSON document on stdout; times as ISO text."""
    sys.stdout.write(json_text(document))


def json_text(document: Any) -> str:
    r"""A JSON document; characters that could drive a terminal are escaped, which changes no value.

    >>> json_text("a\u202eb\x9b")
    '"a\\u202eb\\u009b"\n'
    """
    text = json.dumps(document, default=str, ensure_ascii=False, indent=2)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text) + "\n"


def print_error(error: LayerprintError, as_json: bool) -> None:
    """What was found and the remedy; no traceback."""
    if as_json:
        print_json({"error": error.found, "remedy": error.remedy, "exit_code": error.exit_code})
        return
    explain(Console(stderr=True, highlight=False), "error", error.found, error.remedy)


def explain(out: Console, what: str, found: str, remedy: str) -> None:
    """What is wrong, and the remedy. On a terminal lines break between words: a URI stays whole."""
    width = out.width if out.is_terminal else 0
    lines = wrapped(f"{what} {printable(found)}", width).removeprefix(what)
    out.print(f"[bold red]{what}[/]{escape(lines)}", soft_wrap=True)
    out.print(f"[bold]→[/]{escape(wrapped(f'→ {printable(remedy)}', width)[1:])}", soft_wrap=True)


def wrapped(text: str, width: int) -> str:
    r"""Lines of at most so many characters, broken between words only; of any length with a width of 0.

    >>> wrapped("error s3://bucket/prefix: cannot be read", 20)
    'error\n  s3://bucket/prefix:\n  cannot be read'
    """
    lines = text.splitlines()
    if width:
        wrapper = TextWrapper(width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        lines = [wrapper.fill(line) for line in lines]
    return "\n".join(lines)
