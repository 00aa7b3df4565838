from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import mannwhitneyu, norm

from scoring.score.mann_whitney import cell_rank_tests
from scoring.score.placements import placements
from tests.scoring import oracle

coarse = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=25)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(coarse, coarse)
def test_one_cell_agrees_with_loops_and_with_scipy(ps: list[float], qs: list[float]) -> None:
    p, q = np.array(ps), np.array(qs)
    [test] = cell_rank_tests(p, np.zeros(len(p), int), q, np.zeros(len(q), int))
    assert test.u == oracle.u_statistic(ps, qs)
    assert test.z_published == pytest.approx(oracle.z_published(ps, qs), abs=1e-12)
    if len(set(ps + qs)) == 1:
        assert test.z == 0.0
    else:
        scipy_p = mannwhitneyu(q, p, use_continuity=False, method="asymptotic").pvalue
        assert 2 * norm.sf(abs(test.z)) == pytest.approx(scipy_p, abs=1e-12)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(coarse, coarse)
def test_placements_agree_with_loops(ps: list[float], qs: list[float]) -> None:
    placed = placements(np.array(ps), np.array(qs))
    assert placed.q.tolist() == [oracle.u_statistic(ps, [q]) for q in qs]
    assert placed.p.tolist() == [oracle.u_statistic([p], qs) for p in ps]
    together = ps + qs
    assert placed.tie_term == sum(together.count(v) ** 3 - together.count(v) for v in set(together))


def test_cells_are_tested_apart_and_dropped_or_one_sided_ones_left_out() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=200), rng.normal(size=150)
    cell_p, cell_q = rng.integers(-1, 4, 200), rng.integers(-1, 3, 150)
    tests = cell_rank_tests(p, cell_p, q, cell_q)
    assert [test.cell for test in tests] == [0, 1, 2]
    for test in tests:
        ps, qs = p[cell_p == test.cell].tolist(), q[cell_q == test.cell].tolist()
        assert (test.n, test.m, test.u) == (len(ps), len(qs), oracle.u_statistic(ps, qs))


def test_infinite_distances_rank_last_and_tie_with_each_other() -> None:
    one = np.zeros(2, int)
    [test] = cell_rank_tests(np.array([1.0, np.inf]), one, np.array([np.inf, 0.0]), one)
    assert test.u == 1.5
    assert math.isfinite(test.z)


def test_bad_distances_are_named() -> None:
    one = np.zeros(2, int)
    with pytest.raises(ValueError, match="dist_q holds 1 NaN"):
        cell_rank_tests(np.zeros(2), one, np.array([0.0, np.nan]), one)
    with pytest.raises(ValueError, match="dist_p must be a non-empty vector"):
        cell_rank_tests(np.zeros(0), one[:0], np.zeros(2), one)
    with pytest.raises(ValueError, match="dist_p: 2 distances but cells of shape"):
        cell_rank_tests(np.zeros(2), one[:1], np.zeros(2), one)
