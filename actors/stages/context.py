"""What every stage works with: the store, the cluster, and whom to tell how far it is."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from actors.metrics import STAGE_DONE, STAGE_UNITS
from actors.ray_cluster.failures import Lost
from actors.ray_cluster.pool import Worker
from storage.objects.open import ObjectStore

T = TypeVar("T")
R = TypeVar("R")


class Progress(NamedTuple):
    """How far a stage is: ``done`` of ``total`` units, ``skipped`` of which were found in the store."""

    stage: str
    unit: str
    done: int
    total: int
    skipped: int = 0


class TaskPool(Protocol):
    """What runs tasks: a `Pool` of this process's Ray, or a `JobPool` elsewhere."""

    def run(self, worker: Worker[T, R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """Run all tasks; yields (index of the task, its result) as they finish."""

    def attempt(
        self, worker: Worker[T, R], tasks: Sequence[T], suspect: bool = False
    ) -> Generator[tuple[int, R | Lost]]:
        """As `run`, but a lost task is a value too, and the others go on."""


class TaskCluster(Protocol):
    """What has pools, by name: ``embed`` (forward passes) and ``layers`` (one layer's work at a time)."""

    def pool(self, name: str) -> TaskPool:
        """The pool of this name."""

    def close(self) -> None:
        """Give everything back."""


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Workbench:
    """What every stage needs: the store, the cluster, and whom to tell how far it is."""

    store: ObjectStore
    cluster: TaskCluster
    report: Report

    def tell(self, now: Progress) -> None:
        """Report how far a stage is, to whom it may concern and to the metrics."""
        labels = {"stage": now.stage.split()[0], "unit": now.unit}
        STAGE_DONE.set(now.done, labels)
        STAGE_UNITS.set(now.total, labels)
        self.report(now)

    def run(
        self,
        pool: str,
        worker: Worker[T, R],
        tasks: Sequence[T],
        stage: str,
        skipped: int = 0,
        unit: str = "layers",
    ) -> dict[int, R]:
        """Run tasks on a pool, one progress step per task; results by the index of their task."""
        results: dict[int, R] = {}
        total = len(tasks) + skipped
        self.tell(Progress(stage, unit, skipped, total, skipped))
        if tasks:
            for index, result in self.cluster.pool(pool).run(worker, tasks):
                results[index] = result
                self.tell(Progress(stage, unit, skipped + len(results), total, skipped))
        return results

    def run_all(self, worker: Worker[T, R], tasks: Sequence[T]) -> list[R]:
        """Run a few tasks on the pool of the layers, too short for progress; results in their order."""
        results = dict(self.cluster.pool("layers").run(worker, tasks))
        return [results[index] for index in range(len(tasks))]

    def run_one(self, worker: Worker[T, R], task: T) -> R:
        """Run one task on the pool of the layers."""
        return self.run_all(worker, [task])[0]
