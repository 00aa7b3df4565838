from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from scoring.partition.fit import Moments, Partition, fit_cells, fit_partition, fit_pca
from tests.scoring import oracle


def cloud(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d) * 5).astype(np.float32)


def test_pca_agrees_with_scikit_learn() -> None:
    x = cloud(300, 12)
    ours = fit_pca(Moments.of(x), 7)
    theirs = PCA(7, svd_solver="full").fit(x.astype(np.float64))
    np.testing.assert_allclose(ours.mean, theirs.mean_, rtol=1e-6)
    np.testing.assert_allclose(ours.explained_variance, theirs.explained_variance_, rtol=1e-9)
    signs = np.sign((ours.components * theirs.components_).sum(axis=1))[:, None]
    np.testing.assert_allclose(ours.components, theirs.components_ * signs, atol=1e-6)


def test_largest_entry_of_each_axis_is_positive() -> None:
    axes = fit_pca(Moments.of(cloud(100, 6)), 6).components
    assert (axes[np.arange(6), np.abs(axes).argmax(axis=1)] > 0).all()


@pytest.mark.parametrize(("n", "d", "asked", "kept"), [(200, 5, 64, 5), (4, 9, 64, 3), (200, 9, 2, 2)])
def test_number_of_axes_is_the_least_of_asked_width_and_rank(n: int, d: int, asked: int, kept: int) -> None:
    assert fit_pca(Moments.of(cloud(n, d)), asked).components.shape == (kept, d)


def test_a_constant_layer_is_not_informative_even_with_float32_noise() -> None:
    vector = cloud(1, 32)
    noise = np.random.default_rng(1).normal(size=(50, 32)).astype(np.float32) * np.float32(1e-6)
    for x in (np.repeat(vector, 50, axis=0), vector + noise, np.zeros((50, 32), np.float32)):
        partition = fit_partition(Moments.of(x), x, components=8, cells=3, seed=0)
        assert not partition.informative
        assert partition.project(x).shape == (50, 0)
        assert partition.assign(partition.project(x)).tolist() == [0] * 50
    faint = vector + noise * np.float32(1e3)
    assert fit_partition(Moments.of(faint), faint, components=8, cells=3, seed=0).informative


def test_projection_is_the_same_alone_and_in_any_batch() -> None:
    x = cloud(200, 12)
    partition = fit_partition(Moments.of(x), x, components=5, cells=4, seed=0)
    whole = partition.project(x)
    one_by_one = np.concatenate([partition.project(row[None]) for row in x])
    np.testing.assert_allclose(whole, one_by_one, rtol=2e-7)
    np.testing.assert_allclose(whole, PCA(5).fit(x.astype(np.float64)).transform(x), atol=1e-4)


def test_cells_are_those_of_k_means_and_of_the_nearest_centroid() -> None:
    x = cloud(150, 4)
    partition = fit_partition(Moments.of(x), x, components=3, cells=6, seed=3)
    projected = partition.project(x)
    fitted = KMeans(6, n_init=10, random_state=3).fit(projected)
    np.testing.assert_allclose(partition.centroids, fitted.cluster_centers_, rtol=1e-5, atol=1e-5)
    loops = [oracle.nearest_centroid(row, partition.centroids.tolist()) for row in projected.tolist()]
    assert partition.assign(projected).tolist() == loops


def test_equal_distance_goes_to_the_lowest_centroid() -> None:
    axes = np.eye(1, dtype=np.float32)
    partition = Partition(np.zeros(1, np.float32), axes, np.ones(1), np.array([[1], [-1], [1]], np.float32), 0)
    assert partition.assign(np.array([[0], [-5], [2]], np.float32)).tolist() == [0, 1, 0]


def test_a_partition_survives_npz() -> None:
    x = cloud(60, 4)
    partition = fit_partition(Moments.of(x), x, components=3, cells=4, seed=9)
    file = io.BytesIO()
    np.savez(file, **partition.to_arrays())  # type: ignore[arg-type]
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        back = Partition.from_arrays(stored)
    assert back.seed == 9
    for name, array in partition.to_arrays().items():
        np.testing.assert_array_equal(back.to_arrays()[name], array)
    with pytest.raises(ValueError, match="lacks the arrays centroids"):
        Partition.from_arrays({k: v for k, v in partition.to_arrays().items() if k != "centroids"})


def test_too_few_vectors_for_the_cells_are_named() -> None:
    with pytest.raises(ValueError, match="10 cells need at least as many training images, got 4"):
        fit_cells(cloud(4, 3), 10, 0)
    with pytest.raises(ValueError, match="fewer than 3 distinct"):
        fit_cells(np.repeat(cloud(2, 3), 20, axis=0), 3, 0)
    x = cloud(20, 3)
    partition = fit_partition(Moments.of(x), x, components=2, cells=2, seed=0)
    with pytest.raises(ValueError, match=r"shape \(n, 3\), got \(4, 2\)"):
        partition.project(cloud(4, 2))


def test_cells_of_many_vectors_are_as_good_as_with_all_starts_on_all() -> None:
    rng = np.random.default_rng(5)
    places = rng.normal(scale=3, size=(12, 6))
    x = (places[rng.integers(0, 12, 30_000)] + rng.normal(size=(30_000, 6))).astype(np.float32)
    x = x[np.argsort(x[:, 0])]  # sets are sorted by name, hence often by class
    centroids = fit_cells(x, 4, seed=0)
    full = KMeans(4, n_init=10, random_state=0).fit(x)
    inertia = float(((x[:, None, :] - centroids) ** 2).sum(axis=2).min(axis=1).sum())
    assert inertia <= 1.001 * full.inertia_
    again = KMeans(4, init=centroids, n_init=1).fit(x)
    np.testing.assert_allclose(again.cluster_centers_, centroids, atol=0.02)  # nothing is left to carry on


def test_a_sample_without_the_rare_vectors_does_not_hide_them() -> None:
    x = np.zeros((30_000, 2), np.float32)
    x[[3, 20_000]] = [[5, 0], [0, 5]]
    assert sorted(fit_cells(x, 3, seed=0).round(6).tolist()) == [[0, 0], [0, 5], [5, 0]]
