"""What runs the tasks of a stage: the protocol that stages are written against, free of Ray.

`actors.ray_cluster` and `actors.ray_job` implement it. A task is a small picklable record; the function that does it is
a top-level function, so that a process elsewhere finds it by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple, Protocol, TypeVar

from storage.errors import StageError

Task = TypeVar("Task")
Result = TypeVar("Result")

MAX_FAILURES = 3
"""Processes that a task may kill before it is given up."""

KILLED_REMEDY = "run the audit again: what is finished is kept; if it recurs, lower LAYERPRINT_BATCH_SIZE or add memory"


class LostTask(NamedTuple):
    """A task that was given up because every process that took it died; ``reason`` is that of the last one."""

    failures: int
    reason: str


class TaskPool(Protocol):
    """Processes that run tasks."""

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Run all tasks; yields (index of the task, its result) as they finish.

        Raises:
            LayerprintError: As the function raised it.
            StageError: A task was lost, no process could start, or the function raised anything else.
        """

    def attempt(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], suspect: bool = False
    ) -> Generator[tuple[int, Result | LostTask]]:
        """As `run`, but a lost task is a value too, and the others go on.

        Args:
            function: A top-level function. It must be safe to repeat: a task is sent again when its process dies.
            tasks: Its arguments, one per call.
            suspect: Each task is alone in its process and lost with the first failure, not with the third.
        """


class TaskCluster(Protocol):
    """What has pools, by name: ``embed`` (forward passes) and ``layers`` (one layer's work at a time)."""

    def pool(self, name: str) -> TaskPool:
        """The pool of this name."""

    def close(self) -> None:
        """End all processes."""


def none_lost(pool: str, results: Generator[tuple[int, Result | LostTask]]) -> Iterator[tuple[int, Result]]:
    """Pass results on.

    Raises:
        StageError: A task was lost.
    """
    with closing(results):
        for index, result in results:
            if isinstance(result, LostTask):
                times = f"killed its process {result.failures} times; the last time {result.reason}"
                raise StageError(f"{pool}: task {index} {times}", KILLED_REMEDY)
            yield index, result
