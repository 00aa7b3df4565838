"""Ray: the one file that knows it.

Workers are plain objects with ``setup``, ``process`` and ``close``. A `Pool` sends them, with their tasks, to a
fixed number of host actors; a host sets up each different worker once and keeps it. `Pool.run` keeps at most two
calls in flight per host, so that a long list of tasks never piles up in Ray.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
)

from storage.errors import LayerprintError, StageError

Task = TypeVar("Task", contravariant=True)
Result = TypeVar("Result", covariant=True)

IN_FLIGHT_PER_HOST = 2
RESTARTS = 3
CLOSE_TIMEOUT_S = 5.0

# Ray reads these when it starts; a user's own setting stays.
RAY_ENVIRONMENT = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # the first error ends a run and is raised; the others print no traceback
}


class Worker(Protocol[Task, Result]):
    """What a host runs. A worker is hashable, equal to any other with the same settings, and picklable."""

    def setup(self) -> None:
        """Load what is needed; called once per host."""

    def process(self, task: Task) -> Result:
        """Do one task. Safe to repeat: a task is sent again when its host dies."""

    def close(self) -> None:
        """Give everything back."""


@ray.remote(max_restarts=RESTARTS, max_task_retries=RESTARTS)
class _Host:
    """A process that keeps workers ready."""

    def __init__(self) -> None:
        self._ready: dict[Any, Any] = {}

    def process(self, worker: Any, task: Any) -> Any:
        ready = self._ready.get(worker)
        if ready is None:
            worker.setup()
            ready = self._ready[worker] = worker
        return ready.process(task)

    def close(self) -> None:
        for worker in self._ready.values():
            worker.close()
        self._ready.clear()


@dataclass(frozen=True, slots=True)
class PoolSize:
    """How many hosts, and what each reserves of the cluster."""

    hosts: int
    cpus: float = 1.0
    gpus: float = 0.0


class Pool:
    """Host actors that run tasks; they start with the first task and live until `close`.

    Args:
        name: For messages.
        size: Hosts and their resources.
    """

    def __init__(self, name: str, size: PoolSize) -> None:
        self.name = name
        self.size = size
        self._hosts: list[Any] = []

    def run(self, worker: Worker[Task, Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Run all tasks; yields (index of the task, its result) as they finish.

        Raises:
            LayerprintError: as the worker raised it.
            StageError: a host died more often than it may restart, or a worker raised anything else.
        """
        queue = iter(enumerate(tasks))
        running: dict[Any, tuple[int, Any]] = {}
        for host in self._started(len(tasks)) * IN_FLIGHT_PER_HOST:
            self._send(host, worker, queue, running)
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            index, host = running.pop(done)
            result = self._result(done, index, host)
            self._send(host, worker, queue, running)
            yield index, result

    def close(self) -> None:
        """Close the workers and end the hosts; one that is still at work is not waited for long."""
        if self._hosts:
            closing = [host.close.remote() for host in self._hosts]
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE_TIMEOUT_S)
        for host in list(self._hosts):
            self._end(host)

    def _end(self, host: Any) -> None:
        self._hosts.remove(host)
        ray.kill(host, no_restart=True)

    def _started(self, tasks: int) -> list[Any]:
        for _ in range(len(self._hosts), min(self.size.hosts, tasks)):
            options = _Host.options(num_cpus=self.size.cpus, num_gpus=self.size.gpus)  # type: ignore[attr-defined]
            self._hosts.append(options.remote())
        return self._hosts

    def _send(self, host: Any, worker: Any, queue: Iterator[tuple[int, Any]], running: dict[Any, Any]) -> None:
        following = next(queue, None)
        if following is not None:
            index, task = following
            running[host.process.remote(worker, task)] = (index, host)

    def _result(self, done: Any, index: int, host: Any) -> Any:
        try:
            return ray.get(done)
        except RayTaskError as error:
            cause = error.cause
            if isinstance(cause, LayerprintError):
                raise cause from None
            raise self._fault(index, f"{type(cause).__name__}: {cause}") from error
        except (ActorDiedError, ActorUnavailableError, NodeDiedError, OutOfMemoryError) as error:
            self._end(host)  # its restarts are spent; the next run starts another in its place
            raise StageError(
                f"{self.name}: a worker process died {RESTARTS + 1} times at task {index}: {_reason(error)}",
                "run the audit again: finished shards are kept; if it stays, lower LAYERPRINT_BATCH_SIZE or add memory",
            ) from error
        except RayError as error:  # for example an exception that cannot be sent from process to process
            raise self._fault(index, _last_line(error)) from error

    def _fault(self, index: int, reason: str) -> StageError:
        return StageError(
            f"{self.name}: task {index} raised {reason}",
            "this is a fault of layerprint or of a library: report it with the lines above (run with --verbose)",
        )


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Where the work runs: a Ray started for this process, or the one that ``address`` names."""

    embed: PoolSize
    layers: PoolSize
    address: str | None = None


class Cluster:
    """A connection to Ray with two pools: ``embed`` (forward passes) and ``layers`` (one layer's work at a time).

    Ray starts with the first pool that is asked for: an audit that finds all its results never starts it.
    """

    def __init__(self, settings: ClusterSettings) -> None:
        self.settings = settings
        self._cleanup = ExitStack()
        self._pools: dict[str, Pool] = {}

    def pool(self, name: str) -> Pool:
        if name not in self._pools:
            self._start()
            pool = Pool(name, cast(PoolSize, getattr(self.settings, name)))
            self._cleanup.callback(pool.close)
            self._pools[name] = pool
        return self._pools[name]

    def close(self) -> None:
        """End the hosts, and Ray if we started it."""
        self._pools.clear()
        self._cleanup.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        if ray.is_initialized():
            return
        for name, value in RAY_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if self.settings.address:
            ray.init(self.settings.address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            # The two pools take turns, so the local Ray is told of room for both.
            slots = self.settings.embed.hosts * self.settings.embed.cpus
            slots += self.settings.layers.hosts * self.settings.layers.cpus
            ray.init(
                "local",
                num_cpus=int(slots) + 1,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=200 * 2**20,
                _temp_dir=os.environ.get("RAY_TMPDIR", os.path.join(tempfile.gettempdir(), "ray")),
            )
        self._cleanup.callback(ray.shutdown)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _last_line(error: Exception) -> str:
    """Where a traceback in a message says what was raised."""
    return next(line.strip() for line in reversed([type(error).__name__, *str(error).splitlines()]) if line.strip())
