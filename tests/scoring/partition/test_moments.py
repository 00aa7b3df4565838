from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from scoring.partition.moments import Moments

X = (np.random.default_rng(0).normal(size=(90, 5)) * [1, 2, 3, 4, 5] + 1e4).astype(np.float32)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 90), max_size=5), st.randoms(use_true_random=False))
def test_any_split_merged_in_any_order_gives_the_moments_of_the_whole(cuts: list[int], random: object) -> None:
    parts = [Moments.of(part) for part in np.split(X, sorted(cuts))]
    random.shuffle(parts)  # type: ignore[attr-defined]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert merged.n == 90
    np.testing.assert_allclose(merged.mean, X.astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, np.cov(X.astype(np.float64).T), rtol=1e-9, atol=1e-9)


def test_a_large_mean_cancels_nothing() -> None:
    far = np.array([[16_777_212], [16_777_214], [16_777_216]], np.float32)
    assert Moments.of(far[:1]).merge(Moments.of(far[1:])).covariance.item() == pytest.approx(4.0, rel=1e-12)


@pytest.mark.parametrize("bad", [np.zeros(3, np.float32), np.full((2, 2), np.nan, np.float32)])
def test_bad_vectors_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="x "):
        Moments.of(bad)


def test_widths_and_counts_are_checked() -> None:
    with pytest.raises(ValueError, match="5 and 4"):
        Moments.of(X).merge(Moments.of(X[:, :4]))
    with pytest.raises(ValueError, match="got 1"):
        _ = Moments.of(X[:1]).covariance
