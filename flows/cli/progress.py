"""Progress of running stages on stderr: bars with rate and time left, and a line for each stage that ends."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from flows.cli.console import messages, safe

if TYPE_CHECKING:  # importing it would load Ray for --help
    from actors.stages.context import Progress as StageProgress


_LOGGERS = [logging.getLogger(package) for package in ("actors", "flows", "storage")]


@contextmanager
def own_warnings(handler: logging.Handler) -> Iterator[None]:
    """Within this block one handler alone gets the log records of our own packages."""
    before = [(logger.handlers, logger.propagate) for logger in _LOGGERS]
    for logger in _LOGGERS:
        logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(_LOGGERS, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate


class ProgressBoard:
    """Progress bars of running stages, and a line for each stage that ends. Without a terminal only the lines.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._console = messages(quiet)
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
        self._shown = ExitStack()

    def __enter__(self) -> ProgressBoard:
        self._progress.start()
        self._shown.enter_context(own_warnings(self._warnings))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.close()
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print one line above the bars. Rich markup is allowed, so escape untrusted text."""
        self._progress.console.print(text, soft_wrap=not self._console.is_terminal)

    def report(self, now: StageProgress) -> None:
        """Show one step of a stage."""
        if now.stage not in self._tasks:
            task = self._progress.add_task(safe(now.stage), total=now.total, rate="")
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
    """Shows the warnings of our own packages, such as a process that died."""

    def __init__(self, board: ProgressBoard) -> None:
        super().__init__(logging.WARNING)
        self._board = board

    def emit(self, record: logging.LogRecord) -> None:
        self._board.say(f"[yellow]![/] {safe(record.getMessage())}")
        if record.exc_text and os.environ.get("LAYERPRINT_VERBOSE"):
            self._board.say(safe(record.exc_text))


def _ended(now: StageProgress, seconds: float) -> str:
    stage, fresh = safe(now.stage), now.total - now.skipped
    if not fresh:
        return f"[dim]· {stage}: {now.total:,} {now.unit} found in the store[/]"
    skipped = f", {now.skipped:,} found in the store" if now.skipped else ""
    rate = f" ({fresh / seconds:,.0f}/s)" if now.unit == "images" else ""
    return f"[green]✓[/] {stage}: {fresh:,} {now.unit} in {seconds:.1f} s{rate}{skipped}"
