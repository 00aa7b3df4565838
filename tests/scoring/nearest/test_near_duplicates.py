from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from scoring.nearest.distance_ratio import distance_ratio, mean_of_others
from scoring.nearest.near_duplicates import contaminated, duplicate_threshold, near_duplicates

Floats = NDArray[np.float64]


def searched(train: Floats, queries: Floats) -> tuple[Floats, NDArray[np.int64]]:
    found, rows = NearestNeighbors(n_neighbors=50).fit(train).kneighbors(queries)
    return distance_ratio(found[:, 0], mean_of_others(found)), rows[:, 0]


def three_layers(copied: int, seed: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """Clustered images in 10 dimensions through three linear layers; the first ones are nearly train images."""
    rng = np.random.default_rng(seed)
    centres, scales = rng.normal(size=(8, 10)), rng.uniform(0.3, 1.0, 8)

    def draw(count: int) -> Floats:
        cluster = rng.integers(0, 8, count)
        return centres[cluster] + scales[cluster][:, None] * rng.normal(size=(count, 10))

    train, held_out = draw(2000), draw(1500)
    held_out[:copied] = train[:copied] + 0.02 * rng.normal(size=(copied, 10))
    layers = [searched(train @ view, held_out @ view) for view in rng.normal(size=(3, 10, 10))]
    return np.array([ratio for ratio, _ in layers]), np.array([winner for _, winner in layers])


def test_near_duplicates_are_found_and_hardly_any_other() -> None:
    ratios, winners = three_layers(45)
    removed = contaminated(ratios, winners)
    assert removed[:45].mean() > 0.95
    assert removed[45:].sum() <= 2
    assert contaminated(*three_layers(0, seed=1)).sum() <= 2


def test_three_per_cent_contamination_lowers_the_threshold_by_less_than_a_third() -> None:
    clean, dirty = (duplicate_threshold(three_layers(copied)[0][0]).ratio for copied in (0, 45))
    assert 2 / 3 * clean < dirty < clean


@pytest.mark.parametrize("dimension", [4, 8])
def test_tail_of_a_uniform_cloud_is_extrapolated(dimension: int) -> None:
    """10,000 unseen images against the rate promised, the dimension against the one that is known."""
    rng = np.random.default_rng(dimension)
    ratio, _ = searched(rng.random((4000, dimension)), rng.uniform(0.2, 0.8, (10_000, dimension)))
    found = duplicate_threshold(ratio, 0.002)
    assert found.dimension == pytest.approx(dimension, rel=0.2)
    assert 0.0005 < np.mean(ratio <= found.ratio) < 0.004


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.integers(1, 5))
def test_agreement_agrees_with_loops(seed: int, layers: int) -> None:
    rng = np.random.default_rng(seed)
    ratios, winners = rng.random((layers, 20)), rng.integers(0, 3, (layers, 20))
    thresholds = rng.uniform(0.3, 0.9, layers)
    for agree in range(1, layers + 1):
        expected = []
        for image in range(20):
            votes = [int(winners[i, image]) for i in range(layers) if ratios[i, image] <= thresholds[i]]
            expected.append(max((votes.count(t) for t in votes), default=0) >= agree)
        assert near_duplicates(ratios, winners, thresholds, agree=agree).tolist() == expected


def test_half_of_the_layers_must_agree_and_two_at_least() -> None:
    def flagged(agreeing: int, layers: int) -> bool:
        ratios = np.where(np.arange(layers) < agreeing, 0.1, 0.9)[:, None]
        return bool(near_duplicates(ratios, np.zeros((layers, 1), int), np.full(layers, 0.5))[0])

    assert [next(k for k in range(1, n + 1) if flagged(k, n)) for n in (1, 2, 3, 4, 12, 13)] == [1, 2, 2, 2, 6, 7]


def test_degenerate_ratios_flag_only_what_is_identical() -> None:
    assert duplicate_threshold(np.zeros(200)).ratio == 0
    assert duplicate_threshold(np.full(200, 0.4)).ratio == 0.4
    ratios, winners = np.array([[0.0, 0.1]]), np.zeros((1, 2), int)
    assert near_duplicates(ratios, winners, np.zeros(1)).tolist() == [True, False]


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="at least 100"):
        duplicate_threshold(np.ones(99))
    with pytest.raises(ValueError, match="false_rate"):
        duplicate_threshold(np.ones(200), 0.1)
    with pytest.raises(ValueError, match="need"):
        near_duplicates(np.ones((2, 3)), np.zeros((2, 4), int), np.ones(2))
    with pytest.raises(ValueError, match="agree must lie in 1…2, got 3"):
        near_duplicates(np.ones((2, 3)), np.zeros((2, 3), int), np.ones(2), agree=3)
