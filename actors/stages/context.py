"""What every stage needs: the store, the cluster, and where to report its progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from actors.metrics import STAGE_DONE, STAGE_UNITS
from actors.task_pool import Result, Task, TaskCluster
from storage.objects.open import ObjectStore


class Progress(NamedTuple):
    """Progress of a stage: ``done`` of ``total`` units, ``skipped`` of which were found in the store."""

    stage: str
    unit: str
    done: int
    total: int
    skipped: int = 0


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class StageContext:
    """What every stage needs: the store, the cluster, and where to report its progress."""

    store: ObjectStore
    cluster: TaskCluster
    report: Report

    def report_progress(self, now: Progress) -> None:
        """Send stage progress to the callback and to Prometheus."""
        labels = {"stage": now.stage.split()[0], "unit": now.unit}
        STAGE_DONE.set(now.done, labels)
        STAGE_UNITS.set(now.total, labels)
        self.report(now)

    def run(
        self,
        pool: str,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        stage: str,
        skipped: int = 0,
        unit: str = "layers",
    ) -> dict[int, Result]:
        """Run tasks on a pool, one progress step per task; results by the index of their task."""
        results: dict[int, Result] = {}
        total = len(tasks) + skipped
        self.report_progress(Progress(stage, unit, skipped, total, skipped))
        if tasks:
            for index, result in self.cluster.pool(pool).run(function, tasks):
                results[index] = result
                self.report_progress(Progress(stage, unit, skipped + len(results), total, skipped))
        return results

    def run_all(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
        """Run a few short tasks on the pool of the layers, without progress; results in the order of the tasks."""
        results = dict(self.cluster.pool("layers").run(function, tasks))
        return [results[index] for index in range(len(tasks))]

    def run_one(self, function: Callable[[Task], Result], task: Task) -> Result:
        """Run one task on the pool of the layers."""
        return self.run_all(function, [task])[0]
