"""The projection of patch tokens."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from scoring.copies.token_space import DAMPING, fit_token_space


def test_directions_are_the_principal_ones_divided_by_a_power_of_their_variance() -> None:
    tokens = np.random.default_rng(0).normal(size=(40, 5, 6)) * np.arange(1, 7)
    space = fit_token_space(tokens, dims=4)
    flat = tokens.reshape(-1, 6)
    reference = PCA(4).fit(flat)
    variances = reference.explained_variance_ * (len(flat) - 1) / len(flat)
    expected = np.abs(reference.components_.T / variances**DAMPING)
    assert np.allclose(np.abs(space.axes), expected, rtol=1e-4)
    assert np.allclose(space.mean, flat.mean(axis=0), rtol=1e-5)


def test_projected_tokens_have_length_one_and_half_precision() -> None:
    tokens = np.random.default_rng(0).normal(size=(40, 5, 6)).astype(np.float32)
    projected = fit_token_space(tokens, dims=3).project(tokens)
    assert projected.dtype == np.float16
    assert projected.shape == (40, 5, 3)
    assert np.allclose(np.linalg.norm(projected.astype(np.float64), axis=2), 1, atol=2e-3)


def test_directions_without_variance_do_not_count() -> None:
    tokens = np.random.default_rng(0).normal(size=(40, 3))
    tokens[:, 2] = 7.0
    space = fit_token_space(tokens, dims=3)
    moved = tokens.copy()
    moved[:, 2] += 100.0
    assert np.array_equal(space.project(tokens), space.project(moved))


def test_equal_tokens_give_zero_vectors_not_nan() -> None:
    assert not fit_token_space(np.ones((5, 4)), dims=2).project(np.ones((3, 4))).any()


@pytest.mark.parametrize(("shape", "dims"), [((1, 4), 2), ((9, 4), 5), ((9, 4), 0)])
def test_what_cannot_be_fitted(shape: tuple[int, int], dims: int) -> None:
    with pytest.raises(ValueError, match="directions"):
        fit_token_space(np.ones(shape), dims)
