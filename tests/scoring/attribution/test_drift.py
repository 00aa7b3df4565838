from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest

from scoring.attribution.drift import cauchy_combination, drift, mean_difference
from scoring.attribution.profile import Profile
from scoring.partition.moments import Moments

Floats = NDArray[np.float64]


def images(seed: int, m: int, shift: float = 0.0, layers: int = 4, k: int = 12) -> Profile:
    """Layers that see the same images through different eyes: strongly dependent."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(m, k)) * np.linspace(3, 0.5, k)
    hidden[:, 0] += shift
    seen = [hidden + 0.3 * rng.normal(size=hidden.shape) for _ in range(layers)]
    placed = 1 / (1 + np.exp(-(hidden[:, :1] * 0.3 + 0.5 * rng.normal(size=(m, layers)))))
    return Profile(Moments.of(placed), tuple(Moments.of(x) for x in seen), np.full(layers, np.nan))


def test_one_model_is_rarely_called_two() -> None:
    p = np.array([drift(images(2 * seed, 60), images(2 * seed + 1, 90)).p for seed in range(400)])
    assert (p < 0.05).mean() < 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5
    assert (p < 0.01).mean() < 0.01 + 2 * (0.01 * 0.99 / 400) ** 0.5


def test_a_layer_alone_has_a_uniform_p() -> None:
    p = [mean_difference(images(s, 40).signature[0], images(s + 10_000, 40).signature[0])[1] for s in range(300)]
    assert kstest(p, "uniform").pvalue > 0.01


def test_a_shift_is_found_with_its_size() -> None:
    found = [drift(images(2 * seed, 2000), images(2 * seed + 1, 2000, shift=1.5)) for seed in range(20)]
    assert max(one.p for one in found) < 1e-12
    assert max(one.curve_p for one in found) < 1e-3
    standard_error = (2 / 2000 / 20) ** 0.5
    assert np.mean([one.distance for one in found]) == pytest.approx(1.5 / np.hypot(3, 0.3), abs=3 * standard_error)


def test_distance_does_not_grow_with_fewer_images() -> None:
    few = [drift(images(s, 30), images(s + 500, 30)).distance.mean() for s in range(100)]
    many = [drift(images(s, 600), images(s + 500, 600)).distance.mean() for s in range(20)]
    assert np.mean(np.square(few)) < 0.15  # without the correction: k(1/n + 1/m) = 0.7
    assert np.mean(np.square(many)) < 0.02


def test_hotelling_by_hand() -> None:
    """One coordinate: T² is the square of Student's t."""
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(30, 1)), rng.normal(0.4, 1, size=(25, 1))
    _, p = mean_difference(Moments.of(a), Moments.of(b))
    assert p == pytest.approx(float(ttest_ind(a, b).pvalue[0]))


def test_combination_of_equal_p_is_that_p() -> None:
    assert cauchy_combination(np.full(7, 0.3)) == pytest.approx(0.3)
    assert cauchy_combination(np.array([1e-20, 0.9, 0.9])) == pytest.approx(3e-20, rel=0.01)


def test_profiles_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="4 and 3 layers"):
        drift(images(0, 30), images(0, 30, layers=3))
    with pytest.raises(ValueError, match="too few"):
        mean_difference(images(0, 3).signature[0], images(1, 3).signature[0])
