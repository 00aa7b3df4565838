from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.neighbors import NearestNeighbors

from scoring.score.authenticity import authentic_share, compare_authenticity, share_of


def test_agrees_with_loops_and_the_beta_quantiles() -> None:
    rng = np.random.default_rng(0)
    train, queries = rng.normal(size=(60, 3)), rng.normal(size=(50, 3))
    queries[:10] = train[:10] + 1e-3
    distance, winner = NearestNeighbors(n_neighbors=1).fit(train).kneighbors(queries)
    gaps = NearestNeighbors(n_neighbors=2).fit(train).kneighbors(train)[0][:, 1]
    share = authentic_share(distance[:, 0], gaps[winner[:, 0]])
    count = 0
    for query in queries:
        nearest = min(range(60), key=lambda t: float(np.linalg.norm(query - train[t])))
        gap = min(float(np.linalg.norm(train[nearest] - train[t])) for t in range(60) if t != nearest)
        count += float(np.linalg.norm(query - train[nearest])) > gap
    assert (share.k, share.m, share.rate) == (count, 50, count / 50)
    assert 10 < count < 40
    assert share.low == pytest.approx(beta.ppf(0.025, count, 51 - count), rel=1e-9)
    assert share.high == pytest.approx(beta.ppf(0.975, count + 1, 50 - count), rel=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 20), 0.6791, 1.0)],
)
def test_difference_has_the_published_interval(a: tuple[int, int], b: tuple[int, int], low: float, high: float) -> None:
    """Newcombe 1998, table II, method 10."""
    both = compare_authenticity(share_of(*a), share_of(*b))
    assert both.difference == pytest.approx(a[0] / a[1] - b[0] / b[1])
    assert (both.low, both.high) == pytest.approx((low, high), abs=6e-5)


def test_an_identical_image_is_not_authentic() -> None:
    assert authentic_share(np.zeros(3), np.zeros(3)).k == 0
    assert authentic_share(np.ones(3), np.array([np.inf, 0.0, 1.0])).k == 1


def test_interval_shrinks_with_m() -> None:
    widths = [share_of(m // 4, m).high - share_of(m // 4, m).low for m in (20, 100, 500, 2500)]
    assert widths == sorted(widths, reverse=True)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        authentic_share(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="NaN"):
        authentic_share(np.ones(2), np.array([1.0, np.nan]))
