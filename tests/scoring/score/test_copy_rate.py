from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.integrate import quad
from scipy.stats import beta, betabinom, binom, binomtest

from scoring.score.copy_rate import chance_at_least, copy_rate, copy_rate_bounds, tail_rank


@pytest.mark.parametrize(
    ("k", "m", "r", "n"),
    [(3, 100, 1, 99), (24, 500, 10, 1000), (150, 10_000, 100, 10_000), (9, 50_000, 1, 500)],
)
def test_chance_without_copies_is_beta_binomial(k: int, m: int, r: int, n: int) -> None:
    assert chance_at_least(k, m, r, n, 0.0) == pytest.approx(betabinom.sf(k - 1, m, r, n + 1 - r), abs=1e-9)


@pytest.mark.parametrize(("k", "m", "r", "n", "c"), [(8, 200, 2, 250, 0.02), (700, 20_000, 3, 300, 0.02)])
def test_chance_with_copies_is_the_integral_over_the_background(k: int, m: int, r: int, n: int, c: float) -> None:
    def integrand(b: float) -> float:
        return float(binom.sf(k - 1, m, c + (1 - c) * b) * beta.pdf(b, r, n + 1 - r))

    integral, _ = quad(integrand, 0, 1, points=[r / n, 3 * r / n, 10 * r / n], epsabs=1e-11, limit=400)
    assert chance_at_least(k, m, r, n, c) == pytest.approx(integral, abs=1e-8)


def test_chance_with_copies_is_the_finite_sum_over_their_number() -> None:
    k, m, r, n, c = 6, 40, 2, 60, 0.05
    total = sum(
        binom.pmf(j, m, c) * (1.0 if j >= k else betabinom.sf(k - j - 1, m - j, r, n + 1 - r)) for j in range(m + 1)
    )
    assert chance_at_least(k, m, r, n, c) == pytest.approx(total, abs=1e-10)


def test_bounds_invert_the_two_one_sided_tests() -> None:
    low, high = copy_rate_bounds(24, 500, 10, 1000, 0.9)
    assert chance_at_least(24, 500, 10, 1000, low) == pytest.approx(0.05, abs=1e-7)
    assert 1 - chance_at_least(25, 500, 10, 1000, high) == pytest.approx(0.05, abs=1e-7)


def test_known_threshold_leaves_the_binomial_interval() -> None:
    exact = binomtest(40, 400).proportion_ci(0.95, method="exact")
    low, high = copy_rate_bounds(40, 400, 1, 10_000_000, 0.95)
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=1e-6)


def test_bounds_at_the_edges() -> None:
    assert copy_rate_bounds(0, 500, 5, 500, 0.95).low == 0.0
    assert copy_rate_bounds(500, 500, 5, 500, 0.95).high == 1.0
    farther = copy_rate_bounds(0, 10_000, 100, 10_000, 0.95)
    assert farther.low == 0.0
    assert farther.high == pytest.approx(binomtest(0, 10_000).proportion_ci(0.95, method="exact").high)
    loose, strict = copy_rate_bounds(20, 500, 5, 500, 0.95, tied=30), copy_rate_bounds(20, 500, 5, 500, 0.95)
    assert loose.low == strict.low
    assert loose.high == copy_rate_bounds(50, 500, 5, 500, 0.95).high
    with pytest.raises(ValueError, match="k=7, tied=0, m=5"):
        copy_rate_bounds(7, 5, 1, 100, 0.95)
    with pytest.raises(ValueError, match="level"):
        copy_rate_bounds(1, 5, 1, 100, 1.0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 400), st.integers(100, 3000), st.data())
def test_bounds_hold_the_rate_and_widen_with_the_level(m: int, n: int, data: st.DataObject) -> None:
    k, r = data.draw(st.integers(0, m)), data.draw(st.integers(1, n // 20))
    narrow, wide = copy_rate_bounds(k, m, r, n, 0.8), copy_rate_bounds(k, m, r, n, 0.99)
    assert 0 <= wide.low <= narrow.low <= narrow.high <= 1
    assert narrow.low <= k / m
    if k < m:
        assert copy_rate_bounds(k + 1, m, r, n, 0.8).low >= narrow.low


@pytest.mark.parametrize("c", [0.0, 0.03])
def test_interval_covers_the_planted_share_with_drawn_distances(c: float) -> None:
    rng = np.random.default_rng(0)
    covered = flagged = 0
    for _ in range(800):
        p, q = rng.random(400), rng.random(300)
        q[rng.random(300) < c] = -1.0
        found = copy_rate(p, q, level=0.9)
        assert found is not None
        covered += found.low <= c <= found.high
        flagged += found.p_value <= 0.05
    assert covered / 800 >= 0.88
    assert flagged / 800 <= 0.06 if c == 0 else flagged / 800 > 0.5


def test_interval_covers_as_often_as_it_says_under_the_model_itself() -> None:
    n, m, r, c = 1000, 800, 10, 0.05
    rng = np.random.default_rng(1)
    draws = rng.binomial(m, c + (1 - c) * rng.beta(r, n + 1 - r, 4000))
    bounds = {k: copy_rate_bounds(k, m, r, n, 0.9) for k in set(draws.tolist())}
    outside_low = np.mean([bounds[k].low > c for k in draws.tolist()])
    outside_high = np.mean([bounds[k].high < c for k in draws.tolist()])
    assert 0.03 < outside_low <= 0.06
    assert 0.03 < outside_high <= 0.06


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 50), min_size=99, max_size=300),
    st.lists(st.integers(0, 50), min_size=1, max_size=50),
)
def test_counts_agree_with_loops_whatever_the_ties(ps: list[int], qs: list[int]) -> None:
    found = copy_rate(np.array(ps, float), np.array(qs, float))
    assert found is not None
    assert found.r == (len(ps) + 1) // 100
    assert found.threshold == sorted(ps)[found.r - 1]
    assert (found.k, found.tied) == (sum(q < found.threshold for q in qs), qs.count(int(found.threshold)))
    share = found.r / (len(ps) + 1)
    assert found.rate == pytest.approx(max(0, (found.k / len(qs) - share) / (1 - share)))
    assert found.low <= found.rate <= found.high


def test_ties_with_contaminated_held_out_images_give_no_false_safety() -> None:
    p, q = np.linspace(0.0, 1.0, 1000), np.linspace(0.0, 1.0, 500)
    p[:20], q[:200] = 0.0, 0.0
    found = copy_rate(p, q)
    assert found is not None
    assert (found.threshold, found.k, found.tied, found.low) == (0.0, 0, 200, 0.0)
    assert found.high > 0.4


def test_five_per_cent_planted_copies_are_seen_behind_extra_spread() -> None:
    rng = np.random.default_rng(2)
    p, q = 1 + rng.random(3000), 1.03 * (1 + rng.random(3000))
    q[:150] = 0.01
    found = copy_rate(p, q)
    assert found is not None
    assert found.low > 0.01
    assert found.p_value < 1e-6


def test_a_tail_without_enough_held_out_images_is_not_measured() -> None:
    assert copy_rate(np.linspace(1.0, 2.0, 98), np.ones(50)) is None
    assert copy_rate(np.linspace(1.0, 2.0, 99), np.ones(50)) is not None
    assert [tail_rank(n, 0.01) for n in range(99, 5000, 100)] == list(range(1, 51))
    assert all(tail_rank(n, 0.001) == math.floor((n + 1) / 1000) for n in range(900, 9000))
    with pytest.raises(ValueError, match="alpha"):
        tail_rank(100, 0)
