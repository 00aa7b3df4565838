"""The error of a search: independent simulations that miss neighbours, and look at what becomes of Â."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import beta

from scoring.checks.search_error import (
    FEW_MISSES,
    LOOSE,
    Searched,
    SearchError,
    measure_recall,
    search_check,
    search_error,
)
from scoring.score.effect import effect_size

Floats = NDArray[np.float64]


class World(NamedTuple):
    """Images around six places: distances to the six nearest training images, (n, 6) ascending, and cells."""

    p: Floats
    q: Floats
    p_cell: NDArray[np.int64]
    q_cell: NDArray[np.int64]
    train: Floats
    p_x: Floats
    q_x: Floats


@cache
def world(seed: int, copies: float = 0.0, spread: float = 1.0, n: int = 900, m: int = 700, k: int = 8) -> World:
    rng = np.random.default_rng(seed)
    places = rng.normal(scale=4, size=(6, k))
    widths = rng.uniform(0.5, 2, 6)

    def draw(count: int, wider: float = 1.0) -> tuple[Floats, NDArray[np.int64]]:
        cell = rng.integers(0, 6, count)
        return places[cell] + wider * widths[cell, None] * rng.normal(size=(count, k)), cell

    (train, _), (p, p_cell), (q, q_cell) = draw(2000), draw(n), draw(m, spread)
    copied = int(copies * m)
    q[:copied] = train[:copied] + 0.01 * rng.normal(size=(copied, k))
    near_p, near_q = (np.sort(cdist(x, train))[:, :6].copy() for x in (p, q))
    return World(near_p, near_q, p_cell, q_cell, train, p, q)


def a_hat(p: Floats, p_cell: NDArray[np.int64], q: Floats, q_cell: NDArray[np.int64]) -> float:
    """Â pair by pair: the share of pairs of each cell with the generated image farther, weighted by held-out images."""
    total = 0.0
    for cell in np.unique(p_cell):
        above = q[q_cell == cell, None] - p[p_cell == cell]
        total += above.shape[1] * float(((above > 0) + 0.5 * (above == 0)).mean())
    return total / len(p)


def searched(found: Floats, cell: NDArray[np.int64], exact: Floats, sample: NDArray[np.bool_]) -> Searched:
    first, second = (np.where(sample, exact[:, i], np.nan) for i in (0, 1))
    return Searched(found, cell, first, second)


def check_world(one: World, p: Floats, q: Floats, p_sample: int | None = None) -> tuple[float, float]:
    """(|ΔÂ| as it is, its bound) when the search found the distances p and q."""
    rng = np.random.default_rng(99)
    samples = [rng.permutation(len(x)) < (p_sample or len(x)) for x in (p, q)]
    bound = search_error(
        searched(p, one.p_cell, one.p, samples[0]), searched(q, one.q_cell, one.q, samples[1]), 0.01
    ).bound
    exact = a_hat(one.p[:, 0], one.p_cell, one.q[:, 0], one.q_cell)
    return abs(a_hat(p, one.p_cell, q, one.q_cell) - exact), bound


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("copies", "spread"), [(0.0, 1.0), (0.2, 1.0), (0.0, 1.2), (1.0, 1.0)])
@pytest.mark.parametrize("rates", [(0.9, 1.0), (1.0, 0.9), (0.95, 0.95), (0.5, 0.99), (0.998, 0.998)], ids=str)
def test_neighbours_that_are_missed_at_random(
    seed: int, copies: float, spread: float, rates: tuple[float, float]
) -> None:
    one, rng = world(seed, copies, spread), np.random.default_rng(seed + 50)
    p, q = (
        np.where(rng.random(len(x)) < rate, x[:, 0], x[:, 1]) for x, rate in zip((one.p, one.q), rates, strict=True)
    )
    change, bound = check_world(one, p, q, p_sample=300)
    assert change <= bound


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("copies", [0.0, 0.2])
@pytest.mark.parametrize("probes", [1, 2, 4, 8])
def test_neighbours_that_an_index_misses(seed: int, copies: float, probes: int) -> None:
    """Misses are not random: they lie at the borders of partitions, and may find a far neighbour."""
    one = world(seed, copies)
    centroids = one.train[np.random.default_rng(seed).choice(len(one.train), 60, replace=False)]
    home = cdist(one.train, centroids).argmin(axis=1)

    def search(x: Floats) -> Floats:
        rank = cdist(x, centroids).argsort().argsort()
        nearest: Floats = np.where(rank[:, home] < probes, cdist(x, one.train), np.inf).min(axis=1)
        return nearest

    p, q = search(one.p_x), search(one.q_x)
    rate = measure_recall(q, one.q[:, 0]).rate
    assert rate < 1 or probes > 2
    change, bound = check_world(one, p, q)
    assert change <= bound + 1e-12
    if (1 - rate) * len(q) >= FEW_MISSES:  # nor is the bound of no use
        assert bound < 4 * (1 - rate)


def test_the_formula_for_normal_distances_is_a_special_case() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.normal(10, 2, 40_000), rng.normal(10, 2, 40_000)
    epsilon, cv = 0.08, 0.2
    cell = np.zeros(40_000, int)
    missed_q = np.where(np.arange(40_000) < 2000, q * (1 + epsilon), q)
    everything = np.ones(40_000, bool)
    found = search_error(
        searched(p, cell, np.stack([p, p * (1 + epsilon)], 1), everything),
        searched(missed_q, cell, np.stack([q, q * (1 + epsilon)], 1), everything),
        0.001,
    )
    assert found.bound == pytest.approx(0.05 * epsilon / (2 * math.sqrt(math.pi) * cv), rel=0.05)


def test_the_formula_for_normal_distances_is_too_small_where_cells_differ() -> None:
    """Narrow distances in each of two cells far apart: the spread over all says nothing of what is passed."""
    rng, n = np.random.default_rng(0), 4000
    cell = np.repeat([0, 1], n // 2)
    p, q = (np.where(cell == 0, 5.0, 15.0) + rng.normal(0, 0.3, n) for _ in range(2))
    epsilon = 0.05
    lost = rng.random(n) < 0.05
    moved = np.where(lost, q * (1 + epsilon), q)
    change = a_hat(p, cell, moved, cell) - a_hat(p, cell, q, cell)
    formula = lost.mean() * epsilon / (2 * math.sqrt(math.pi) * p.std() / p.mean())
    everything = np.ones(n, bool)
    bound = search_error(
        searched(p, cell, np.stack([p, p * (1 + epsilon)], 1), everything),
        searched(moved, cell, np.stack([q, q * (1 + epsilon)], 1), everything),
        0.01,
    ).bound
    assert 3 * formula < change <= bound < 1.5 * change


@pytest.mark.parametrize(("queries", "misses"), [(1000, 0), (1000, 1), (40, 40), (1, 0), (5000, 17)])
def test_the_interval_is_that_of_clopper_and_pearson(queries: int, misses: int) -> None:
    exact = np.ones(queries)
    found = measure_recall(np.where(np.arange(queries) < misses, 1.1, 1.0), exact)
    hits = queries - misses
    low = beta.ppf(0.025, hits, misses + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, misses) if misses else 1.0
    assert (found.queries, found.misses) == (queries, misses)
    assert (found.low, found.rate, found.high) == pytest.approx((low, hits / queries, high))


def test_the_rounding_of_an_index_is_no_miss_and_a_nearer_one_is_an_error() -> None:
    exact = np.array([1.0, 0.0, 3.0])
    assert measure_recall(exact * (1 + 1e-7), exact).misses == 0
    assert measure_recall(np.array([1.0, 1e-9, 3.0]), exact).misses == 1  # a copy that was not found
    with pytest.raises(ValueError, match="nearer than the nearest"):
        measure_recall(np.array([0.9, 0.0, 3.0]), exact)


def test_a_set_that_was_sampled_whole_has_no_unknown_misses() -> None:
    one = world(0)
    assert max(check_world(one, one.p[:, 0], one.q[:, 0])) == 0
    change, bound = check_world(one, one.p[:, 0], one.q[:, 0], p_sample=400)
    assert change == 0
    assert 0 < bound < 0.004


def test_nothing_sampled_is_nothing_known() -> None:
    one = world(0)
    p, q = one.p[:, 0], one.q[:, 0]
    never = np.zeros(len(p), bool)
    found = search_error(
        searched(p, one.p_cell, one.p, never),
        searched(q, one.q_cell, one.q, np.ones(len(q), bool)),
        0.01,
    )
    assert math.isnan(found.held_out.rate)
    assert (found.held_out.low, found.held_out.high, found.bound) == (0, 1, 1)
    assert found.loose


@pytest.mark.usefixtures("slow")
def test_the_standard_error_of_an_honest_release_is_the_least() -> None:
    """A release of copies alone has none of its own."""
    one = world(1, copies=1.0)
    p, q = one.p[:, 0], one.q[:, 0]
    everything = [np.ones(len(x), bool) for x in (p, q)]
    sets = searched(p, one.p_cell, one.p, everything[0]), searched(q, one.q_cell, one.q, everything[1])
    assert effect_size(p, one.p_cell, q, one.q_cell).se < 0.002
    rng = np.random.default_rng(0)
    honest = [a_hat(rng.random(len(p)), one.p_cell, rng.random(len(q)), one.q_cell) for _ in range(600)]
    assert search_error(*sets, 0.0).se == pytest.approx(np.std(honest), rel=0.1)
    assert search_error(*sets, 0.3).se == 0.3


def test_dropped_cells_do_not_count() -> None:
    one = world(2)
    p, q = one.p[:, 0], np.where(one.q_cell == 0, one.q[:, 5], one.q[:, 0])
    cells = [np.where(cell == 0, -1, cell) for cell in (one.p_cell, one.q_cell)]
    held_out = searched(p, cells[0], one.p, np.ones(len(p), bool))
    release = searched(q, cells[1], one.q, np.ones(len(q), bool))
    assert measure_recall(q, one.q[:, 0]).misses == (cells[1] < 0).sum()
    kept = search_error(held_out, release, 0.01)
    assert kept.release.misses > FEW_MISSES
    assert kept.bound < 0.3 * kept.release.misses / len(q)
    with pytest.raises(ValueError, match="no group"):
        search_error(held_out, searched(q, np.full(len(q), -1), one.q, np.ones(len(q), bool)), 0.01)


def test_a_loose_bound_fails_the_check_with_a_remedy() -> None:
    good, bad = (
        measure_recall(np.ones(1000), np.ones(1000)),
        measure_recall(np.where(np.arange(1000) < 30, 2.0, 1.0), np.ones(1000)),
    )
    exact = SearchError(good, good, LOOSE * 0.01, 0.01)
    loose = SearchError(good, bad, 0.003, 0.01)
    assert (exact.loose, loose.loose) == (False, True)
    passed, failed = search_check({2: exact}), search_check({2: exact, 7: loose})
    assert (passed.name, passed.passed, passed.value, passed.remedy) == ("search", True, LOOSE, "")
    assert (failed.passed, failed.severity) == (False, "invalid")
    assert failed.value == pytest.approx(0.3)
    assert "layer 7" in failed.sentence
    assert "recall 0.9700 (0.9574–0.9797) on 1000 generated" in failed.sentence
    assert "off by at most 0.003, 0.3 of its standard error" in failed.sentence
    assert "scoring.search: in_cell" in failed.remedy
    assert search_check({}).sentence.endswith("inside its cell")
