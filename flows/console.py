"""What a person sees: progress with rate and time left, tables, errors. All but results goes to stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from storage.errors import LayerprintError

if TYPE_CHECKING:  # what is shown; importing it would load Ray and Prefect for --help
    from actors.stages import Progress as StageProgress
    from flows.attribute import Attribution
    from flows.outcome import AuditOutcome

VERDICT_STYLE = {"copying": "bold red", "not judged": "yellow"}

A_HAT_MEANING = (
    "Â: chance that a generated image lies farther from the training images than an unseen real image does; "
    "0.5 = like unseen images, below = closer to training (copying), above = farther (poorer fit)."
)
COPY_RATE_MEANING = (
    "copy rate: share of images closer to a training image than unseen real images come, beyond chance; "
    "95 % interval, at the layer that shows most."
)


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

    def __enter__(self) -> ProgressBoard:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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


def _ended(now: StageProgress, seconds: float) -> str:
    stage, fresh = escape(now.stage), now.total - now.skipped
    if not fresh:
        return f"[dim]· {stage}: {now.total:,} {now.unit} found in the store[/]"
    found = f", {now.skipped:,} found in the store" if now.skipped else ""
    rate = f" ({fresh / seconds:,.0f}/s)" if now.unit == "images" else ""
    return f"[green]✓[/] {stage}: {fresh:,} {now.unit} in {seconds:.1f} s{rate}{found}"


def outcome_table(outcomes: Sequence[AuditOutcome], attributed: Sequence[str] | None = None) -> Table:
    """One row per release: verdict, copy rate with its interval, Â of the first and last informative layer.

    Args:
        outcomes: Audits.
        attributed: For each audit the release that fresh images were attributed to, if that was asked.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", row_styles=["", "dim"] if len(outcomes) > 12 else None)
    table.add_column("release", overflow="fold")
    table.add_column("verdict")
    table.add_column("copy rate %", justify="right")
    table.add_column("Â first", justify="right")
    table.add_column("Â last", justify="right")
    if attributed is not None:
        table.add_column("fresh batch attributed to", overflow="fold")
    for i, outcome in enumerate(outcomes):
        style = VERDICT_STYLE.get(outcome.verdict, "green")
        ends = [outcome.informative[at]["a_hat"] for at in (0, -1)] if outcome.informative else [None, None]
        cells = [
            escape(outcome.label),
            f"[{style}]{outcome.verdict}[/]",
            copy_rate_text(outcome),
            *map(_number, ends),
        ]
        table.add_row(*cells, *([_attributed(outcome, attributed[i])] if attributed is not None else []))
    return table


def copy_rate_text(outcome: AuditOutcome) -> str:
    """The copy rate in percent with its interval, for example ``5.2 (2.7–8.4)``."""
    rate = outcome.audit["copy_rate"]
    if rate is None:
        return "–"
    low, high = outcome.audit["copy_rate_low"], outcome.audit["copy_rate_high"]
    return f"{100 * rate:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def _attributed(outcome: AuditOutcome, name: str) -> str:
    right = name == outcome.label
    return f"[{'green' if right else 'yellow'}]{escape(name)}{'' if right else ' ✗'}[/]"


def layer_table(outcome: AuditOutcome) -> Table:
    """One row per layer of one audit."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("layer", "Â", "95 %", "C_T", "Z_S", "copy rate %", "covered"):
        table.add_column(name, justify="right" if name != "layer" else "left")
    for row in outcome.scores:
        if not row["informative"]:
            table.add_row(str(row["layer"]), "[dim]no information[/]")
            continue
        interval = f"{row['a_low']:.2f}–{row['a_high']:.2f}"
        tail = "–" if row["copy_rate"] is None else f"{100 * row['copy_rate']:.1f}"
        numbers = [_number(row["a_hat"]), interval, _number(row["c_t"]), _number(row["z_s"]), tail]
        table.add_row(str(row["layer"]), *numbers, f"{row['coverage']:.0%}")
    return table


def attribution_table(found: Attribution, most: int = 10) -> Table:
    """The nearest enrolled releases."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("enrolled release", overflow="fold")
    table.add_column("distance D²", justify="right")
    table.add_column("p", justify="right")
    for match in found.matches[:most]:
        table.add_row(escape(match.name), f"{match.d2:,.1f}", f"{match.p_value:.2g}")
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def print_json(document: Any) -> None:
    """One JSON document on stdout; times as ISO text."""
    sys.stdout.write(json.dumps(document, default=str, ensure_ascii=False, indent=2) + "\n")


def print_error(error: LayerprintError, as_json: bool) -> None:
    """What was found and the remedy; no traceback."""
    if as_json:
        print_json({"error": error.found, "remedy": error.remedy, "exit_code": error.exit_code})
        return
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]error[/] {escape(printable(error.found))}", soft_wrap=True)
    console.print(f"[bold]→[/] {escape(printable(error.remedy))}", soft_wrap=True)


def printable(text: str) -> str:
    r"""Without control characters, which a stranger's name could use to drive the terminal.

    >>> printable("a\x1b[2Jb")
    'a�[2Jb'
    """
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)
