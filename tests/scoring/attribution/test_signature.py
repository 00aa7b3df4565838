from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import OAS

from scoring.attribution.background import LayerBackground
from scoring.attribution.signature import layer_rule, oas, shared_shape

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 12)) @ RNG.normal(size=(12, 12))
SCATTER = np.cov(X.T) * 39


@pytest.mark.parametrize("n", [2, 5, 13, 40])
def test_oas_is_scikit_learns(n: int) -> None:
    """From fewer vectors than coordinates, where the identity takes nearly all, to more."""
    centred = X[:n] - X[:n].mean(axis=0)
    assert oas(centred.T @ centred / n, n) == pytest.approx(OAS().fit(X[:n]).covariance_)


def test_a_multiple_of_the_identity_is_left_alone() -> None:
    assert oas(np.eye(4) * 3.0, 10) == pytest.approx(np.eye(4) * 3.0)


def test_the_shared_shape_is_that_within_makers() -> None:
    truth = np.diag([100.0, 4.0, 0.01])
    sets = [RNG.multivariate_normal(RNG.normal(size=3) * 50, truth, 400) for _ in range(20)]
    found = shared_shape([np.cov(x.T) * 399 for x in sets], [399] * 20)
    assert np.diag(found) == pytest.approx(np.diag(truth), rel=0.05)
    with pytest.raises(ValueError, match="the same for all images"):
        shared_shape([np.diag([1.0, 0.0])], [10])


def test_without_a_background_squares_are_mahalanobis_distances() -> None:
    rule = layer_rule([SCATTER], [39], None)
    inverse = np.linalg.inv(shared_shape([SCATTER], [39]))
    steps, variance = RNG.normal(size=(5, 12)), RNG.uniform(0.1, 2, 5)
    plain = [mahalanobis(step, np.zeros(12), inverse) ** 2 / 12 / v for step, v in zip(steps, variance, strict=True)]
    assert rule.squares(steps, variance) == pytest.approx(plain)
    assert (rule.content == 0).all()


def test_real_and_processed_images_count_as_stated_and_content_is_a_nuisance() -> None:
    """The quadratic form d' [a S + .1 B]⁻¹ d with S of all images and B between contents, by inverting the matrix."""
    directions = RNG.normal(size=(12, 3))
    background = LayerBackground(np.cov(X.T) * 2, directions @ directions.T * 5, np.diag(np.arange(1.0, 13)), {})
    rule = layer_rule([SCATTER], [39], background)
    shape = shared_shape([SCATTER, 100 * background.covariance, 1000 * background.processed], [39, 100, 1000])
    assert rule.whiten.T @ shape @ rule.whiten == pytest.approx(np.eye(12), abs=1e-9)
    turned = rule.whiten.T @ background.content @ rule.whiten
    assert turned == pytest.approx(np.diag(rule.content), abs=1e-9)
    for variance in (0.01, 0.5):
        step = RNG.normal(size=12)
        inverse = np.linalg.inv(variance * shape + 0.1 * background.content)
        assert rule.squares(step, np.array(variance)) == pytest.approx(step @ inverse @ step / 12)
    along = directions[:, 0]
    blind = layer_rule([SCATTER], [39], LayerBackground(background.covariance, 0 * turned, background.processed, {}))
    assert rule.squares(along, np.array(0.01)) < 0.2 * blind.squares(along, np.array(0.01))


def test_the_scale_of_a_maker_is_its_own_with_many_images_and_the_common_one_with_few() -> None:
    rule = layer_rule([SCATTER], [39], None)
    shape = shared_shape([SCATTER], [39])
    assert rule.scale(shape * 4 * 1_000_000, 1_000_000) == pytest.approx(4, rel=1e-3)
    assert rule.scale(shape * 4, 1) == pytest.approx(104 / 101)
    assert rule.scale(0 * shape, 100) == pytest.approx(0.5)
