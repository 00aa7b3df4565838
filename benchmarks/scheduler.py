"""What the driver costs, measured on the real pool, and the scheduler up to 100,000 shards, simulated with that cost.

    python -m benchmarks.scheduler [--shards 100000]

The driver's cost is that of workers which do nothing, and of waiting for one of many calls that are under way.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import ray
import typer

from actors.cluster import IN_FLIGHT_PER_HOST, Cluster, ClusterSettings, Pool, PoolSize
from benchmarks.line import line
from benchmarks.simulation import Fleet, shard_seconds, simulate

NO_OPS, HOSTS, PENDING = 4000, 2, 2000
SHARD_SECONDS = 20.0
"""4,096 images a shard, at about 200 images/s a host."""

TROUBLE = {"setup": 30.0, "death_every": 24 * 3600.0, "node_hosts": 8, "node_death_every": 72 * 3600.0}
NODE_AWAY = 120.0


@dataclass(frozen=True)
class NoOp:
    """A worker that does nothing."""

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, task: int) -> int:
        """At once."""
        return task

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True)
class DriverCost:
    """Seconds of the driver for one result: what does not depend on the fleet, and for each call under way."""

    fixed: float
    each: float

    def of(self, hosts: int) -> float:
        return self.fixed + self.each * hosts * IN_FLIGHT_PER_HOST


def main(shards: int = 100_000) -> None:
    """Print the driver's cost, and a line for each size of fleet."""
    cost = measure()
    calls = f"{1e3 * cost.fixed:.2f} ms, and {1e6 * cost.each:.2f} µs for each of {PENDING:,} calls under way"
    typer.echo(line("driver of a pool, one result", f"{1 / cost.fixed:,.0f} a second", calls, "workers that do nothing"))
    for hosts in (16, 64, 256, 1024):
        typer.echo(fleet_line(shards, hosts, cost))


def fleet_line(shards: int, hosts: int, cost: DriverCost) -> str:
    """The simulated fleet against one without driver, stragglers and deaths."""
    seconds = shard_seconds(shards, SHARD_SECONDS)
    calm = simulate(seconds, Fleet(hosts, driver=cost.of(hosts)))
    rough = simulate(seconds, replace(Fleet(hosts, driver=cost.of(hosts), node_away=NODE_AWAY), **TROUBLE))
    ideal = seconds.sum() / hosts
    figures = f"{calm.makespan / 3600:.2f} h", f"{ideal / 3600:.2f} h of bare work a host"
    note = (
        f"driver busy {calm.driver_share:.0%}; with deaths {ideal / rough.makespan:.3f}, "
        f"{rough.deaths.sum()} of them, at most {rough.deaths.max()} of one host"
    )
    name = f"simulated {shards:,} shards on {hosts:,} hosts"
    return line(name, f"{ideal / calm.makespan:.3f} of the ideal", *figures, note)


def measure() -> DriverCost:
    """On a Ray of our own."""
    size = PoolSize(HOSTS, cpus=0.1)
    with Cluster(ClusterSettings(embed=size, layers=size)) as cluster:
        pool = cluster.pool("layers")
        list(pool.run(NoOp(), range(100)))
        began = time.monotonic()
        done = sum(1 for _ in pool.run(NoOp(), range(NO_OPS)))
        fixed = (time.monotonic() - began) / done
        return DriverCost(fixed, waiting_seconds(pool) / PENDING)


def waiting_seconds(pool: Pool) -> float:
    """Seconds to wait for one finished call among many that are not, as `Pool.run` does for each result."""

    @ray.remote
    def never() -> None:
        time.sleep(3600)

    waiting = [never.options(num_cpus=1e6).remote() for _ in range(PENDING)]  # no node has room for them
    finished = ray.put(None)
    began = time.monotonic()
    for _ in range(20):
        ray.wait([*waiting, finished], num_returns=1)
    return (time.monotonic() - began) / 20


if __name__ == "__main__":
    typer.run(main)
