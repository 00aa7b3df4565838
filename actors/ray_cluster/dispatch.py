"""Sends a list of tasks through the hosts of a pool, and decides what becomes of a task whose process dies.

At most two calls are in flight per host, so that a long list never piles up in Ray. Ray restarts and repeats nothing:
of the two calls that a dead host leaves, the older one was at work, and only this module knows which one that is. (Or
it had just ended, and its answer was lost with the process.) The failure counts against that task alone. Both become
suspects and are sent again, each alone on a host, so that the next failure is attributed for certain.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray

from actors.metrics import TASKS_LOST, TASKS_RETRIED, add
from actors.ray_cluster.failures import WorkerFailure, outcome
from actors.ray_cluster.hosts import Host, Hosts
from actors.task_pool import MAX_FAILURES, LostTask
from storage.errors import StageError

IN_FLIGHT_PER_HOST = 2
BACK_OFF_S, LONGEST_BACK_OFF_S = 0.5, 8.0
NOTICE_S, START_TIMEOUT_S = 15.0, 600.0
FAILED_STARTS = 3

_log = logging.getLogger(__name__)


class Dispatch:
    """One list of tasks on its way through a pool; see `Pool.attempt`."""

    def __init__(
        self,
        hosts: Hosts,
        make_room: Callable[[], None],
        function: Callable[[Any], Any],
        tasks: Sequence[Any],
        suspect: bool,
    ) -> None:
        self._hosts = hosts
        self._pool = hosts.pool
        self._make_room = make_room
        self._function = function
        self._tasks = tasks
        self._fresh = iter(enumerate(tasks))
        self._again: deque[int] = deque()
        self._waiting = len(tasks)  # neither in flight nor done
        self._suspect = suspect
        self._suspects: set[int] = set()
        self._failures: Counter[int] = Counter()
        self._failures_in_a_row = 0
        self._failed_starts = 0

    def results(self) -> Iterator[tuple[int, Any]]:
        """(Index of a task, its result or `LostTask`), as they finish."""
        try:
            self._send()
            while refs := self._pending():
                finished = self._take(*self._next(refs))
                self._send()
                yield from finished
        finally:
            for host in self._hosts.busy:  # after an error, their work is not wanted
                self._hosts.end(host)

    def _send(self) -> None:
        """Give the hosts that have started as many calls as they may have."""
        in_flight = sum(len(host.calls) for host in self._hosts.all)
        self._hosts.grow(self._waiting + in_flight)
        while self._waiting and (host := self._free_host()):
            index, task = self._next_task()
            self._hosts.send(host, index, self._function, task)

    def _free_host(self) -> Host | None:
        """The host with the fewest calls, if it may have one more; the last tasks are kept for hosts that start."""
        most = 1 if self._suspect or self._again else IN_FLIGHT_PER_HOST
        started = self._hosts.started
        free = [host for host in started if len(host.calls) < most and self._suspects.isdisjoint(host.calls.values())]
        host = min(free, key=lambda host: len(host.calls), default=None)
        if host and host.calls and self._waiting <= len(self._hosts) - len(started):
            return None
        return host

    def _next_task(self) -> tuple[int, Any]:
        self._waiting -= 1
        if self._again:
            index = self._again.popleft()
            return index, self._tasks[index]
        return next(self._fresh)

    def _pending(self) -> dict[Any, Host]:
        """Calls and starts that may finish next, each with its host; none when all is done."""
        if not self._waiting and not self._hosts.busy:
            return {}
        starting = {host.starting: host for host in self._hosts.all if host.starting is not None}
        return starting | {ref: host for host in self._hosts.all for ref in host.calls}

    def _next(self, refs: dict[Any, Host]) -> tuple[Host, Any]:
        done, _ = ray.wait(list(refs), num_returns=1, timeout=None if self._hosts.busy else NOTICE_S)
        if not done:
            _log.warning("%s: waits for room on the cluster", self._pool)
            self._make_room()
            done, _ = ray.wait(list(refs), num_returns=1, timeout=START_TIMEOUT_S)
        if not done:
            raise self._no_room()
        return refs[done[0]], done[0]

    def _no_room(self) -> StageError:
        size, offered = self._hosts.size, ray.cluster_resources()
        return StageError(
            f"{self._pool}: no process could start within {START_TIMEOUT_S:.0f} s: each needs {size.cpus:g} CPUs "
            f"and {size.gpus:g} GPUs, the cluster has {offered.get('CPU', 0):g} and {offered.get('GPU', 0):g}",
            "wait until the cluster's other work has ended, add nodes, or set LAYERPRINT_EMBED_CPUS and "
            "LAYERPRINT_EMBED_GPUS lower",
        )

    def _take(self, host: Host, ref: Any) -> list[tuple[int, Any]]:
        """The results of one finished call or start, or of the failure of its host."""
        if ref is host.starting:
            self._started(host)
            return []
        result = outcome(ref, self._name(host.calls[ref]))
        if isinstance(result, WorkerFailure):
            return self._bury(host)
        self._failures_in_a_row = 0
        return [(host.calls.pop(ref), result)]

    def _started(self, host: Host) -> None:
        result = outcome(host.starting, f"{self._pool}: a process that starts")
        if not isinstance(result, WorkerFailure):
            host.starting = None
            self._failed_starts = 0
            self._hosts.count()
            return
        self._failed_starts += 1
        self._hosts.end(host)
        if self._failed_starts == FAILED_STARTS:
            raise StageError(
                f"{self._pool}: {FAILED_STARTS} processes could not start, the last one because {result.reason}",
                "look at the cluster's logs: its nodes need layerprint, and the Python and Ray of this machine",
            )
        self._back_off()

    def _bury(self, host: Host) -> list[tuple[int, Any]]:
        """End a dead host: its oldest call is to blame; those behind it are sent again, each alone from now on."""
        calls = host.calls
        host.calls = {}
        self._hosts.end(host)
        results = [(index, outcome(ref, self._name(index))) for ref, index in calls.items()]
        finished = [(index, result) for index, result in results if not isinstance(result, WorkerFailure)]
        (guilty, failure), *innocent = [(i, result) for i, result in results if isinstance(result, WorkerFailure)]
        self._suspects.update(calls.values())
        self._again.extend(index for index, _ in innocent)
        self._waiting += len(innocent)
        return [*finished, *self._blame(guilty, failure)]

    def _blame(self, index: int, failure: WorkerFailure) -> list[tuple[int, LostTask]]:
        self._failures[index] += 1
        failures = self._failures[index]
        lost = failures == (1 if self._suspect else MAX_FAILURES)
        add(TASKS_LOST if lost else TASKS_RETRIED, 1, worker=self._function.__name__, reason=failure.kind)
        then = "it is given up" if lost else "it is sent to another process"
        _log.warning("%s: a process died at task %d, because %s; %s", self._pool, index, failure.reason, then)
        if lost:
            return [(index, LostTask(failures, failure.reason))]
        self._again.append(index)
        self._waiting += 1
        self._back_off()
        return []

    def _back_off(self) -> None:
        time.sleep(min(BACK_OFF_S * 2**self._failures_in_a_row, LONGEST_BACK_OFF_S))
        self._failures_in_a_row += 1

    def _name(self, index: int) -> str:
        return f"{self._pool}: task {index}"
