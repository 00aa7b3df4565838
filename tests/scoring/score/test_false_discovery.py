from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from scoring.score.conformal import conformal_p
from scoring.score.false_discovery import discoveries, fewest_discoveries


def step_up(p: list[float], level: float) -> list[bool]:
    """Benjamini & Hochberg as they wrote it: the largest k with p_(k) ≤ k·level/m."""
    ordered = sorted(p)
    passing = [k for k in range(1, len(p) + 1) if ordered[k - 1] <= k * level / len(p) * (1 + 1e-12)]
    limit = ordered[max(passing) - 1] if passing else -1.0
    return [value <= limit for value in p]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 200).map(lambda k: k / 200), min_size=1, max_size=30), st.sampled_from([0.05, 0.1, 0.3]))
def test_agrees_with_the_step_up_rule(p: list[float], level: float) -> None:
    assert discoveries(np.array(p), level).tolist() == step_up(p, level)


def test_share_of_false_ones_is_kept_over_held_out_samples() -> None:
    """Also when all p-values share a small held-out sample."""
    rng = np.random.default_rng(0)
    shares, found = [], 0
    for _ in range(1500):
        p = conformal_p(rng.normal(size=200), np.append(rng.normal(-4, 0.5, 20), rng.normal(size=80)))
        listed = discoveries(p, 0.1)
        shares.append(listed[20:].sum() / max(1, listed.sum()))
        found += int(listed[:20].sum())
    assert 0.05 < np.mean(shares) <= 0.1
    assert found / 1500 / 20 > 0.8


@pytest.mark.parametrize(("n", "m", "level"), [(1000, 500, 0.1), (99, 500, 0.1), (5000, 500, 0.1), (999, 100, 0.05)])
def test_fewest_discoveries_is_where_the_list_begins(n: int, m: int, level: float) -> None:
    k = fewest_discoveries(n, m, level)
    held_out: NDArray[np.float64] = np.linspace(1.0, n, n)

    def listed(near: int) -> int:
        return int(discoveries(conformal_p(held_out, np.repeat([0.5, n + 2.0], [near, m - near])), level).sum())

    assert listed(k) == k
    assert listed(k - 1) == 0


def test_bad_input_is_named() -> None:
    assert discoveries(np.zeros(0)).tolist() == []
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        discoveries(np.array([0.0]))
    with pytest.raises(ValueError, match="level"):
        discoveries(np.array([0.5]), 10)
