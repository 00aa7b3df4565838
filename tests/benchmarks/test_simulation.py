"""The simulated scheduler against theory, a plain list scheduler, and the real pool."""

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Iterator, Sequence
from math import inf

import numpy as np
import pytest
import ray

from actors.ray_cluster.dispatch import IN_FLIGHT_PER_HOST
from actors.ray_cluster.local import Pool, PoolSize
from benchmarks.simulation import Fleet, shard_seconds, simulate

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's processes cannot import a test


def list_schedule(seconds: Sequence[float], hosts: int) -> float:
    """Makespan when each shard goes to the host that is free first (Graham 1966)."""
    loads = [0.0] * hosts
    for work in seconds:
        heapq.heappush(loads, heapq.heappop(loads) + work)
    return max(loads)


@pytest.mark.parametrize("hosts", [1, 3, 16, 200])
@pytest.mark.parametrize("seed", range(5))
class TestTheory:
    def test_one_call_a_host_is_list_scheduling(self, hosts: int, seed: int) -> None:
        seconds = shard_seconds(150, 10.0, spread=0.5, stragglers=0.1, seed=seed)
        made = simulate(seconds, Fleet(hosts, in_flight=1)).makespan
        assert made == pytest.approx(list_schedule(seconds.tolist(), hosts))
        assert made <= seconds.sum() / hosts + (1 - 1 / hosts) * seconds.max() + 1e-9

    def test_a_call_that_waits_costs_one_longest_shard_at_most(self, hosts: int, seed: int) -> None:
        seconds = shard_seconds(150, 10.0, spread=0.5, stragglers=0.1, seed=seed)
        made = simulate(seconds, Fleet(hosts)).makespan
        assert max(seconds.sum() / hosts, seconds.max()) - 1e-9 <= made
        assert made <= seconds.sum() / hosts + IN_FLIGHT_PER_HOST * seconds.max()


def test_what_waits_at_a_host_hides_the_driver() -> None:
    seconds = np.full(400, 1.0)
    assert simulate(seconds, Fleet(1, in_flight=2, driver=0.5)).makespan == pytest.approx(400.5)
    assert simulate(seconds, Fleet(1, in_flight=1, driver=0.5)).makespan == pytest.approx(600.0)


def test_a_driver_that_is_too_slow_is_the_limit() -> None:
    made = simulate(np.full(5000, 1.0), Fleet(1000, driver=0.01))
    assert made.makespan == pytest.approx(5000 * 0.01, rel=0.03)
    assert made.driver_share > 0.97


def test_deaths_come_as_often_as_they_should_and_cost_half_a_shard_and_a_start() -> None:
    seconds, fleet = np.full(20_000, 60.0), Fleet(50, setup=20.0, death_every=3600.0)
    made = simulate(seconds, fleet)
    expected = 50 * made.makespan / 3600.0
    assert abs(made.deaths.sum() - expected) < 4 * expected**0.5
    assert made.lost / made.deaths.sum() == pytest.approx(30.0, rel=0.15)
    busy = seconds.sum() + made.lost + 20.0 * (50 + made.deaths.sum())
    assert made.makespan * 50 == pytest.approx(busy, rel=0.01)


def test_a_lost_node_takes_its_hosts() -> None:
    fleet = Fleet(64, node_hosts=8, node_death_every=5000.0, node_away=100.0)
    made = simulate(np.full(20_000, 10.0), fleet)
    assert made.deaths.sum() > 0
    assert (made.deaths.reshape(8, 8) == made.deaths[::8, None]).all()


def test_nothing_happens_without_deaths_and_equal_seeds_give_equal_runs() -> None:
    seconds = shard_seconds(500, 2.0)
    calm = simulate(seconds, Fleet(7))
    assert (calm.lost, calm.deaths.sum()) == (0.0, 0)
    rough = Fleet(7, death_every=100.0)
    assert simulate(seconds, rough, seed=1).makespan == simulate(seconds, rough, seed=1).makespan
    assert simulate(seconds, rough, seed=1).makespan > calm.makespan
    assert rough.node_death_every == inf


# -- the real pool -----------------------------------------------------------------------------------------------


def sleep(seconds: float) -> float:
    """Take this long."""
    time.sleep(seconds)
    return seconds


@pytest.fixture
def pool(local_ray: None) -> Iterator[Pool]:
    made = Pool("simulated", PoolSize(4, cpus=0.1))
    yield made
    made.close()


def test_the_real_pool_takes_as_long_as_the_simulated_one(pool: Pool) -> None:
    """Within 10 % and half a second: a shard that waits behind a long one tells two in flight from a list scheduler."""
    seconds = shard_seconds(60, 0.12, spread=0.6, stragglers=0.05, slower=6.0, seed=3).tolist()
    list(pool.run(sleep, [0.2] * 8))  # all hosts are there
    began = time.monotonic()
    done = list(pool.run(sleep, seconds))
    took = time.monotonic() - began
    assert len(done) == 60
    assert took == pytest.approx(simulate(seconds, Fleet(4)).makespan, rel=0.1, abs=0.5)


def test_the_tail_of_the_real_pool_is_the_simulated_one(pool: Pool) -> None:
    """Four shards of a second wait behind nothing; the fifth waits behind the first, though another host is idle."""
    seconds = [1.0, 0.05, 0.05, 0.05, 1.0]
    list(pool.run(sleep, [0.2] * 8))
    began = time.monotonic()
    list(pool.run(sleep, seconds))
    assert time.monotonic() - began == pytest.approx(simulate(seconds, Fleet(4)).makespan, abs=0.5)
    assert simulate(seconds, Fleet(4)).makespan == 2.0
    assert simulate(seconds, Fleet(4, in_flight=1)).makespan == pytest.approx(1.05)
