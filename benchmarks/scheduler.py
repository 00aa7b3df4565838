"""What the driver costs, measured on the real pool, and the scheduler up to 100,000 shards, simulated with that cost.

    python -m benchmarks.scheduler [--shards 100000]

The driver's cost is that of tasks which do nothing, and of waiting for one of many calls that are under way.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import NamedTuple

import ray
import typer

from actors.ray_cluster.dispatch import IN_FLIGHT_PER_HOST
from actors.ray_cluster.local import Cluster, ClusterSettings, Pool, PoolSize
from benchmarks.line import line, machine
from benchmarks.simulation import Fleet, Outcome, shard_seconds, simulate

NO_OPS, HOSTS, PENDING = 4000, 2, 2000
SHARD_SECONDS = 20.0
"""4,096 images a shard, at about 200 images/s a host."""

SHARDS, FLEETS = 100_000, (16, 64, 256, 1024)

START_SECONDS, DEATH_EVERY = 30.0, 24 * 3600.0
NODE_HOSTS, NODE_DEATH_EVERY, NODE_AWAY = 8, 72 * 3600.0, 120.0


def no_op(task: int) -> int:
    """Return at once."""
    return task


@dataclass(frozen=True)
class DriverCost:
    """Seconds of the driver for one result: what does not depend on the fleet, and for each call under way."""

    fixed: float
    each: float

    def of(self, hosts: int) -> float:
        return self.fixed + self.each * hosts * IN_FLIGHT_PER_HOST


class Simulated(NamedTuple):
    """A fleet that runs all shards, without deaths and with them; ``ideal`` is the bare work a host in seconds."""

    ideal: float
    calm: Outcome
    rough: Outcome

    @property
    def calm_share(self) -> float:
        return self.ideal / self.calm.makespan

    @property
    def rough_share(self) -> float:
        return self.ideal / self.rough.makespan


def main(shards: int = SHARDS) -> None:
    """Print the driver's cost, and a line for each size of fleet."""
    cost = measure()
    each = f"{1e6 * cost.each:.2f} µs more for each call under way"
    typer.echo(
        f"driver of a pool: {1e3 * cost.fixed:.2f} ms a result with workers that do nothing, {each} [{machine()}]"
    )
    for hosts in FLEETS:
        fleet = simulated(shards, hosts, cost)
        figures = f"{fleet.calm.makespan / 3600:.2f} h", f"{fleet.ideal / 3600:.2f} h of bare work a host"
        note = (
            f"driver busy {fleet.calm.driver_share:.0%}; with deaths {fleet.rough_share:.3f}, "
            f"{fleet.rough.deaths.sum()} of them, at most {fleet.rough.deaths.max()} of one host"
        )
        name = f"simulated {shards:,} shards on {hosts:,} hosts"
        typer.echo(line(name, f"{fleet.calm_share:.3f} of the ideal", *figures, note))


def simulated(shards: int, hosts: int, cost: DriverCost) -> Simulated:
    """Run the shards on a fleet without trouble, and on one with it."""
    seconds = shard_seconds(shards, SHARD_SECONDS)
    calm = Fleet(hosts, driver=cost.of(hosts))
    rough = replace(
        calm,
        setup=START_SECONDS,
        death_every=DEATH_EVERY,
        node_hosts=NODE_HOSTS,
        node_death_every=NODE_DEATH_EVERY,
        node_away=NODE_AWAY,
    )
    return Simulated(seconds.sum() / hosts, simulate(seconds, calm), simulate(seconds, rough))


def measure() -> DriverCost:
    """On a Ray of our own."""
    size = PoolSize(HOSTS, cpus=0.1)
    with Cluster(ClusterSettings(embed=size, layers=size)) as cluster:
        pool = cluster.pool("layers")
        list(pool.run(no_op, range(100)))
        began = time.monotonic()
        done = sum(1 for _ in pool.run(no_op, range(NO_OPS)))
        fixed = (time.monotonic() - began) / done
        return DriverCost(fixed, waiting_seconds(pool) / PENDING)


def waiting_seconds(pool: Pool) -> float:
    """Seconds to wait for one finished call among many that are not, as `Pool.run` does for each result."""
    never = ray.remote(num_cpus=1e6)(_nothing)  # no node has room for it
    waiting = [never.remote() for _ in range(PENDING)]
    finished = ray.put(None)
    began = time.monotonic()
    for _ in range(20):
        ray.wait([*waiting, finished], num_returns=1)
    return (time.monotonic() - began) / 20


def _nothing() -> None:
    """What is never run."""


if __name__ == "__main__":
    typer.run(main)
