"""The processes of a pool, from their start to their end: the one file that says ``ray.remote``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray

from actors.metrics import HOSTS, TASK_SECONDS


@ray.remote(max_restarts=0, max_task_retries=0)
class _Process:
    """A process that runs functions; what a function keeps between its calls ends with the process."""

    def ready(self) -> None:
        """Answers once the process has started."""

    def run(self, function: Callable[[Any], Any], task: Any) -> Any:
        began = time.monotonic()
        result = function(task)
        TASK_SECONDS.observe(time.monotonic() - began, {"worker": function.__name__})
        return result


@dataclass(eq=False, slots=True)
class Host:
    """A process as its pool sees it.

    ``starting`` is set until the process has started; ``calls`` are those in flight, oldest first, each with the index
    of its task.
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


class Hosts:
    """The hosts of a pool.

    Args:
        pool: The pool's name.
        size: Their number and resources.
    """

    def __init__(self, pool: str, size: PoolSize) -> None:
        self.pool = pool
        self.size = size
        self.all: list[Host] = []

    def __len__(self) -> int:
        return len(self.all)

    @property
    def started(self) -> list[Host]:
        return [host for host in self.all if host.starting is None]

    @property
    def busy(self) -> list[Host]:
        return [host for host in self.all if host.calls]

    def grow(self, count: int) -> None:
        """Start hosts until there are `count`, at most the pool's size; spread over the nodes for their bandwidth."""
        for _ in range(len(self.all), min(self.size.hosts, count)):
            reserved = {"num_cpus": self.size.cpus, "num_gpus": self.size.gpus, "scheduling_strategy": "SPREAD"}
            process = _Process.options(**reserved).remote()  # type: ignore[attr-defined]
            self.all.append(Host(process, process.ready.remote()))

    def send(self, host: Host, index: int, function: Callable[[Any], Any], task: Any) -> None:
        """Have a host run a task."""
        host.calls[host.process.run.remote(function, task)] = index

    def end(self, host: Host) -> None:
        """End a host at once."""
        self.all.remove(host)
        ray.kill(host.process, no_restart=True)
        self.count()

    def count(self) -> None:
        """Report to the metrics how many hosts are ready."""
        HOSTS.set(len(self.started), {"pool": self.pool})

    def close(self, *, idle_only: bool = False) -> None:
        """End all hosts, or those without calls."""
        for host in [host for host in self.all if not (idle_only and host.calls)]:
            self.end(host)
