from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import OAS

from scoring.attribution.signature import maker_covariance, oas, shared_shape, whitener

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 12)) @ RNG.normal(size=(12, 12))


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


def test_a_maker_with_many_images_has_its_own_covariance_and_one_with_few_the_shared_one() -> None:
    own, shape = np.diag([1.0, 9.0]), np.eye(2)
    many = maker_covariance(own * 1_000_000, 1_000_000, shape)
    assert many == pytest.approx(own, rel=1e-3)
    few = maker_covariance(own * 1, 1, shape)
    assert few == pytest.approx(np.eye(2) * 5, rel=0.02)  # the shape at the maker's own scale
    one = maker_covariance(np.outer([3.0, 1.0], [3.0, 1.0]), 1, shape)  # a single direction seen
    assert (np.linalg.eigvalsh(one) > 1).all()


def test_the_covariance_of_a_maker_scales_with_its_spread_whatever_the_scale_of_the_shape() -> None:
    scatter, shape = np.cov(X.T) * 39, np.cov(X.T) + np.eye(12)
    once = maker_covariance(scatter, 39, shape)
    assert maker_covariance(scatter, 39, shape * 7) == pytest.approx(once)
    assert maker_covariance(scatter * 4, 39, shape) == pytest.approx(once * 4)


def test_whitened_length_is_mahalanobis_distance() -> None:
    covariance = np.cov(X.T) + np.eye(12)
    a, b = RNG.normal(size=(2, 12))
    length = float(np.linalg.norm(whitener(covariance) @ (a - b)))
    assert length == pytest.approx(mahalanobis(a, b, np.linalg.inv(covariance)))
