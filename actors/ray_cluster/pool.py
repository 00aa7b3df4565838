"""A pool of host processes that run workers' tasks: the one file that says ``ray.remote``."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import ray

from actors.metrics import HOSTS, TASK_SECONDS
from actors.ray_cluster.dispatch import TaskRun
from actors.ray_cluster.failures import Lost
from storage.errors import StageError

Task = TypeVar("Task", contravariant=True)
Result = TypeVar("Result", covariant=True)

CLOSE_TIMEOUT_S = 5.0
KILLED_REMEDY = "run the audit again: what is finished is kept; if it stays, lower LAYERPRINT_BATCH_SIZE or add memory"


class Worker(Protocol[Task, Result]):
    """What a host runs. A worker is hashable, equal to any other with the same settings, and picklable."""

    def setup(self) -> None:
        """Load what is needed; called once per host."""

    def process(self, task: Task) -> Result:
        """Do one task. Safe to repeat: a task is sent again when its host dies."""

    def close(self) -> None:
        """Give everything back."""


@ray.remote(max_restarts=0, max_task_retries=0)
class _Process:
    """A process that keeps workers ready."""

    def __init__(self) -> None:
        self._ready: dict[Any, Any] = {}

    def ready(self) -> None:
        """Answers once the process has started."""

    def process(self, worker: Any, task: Any) -> Any:
        began = time.monotonic()
        ready = self._ready.get(worker)
        if ready is None:
            worker.setup()
            ready = self._ready[worker] = worker
        result = ready.process(task)
        TASK_SECONDS.observe(time.monotonic() - began, {"worker": type(worker).__name__})
        return result

    def close(self) -> None:
        for worker in self._ready.values():
            worker.close()
        self._ready.clear()


@dataclass(eq=False, slots=True)
class Host:
    """A process as the pool sees it.

    ``starting`` is there until it has started; ``calls`` are those in flight, each with the index of its task, the
    oldest first.
    """

    process: Any
    starting: Any
    calls: dict[Any, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PoolSize:
    """How many hosts, and what each reserves of the cluster."""

    hosts: int
    cpus: float = 1.0
    gpus: float = 0.0


def none_lost(pool: str, results: Generator[tuple[int, Result | Lost]]) -> Iterator[tuple[int, Result]]:
    """Results of tasks none of which may be lost.

    Raises:
        StageError: one is.
    """
    with closing(results):
        for index, found in results:
            if isinstance(found, Lost):
                times = f"killed its process {found.deaths} times; the last time {found.reason}"
                raise StageError(f"{pool}: task {index} {times}", KILLED_REMEDY)
            yield index, found


class Pool:
    """Hosts that run tasks; they start with the first task and live until `close`.

    A host takes part as soon as the cluster has room for it, and the others do not wait for it.

    Args:
        name: For messages.
        size: Hosts and their resources.

    ``make_room`` is called when no host finds room: pools take turns, and those that rest may hold what is needed.
    """

    def __init__(self, name: str, size: PoolSize) -> None:
        self.name = name
        self.size = size
        self.hosts: list[Host] = []
        self.make_room: Callable[[], None] = _nobody_else

    def run(self, worker: Worker[Task, Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Run all tasks; yields (index of the task, its result) as they finish.

        Raises:
            LayerprintError: as the worker raised it.
            StageError: a task was lost, no host could start, or a worker raised anything else.
        """
        yield from none_lost(self.name, self.attempt(worker, tasks))

    def attempt(
        self, worker: Worker[Task, Result], tasks: Sequence[Task], suspect: bool = False
    ) -> Generator[tuple[int, Result | Lost]]:
        """As `run`, but a lost task is a value too, and the others go on.

        Args:
            worker: Does the tasks.
            tasks: What is to do.
            suspect: Each task is alone on a host, and lost when that dies; else it is lost with the third one.
        """
        yield from TaskRun(self, worker, tasks, suspect).results()

    def grow(self, hosts: int) -> None:
        """Start hosts until there are as many, or as many as the pool may have; on all nodes, for their networks."""
        for _ in range(len(self.hosts), min(self.size.hosts, hosts)):
            reserved = {"num_cpus": self.size.cpus, "num_gpus": self.size.gpus, "scheduling_strategy": "SPREAD"}
            process = _Process.options(**reserved).remote()  # type: ignore[attr-defined]
            self.hosts.append(Host(process, process.ready.remote()))

    def end(self, host: Host) -> None:
        """End a host at once."""
        self.hosts.remove(host)
        ray.kill(host.process, no_restart=True)
        self.count()

    def count(self) -> None:
        """Tell the metrics how many hosts are ready."""
        HOSTS.set(sum(host.starting is None for host in self.hosts), {"pool": self.name})

    def close(self) -> None:
        """Close the workers and end the hosts; one that is still at work is not waited for long."""
        self._close(list(self.hosts))

    def release(self) -> None:
        """Close the hosts that have nothing to do, so that another pool has room."""
        self._close([host for host in self.hosts if not host.calls])

    def _close(self, hosts: list[Host]) -> None:
        closing = [host.process.close.remote() for host in hosts if host.starting is None]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE_TIMEOUT_S)
        for host in hosts:
            self.end(host)


def _nobody_else() -> None:
    """A pool that is alone has nobody to ask for room."""
