"""A discrete-event simulation of the scheduler of `actors.ray_cluster.local.Pool`: hosts, shards, deaths, one driver.

What it holds of the real one: a host runs its calls one after the other and at most a few wait at it; the driver takes
one result at a time and sends the host that gave it the next shard; a host that dies loses the shard it was at, comes
back after a while and does all of its calls again; a lost node takes all of its hosts along.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Fleet:
    """Hosts, and what happens to them; all times in seconds.

    Attributes:
        hosts: Host actors.
        in_flight: Calls that a host has at most, the running one among them.
        driver: What the driver needs for one result, and to send the next shard.
        setup: From the start of a host's process until it can work.
        death_every: Mean time of a host between deaths of its own.
        node_hosts: Hosts on a node.
        node_death_every: Mean time of a node between losses.
        node_away: Until the hosts of a lost node find room elsewhere.
    """

    hosts: int
    in_flight: int = 2
    driver: float = 0.0
    setup: float = 0.0
    death_every: float = inf
    node_hosts: int = 1
    node_death_every: float = inf
    node_away: float = 0.0


class Outcome(NamedTuple):
    """What came of a run.

    Attributes:
        makespan: Seconds from the start to the last result.
        efficiency: Share of the hosts' time that went into shards whose results count.
        driver_share: Share of the time that the driver was at work.
        lost: Host seconds of work that was done in vain.
        deaths: By host, (hosts,) int64.
    """

    makespan: float
    efficiency: float
    driver_share: float
    lost: float
    deaths: NDArray[np.int64]


@dataclass(slots=True)
class _Host:
    """A host's calls, oldest first; ``life`` tells events of an earlier process from those of this one."""

    calls: deque[int] = field(default_factory=deque)
    life: int = 0
    free: float = 0.0
    began: float = inf
    deaths: int = 0


def simulate(seconds: Sequence[float] | NDArray[np.float64], fleet: Fleet, seed: int = 0) -> Outcome:
    """Run all shards.

    Args:
        seconds: (shards,) work of each shard, in the order they are sent.
        fleet: What does it.
        seed: Of the deaths.

    >>> simulate([3.0, 1.0, 1.0, 1.0], Fleet(hosts=2, in_flight=1)).makespan
    3.0
    """
    return _Run(np.asarray(seconds, np.float64), fleet, seed).run()


class _Run:
    """One simulation; an event is (time, order, what, of whom, life)."""

    def __init__(self, seconds: NDArray[np.float64], fleet: Fleet, seed: int) -> None:
        self._seconds, self._fleet = seconds.tolist(), fleet
        self._rng = np.random.default_rng(seed)
        self._hosts = [_Host(free=fleet.setup) for _ in range(fleet.hosts)]
        self._queue = iter(range(len(seconds)))
        self._events: list[tuple[float, int, str, int, int]] = []
        self._order = count()
        self._driver_free = self._driver_busy = self._lost = self._last = 0.0
        self._left = len(seconds)

    def run(self) -> Outcome:
        for _ in range(self._fleet.in_flight):
            for host in range(len(self._hosts)):
                self._send(0.0, host)
        for host in range(len(self._hosts)):
            self._later(self._rng.exponential(self._fleet.death_every), "death", host)
        for node in range(0, len(self._hosts), self._fleet.node_hosts):
            self._later(self._rng.exponential(self._fleet.node_death_every), "node", node)
        while self._left:
            time, _, what, whom, life = heappop(self._events)
            getattr(self, f"_{what}")(time, whom, life)
        work = sum(self._seconds)
        makespan = max(self._last, 1e-12)
        return Outcome(
            makespan=self._last,
            efficiency=work / (self._fleet.hosts * makespan),
            driver_share=self._driver_busy / makespan,
            lost=self._lost,
            deaths=np.array([host.deaths for host in self._hosts]),
        )

    def _later(self, time: float, what: str, whom: int, life: int = 0) -> None:
        if time < inf:
            heappush(self._events, (time, next(self._order), what, whom, life))

    def _send(self, now: float, host: int) -> None:
        """The driver gives a host the next shard, if there is one."""
        shard = next(self._queue, None)
        if shard is not None:
            self._hosts[host].calls.append(shard)
            if len(self._hosts[host].calls) == 1:
                self._begin(now, host)

    def _begin(self, now: float, host: int) -> None:
        """A host takes up its oldest call."""
        one = self._hosts[host]
        one.began = max(now, one.free)
        self._later(one.began + self._seconds[one.calls[0]], "done", host, one.life)

    def _done(self, now: float, host: int, life: int) -> None:
        """A shard is finished: the host goes on, the driver sees to the result when it can."""
        one = self._hosts[host]
        if life != one.life:
            return
        one.calls.popleft()
        one.began = inf
        if one.calls:
            self._begin(now, host)
        self._driver_free = max(now, self._driver_free) + self._fleet.driver
        self._driver_busy += self._fleet.driver
        self._later(self._driver_free, "result", host)

    def _result(self, now: float, host: int, _: int) -> None:
        self._left -= 1
        self._last = now
        self._send(now, host)

    def _death(self, now: float, host: int, _: int) -> None:
        self._fall(now, host, self._fleet.setup)
        self._later(now + self._rng.exponential(self._fleet.death_every), "death", host)

    def _node(self, now: float, first: int, _: int) -> None:
        for host in range(first, min(first + self._fleet.node_hosts, len(self._hosts))):
            self._fall(now, host, self._fleet.node_away + self._fleet.setup)
        self._later(now + self._rng.exponential(self._fleet.node_death_every), "node", first)

    def _fall(self, now: float, host: int, away: float) -> None:
        """A host's process ends; another takes its place and its calls."""
        one = self._hosts[host]
        self._lost += max(0.0, now - one.began)
        one.life += 1
        one.deaths += 1
        one.free = now + away
        if one.calls:
            self._begin(now, host)


def shard_seconds(
    shards: int, mean: float, spread: float = 0.1, stragglers: float = 0.01, slower: float = 5.0, seed: int = 0
) -> NDArray[np.float64]:
    """Work of shards: log-normal around a mean, a few of them much slower (a slow disk, a throttled store).

    Args:
        shards: Their number.
        mean: Mean of the others, in seconds.
        spread: Standard deviation of the logarithm.
        stragglers: Share that is slower.
        slower: By this factor.
        seed: Of the draw.

    Returns:
        (shards,) float64.
    """
    rng = np.random.default_rng(seed)
    seconds = mean * rng.lognormal(-(spread**2) / 2, spread, shards)
    return np.where(rng.random(shards) < stragglers, slower * seconds, seconds)
