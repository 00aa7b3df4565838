"""One list of tasks on its way through a pool, and what becomes of a task whose process dies.

At most two calls are in flight per host, so that a long list never piles up in Ray. Ray restarts nothing and repeats
nothing here: of the two calls that a dead host leaves the older one was at work, and only we know which one that is.
(Or it had just ended, and its answer was lost with the process.) The death counts against that task alone. Both are
suspects from then on and sent again, each alone on a host, so that the next death is told for certain.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import ray

from actors.metrics import TASKS_LOST, TASKS_RETRIED, add
from actors.ray_cluster.failures import Death, Lost, outcome
from storage.errors import StageError

if TYPE_CHECKING:
    from actors.ray_cluster.pool import Host, Pool

IN_FLIGHT_PER_HOST = 2
BACK_OFF_S, LONGEST_BACK_OFF_S = 0.5, 8.0
NOTICE_S, START_TIMEOUT_S = 15.0, 600.0
FAILED_STARTS = 3
DEATHS = 3
"""Hosts that a task may kill before it is given up."""

_log = logging.getLogger(__name__)


class TaskRun:
    """One list of tasks on its way through a pool."""

    def __init__(self, pool: Pool, worker: Any, tasks: Sequence[Any], suspect: bool) -> None:
        self._pool = pool
        self._worker = worker
        self._tasks = tasks
        self._fresh = iter(enumerate(tasks))
        self._again: deque[int] = deque()
        self._waiting = len(tasks)  # neither in flight nor done
        self._suspect = suspect
        self._suspects: set[int] = set()
        self._deaths: Counter[int] = Counter()
        self._deaths_in_a_row = 0
        self._failed_starts = 0

    def results(self) -> Iterator[tuple[int, Any]]:
        """(Index of a task, what came of it), as they finish."""
        try:
            self._send()
            while refs := self._awaited():
                finished = self._take(*self._next(refs))
                self._send()
                yield from finished
        finally:
            for host in [host for host in self._pool.hosts if host.calls]:  # an error: their work is not wanted
                self._pool.end(host)

    def _send(self) -> None:
        """Give the hosts that have started as many calls as they may have."""
        in_flight = sum(len(host.calls) for host in self._pool.hosts)
        self._pool.grow(self._waiting + in_flight)
        while self._waiting and (host := self._free_host()):
            index, task = self._following()
            host.calls[host.process.process.remote(self._worker, task)] = index

    def _free_host(self) -> Host | None:
        """The host with the fewest calls, if it may have one more; the last tasks are kept for hosts that start."""
        most = 1 if self._suspect or self._again else IN_FLIGHT_PER_HOST
        started = [host for host in self._pool.hosts if host.starting is None]
        free = [host for host in started if len(host.calls) < most and self._suspects.isdisjoint(host.calls.values())]
        host = min(free, key=lambda host: len(host.calls), default=None)
        if host and host.calls and self._waiting <= len(self._pool.hosts) - len(started):
            return None
        return host

    def _following(self) -> tuple[int, Any]:
        self._waiting -= 1
        if self._again:
            index = self._again.popleft()
            return index, self._tasks[index]
        return next(self._fresh)

    def _awaited(self) -> dict[Any, Host]:
        """What may come next, of which host; nothing when all is done."""
        if not self._waiting and not any(host.calls for host in self._pool.hosts):
            return {}
        starting = {host.starting: host for host in self._pool.hosts if host.starting is not None}
        return starting | {ref: host for host in self._pool.hosts for ref in host.calls}

    def _next(self, refs: dict[Any, Host]) -> tuple[Host, Any]:
        at_work = any(host.calls for host in refs.values())
        done, _ = ray.wait(list(refs), num_returns=1, timeout=None if at_work else NOTICE_S)
        if not done:
            _log.warning("%s: waits for room on the cluster", self._pool.name)
            self._pool.make_room()
            done, _ = ray.wait(list(refs), num_returns=1, timeout=START_TIMEOUT_S)
        if not done:
            raise self._no_room()
        return refs[done[0]], done[0]

    def _no_room(self) -> StageError:
        size, offered = self._pool.size, ray.cluster_resources()
        return StageError(
            f"{self._pool.name}: no process could start within {START_TIMEOUT_S:.0f} s: each needs {size.cpus:g} CPUs "
            f"and {size.gpus:g} GPUs, the cluster has {offered.get('CPU', 0):g} and {offered.get('GPU', 0):g}",
            "wait until the cluster's other work has ended, add nodes, or set LAYERPRINT_EMBED_CPUS and "
            "LAYERPRINT_EMBED_GPUS lower",
        )

    def _take(self, host: Host, ref: Any) -> list[tuple[int, Any]]:
        """What one finished call, or the death of its host, gives."""
        if ref is host.starting:
            self._started(host)
            return []
        found = outcome(ref, self._named(host.calls[ref]))
        if isinstance(found, Death):
            return self._bury(host)
        self._deaths_in_a_row = 0
        return [(host.calls.pop(ref), found)]

    def _started(self, host: Host) -> None:
        found = outcome(host.starting, f"{self._pool.name}: a process that starts")
        if not isinstance(found, Death):
            host.starting = None
            self._failed_starts = 0
            self._pool.count()
            return
        self._failed_starts += 1
        self._pool.end(host)
        if self._failed_starts == FAILED_STARTS:
            raise StageError(
                f"{self._pool.name}: {FAILED_STARTS} processes could not start, the last one because {found.reason}",
                "look at the cluster's logs: its nodes need layerprint, and the Python and Ray of this machine",
            )
        self._back_off()

    def _bury(self, host: Host) -> list[tuple[int, Any]]:
        """End a dead host: the oldest call is to blame, those behind it are sent again, each alone from now on."""
        calls = host.calls
        host.calls = {}
        self._pool.end(host)
        outcomes = [(index, outcome(ref, self._named(index))) for ref, index in calls.items()]
        finished = [(index, found) for index, found in outcomes if not isinstance(found, Death)]
        (guilty, death), *innocent = [(index, found) for index, found in outcomes if isinstance(found, Death)]
        self._suspects.update(calls.values())
        self._again.extend(index for index, _ in innocent)
        self._waiting += len(innocent)
        return [*finished, *self._blame(guilty, death)]

    def _blame(self, index: int, death: Death) -> list[tuple[int, Lost]]:
        self._deaths[index] += 1
        deaths = self._deaths[index]
        lost = deaths == (1 if self._suspect else DEATHS)
        add(TASKS_LOST if lost else TASKS_RETRIED, 1, worker=type(self._worker).__name__, reason=death.kind)
        then = "it is given up" if lost else "it is sent to another process"
        _log.warning("%s: a process died at task %d, because %s; %s", self._pool.name, index, death.reason, then)
        if lost:
            return [(index, Lost(deaths, death.reason))]
        self._again.append(index)
        self._waiting += 1
        self._back_off()
        return []

    def _back_off(self) -> None:
        time.sleep(min(BACK_OFF_S * 2**self._deaths_in_a_row, LONGEST_BACK_OFF_S))
        self._deaths_in_a_row += 1

    def _named(self, index: int) -> str:
        return f"{self._pool.name}: task {index}"
