"""Bounds on the number of copies, by simulation and in their limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta

from scoring.copies.copy_counts import LEVEL, copy_counts, rank_grid, simultaneous_error, upper_rate

DRAWS = 600


def within(share: float, level: float) -> bool:
    """Whether a simulated error is at its level, up to three standard errors."""
    return share <= level + 3 * math.sqrt(level * (1 - level) / DRAWS)


@pytest.mark.parametrize(("n", "m"), [(60, 500), (1000, 100)])
@pytest.mark.parametrize("planted", [0, 3, 30])
def test_at_least_is_seldom_too_high(n: int, m: int, planted: int) -> None:
    rng = np.random.default_rng(n + m + planted)
    strength = rng.choice([0.5, 1.5, 4.0])
    wrong = claimed = 0
    for _ in range(DRAWS):
        scores = rng.exponential(size=n + m)
        scores[:planted] += strength
        counts = copy_counts(scores[m:], scores[:m])
        wrong += counts.at_least > planted
        claimed += counts.low > 0
    assert within(wrong / DRAWS, 0.05)
    if not planted:
        assert within(claimed / DRAWS, 0.05)
        assert claimed / DRAWS > 0.005  # the bound is not far below its level


def test_strong_copies_are_all_counted() -> None:
    rng = np.random.default_rng(0)
    counts = copy_counts(rng.exponential(size=5000), np.append(rng.exponential(size=980), np.full(20, 99.0)))
    assert counts.rank == 1
    assert 18 <= counts.at_least <= 20
    assert 0.01 < counts.low < 0.02
    assert counts.p_value < 1e-6


def test_weak_copies_show_at_a_larger_rank() -> None:
    """None of them passes the highest held-out scores, all pass 99 % of the others."""
    rng = np.random.default_rng(0)
    held_out = rng.exponential(size=5000)
    weak = np.full(60, np.sort(held_out)[-20])
    counts = copy_counts(held_out, np.append(rng.exponential(size=940), weak))
    assert counts.rank == counts.ranks[-1] == 32
    assert counts.hits[0] <= 1
    assert 40 < counts.at_least <= 60


def test_ties_with_a_threshold_are_no_hits() -> None:
    counts = copy_counts(np.zeros(100), np.zeros(500))
    assert counts.hits == (0,) * len(counts.ranks)
    assert counts.low == 0


def test_the_family_error_lies_between_bonferroni_and_one_test() -> None:
    for n, m in ((30, 30), (99, 100), (1000, 1000), (5000, 200)):
        assert 0.05 / len(rank_grid(n)) <= simultaneous_error(n, m) <= 1 - LEVEL


def test_the_upper_bound_falls_with_images_and_rises_with_hits() -> None:
    """Version 0.1.0: 0 hits of 500 gave 0.008 %, of 510 gave 0.72 %."""
    bounds = [upper_rate(0, m, 10, 1000) for m in (300, 500, 510, 2000)]
    assert bounds == sorted(bounds, reverse=True)
    hits = [upper_rate(k, 500, 10, 1000) for k in range(0, 40, 3)]
    assert hits == sorted(hits)
    assert upper_rate(500, 500, 10, 1000) == 1.0


def test_without_background_it_is_the_bound_of_clopper_and_pearson() -> None:
    for k in (0, 1, 7):
        assert upper_rate(k, 400, 1, 10**7) == pytest.approx(float(beta.ppf(0.95, k + 1, 400 - k)), rel=0.02)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05])
def test_the_rate_is_seldom_above_its_upper_bound(rate: float) -> None:
    rng = np.random.default_rng(1)
    below = 0
    for _ in range(DRAWS):
        threshold = np.sort(rng.uniform(size=400))[3]
        hits = rng.binomial(300, rate + (1 - rate) * threshold)
        below += upper_rate(int(hits), 300, 4, 400) < rate
    assert within(below / DRAWS, 0.05)


def test_counts_must_fit() -> None:
    with pytest.raises(ValueError, match="0 <= k <= m"):
        upper_rate(5, 4, 1, 10)
