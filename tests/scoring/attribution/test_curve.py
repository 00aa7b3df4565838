from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from scoring.attribution.curve import covariance_of, curve_distances, logit_curve
from scoring.score.effect import effect_and_influence

Floats = NDArray[np.float64]


def correlated(seed: int, n: int = 400, m: int = 300, layers: int = 4) -> tuple[Floats, Floats]:
    """Distances of every image in some layers that agree with one another."""
    rng = np.random.default_rng(seed)
    shared_p, shared_q = rng.normal(size=(n, 1)), rng.normal(-0.4, 1, size=(m, 1))
    return shared_p + 0.5 * rng.normal(size=(n, layers)), shared_q + 0.5 * rng.normal(size=(m, layers))


def curve_of(p: Floats, q: Floats) -> tuple[Floats, Floats, Floats]:
    one_p, one_q = np.zeros(len(p), int), np.zeros(len(q), int)
    scored = [effect_and_influence(p[:, i], one_p, q[:, i], one_q) for i in range(p.shape[1])]
    effects = [effect for effect, _ in scored]
    influence_p = np.stack([influence.p for _, influence in scored], axis=1)
    influence_q = np.stack([influence.q for _, influence in scored], axis=1)
    a_hat = np.array([effect.a_hat for effect in effects])
    x, covariance = logit_curve(a_hat, covariance_of(influence_p, influence_q), min(len(p), len(q)))
    return x, covariance, np.array([effect.se for effect in effects])


def test_diagonal_is_each_layers_own_standard_error() -> None:
    x, covariance, se = curve_of(*correlated(0))
    a_hat = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), se / (a_hat * (1 - a_hat)), rtol=1e-9)


def test_covariance_between_layers_agrees_with_a_bootstrap_of_images() -> None:
    p, q = correlated(1)
    _, covariance, _ = curve_of(p, q)
    rng = np.random.default_rng(2)
    draws = [curve_of(p[rng.integers(0, 400, 400)], q[rng.integers(0, 300, 300)])[0] for _ in range(400)]
    bootstrap = np.cov(np.array(draws).T)
    np.testing.assert_allclose(covariance, bootstrap, rtol=0.25)
    assert bootstrap[0, 1] > 0.5 * bootstrap[0, 0]


def test_perfectly_separated_layer_stays_finite_and_uncertain() -> None:
    p, q = correlated(3)
    q[:, 2] = -100.0
    x, covariance, _ = curve_of(p, q)
    assert x[2] == pytest.approx(math.log(0.5 / 300.5))
    assert covariance[2, 2] > 1
    assert covariance[2, [0, 1, 3]].tolist() == [0, 0, 0]
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_distance_is_mahalanobis_on_the_ridged_sum() -> None:
    (x1, s1, _), (x2, s2, _) = curve_of(*correlated(4)), curve_of(*correlated(5))
    total = s1 + s2
    plain = float((x1 - x2) @ np.linalg.inv(total) @ (x1 - x2))
    ridged = float((x1 - x2) @ np.linalg.inv(total + 0.1 * np.diag(np.diag(total))) @ (x1 - x2))
    distance = float(curve_distances(x1 - x2, total))
    assert distance == pytest.approx(ridged)
    assert 0 < distance < plain
    several = curve_distances(np.stack([x1 - x2, x2 - x1]), np.stack([total, 2 * total]))
    assert several == pytest.approx([ridged, ridged / 2])


def test_layers_that_say_the_same_do_not_break_the_distance() -> None:
    same = np.ones((3, 3)) * 0.02
    assert float(curve_distances(np.full(3, 0.1), same)) == pytest.approx(0.01 * 3 / (0.02 * 3.1))


def test_samples_of_one_release_are_rarely_called_different() -> None:
    p_values = []
    for seed in range(150):
        (x1, s1, _), (x2, s2, _) = (curve_of(*correlated(1000 + 2 * seed + i, 150, 120)) for i in range(2))
        p_values.append(float(chi2.sf(curve_distances(x1 - x2, s1 + s2), 4)))
    assert np.mean(np.array(p_values) < 0.05) < 0.08
    assert np.mean(p_values) > 0.45


def test_bad_curves_are_named() -> None:
    with pytest.raises(ValueError, match=r"got \(2,\) and \(3, 3\)"):
        logit_curve(np.ones(2), np.eye(3), 5)
    with pytest.raises(ValueError, match="must lie in"):
        logit_curve(np.array([1.5]), np.eye(1), 5)
    with pytest.raises(ValueError, match="no variance"):
        curve_distances(np.zeros(2), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="do not fit"):
        curve_distances(np.zeros(2), np.eye(3))
