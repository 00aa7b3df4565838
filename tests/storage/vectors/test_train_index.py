from __future__ import annotations

from datetime import timedelta

import lance
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors

from scoring.checks.search_error import measure_recall
from scoring.nearest.paired_distances import recompute_euclidean
from scoring.nearest.search_plan import index_centroids
from storage.errors import StageError
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import VectorStore, vector_array
from storage.vectors.train_index import nearest_indexed, write_indexed

Matrix = NDArray[np.float32]


def _cloud(seed: int, n: int, k: int, spread: float = 1.0) -> Matrix:
    """Vectors around a few places, far from the origin."""
    rng = np.random.default_rng(seed)
    places = rng.normal(scale=4, size=(6, k)) + 3
    return (places[rng.integers(0, 6, n)] + rng.normal(scale=spread, size=(n, k))).astype(np.float32)


def _centroids(train: Matrix, cells: int) -> Matrix:
    fitted = KMeans(cells, n_init=1, random_state=0).fit(train)
    return np.asarray(fitted.cluster_centers_, np.float32)


def _exact(queries: Matrix, train: Matrix, centroids: Matrix) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest train vector of each query in its cell, in float64: its index and distance."""
    in_cell = cdist(queries, centroids).argmin(axis=1)[:, None] == cdist(train, centroids).argmin(axis=1)[None]
    distance = np.where(in_cell, cdist(queries, train), np.inf)
    return distance.argmin(axis=1), distance.min(axis=1)


def _blocks(numbers: NDArray[np.int64], train: Matrix, size: int) -> list[tuple[NDArray[np.int64], Matrix]]:
    return [(numbers[i : i + size], train[i : i + size]) for i in range(0, len(train), size)]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("n", "k", "cells"), [(400, 2, 3), (900, 16, 10), (300, 64, 4), (150, 8, 1), (60, 5, 30)], ids=str
)
def test_the_search_is_the_exact_one_in_the_cell(store: ObjectStore, n: int, k: int, cells: int, seed: int) -> None:
    train = _cloud(seed, n, k)
    near = train[:20] + np.float32(1e-3) * _cloud(seed + 7, 20, k)
    queries = np.concatenate([train[:30], near, _cloud(seed, 150, k, spread=2.0)])
    centroids = _centroids(train, cells)
    numbers = np.random.default_rng(seed).permutation(10 * n)[:n]
    vectors = VectorStore(store)
    version = write_indexed(vectors, "train", _blocks(numbers, train, 128), centroids)
    rows, winners, *_ = nearest_indexed(vectors.open("train", version), queries, block=64)
    expected, distance = _exact(queries, train, centroids)
    assert (rows == numbers[expected]).all()
    assert (winners == train[expected]).all()
    assert np.abs(recompute_euclidean(queries, winners) - distance).max() <= 1e-9
    assert (distance[:30] == 0).all()
    nearest_of_all = cdist(queries, train).argmin(axis=1)
    assert cells < 10 or (expected != nearest_of_all).any()  # the cell matters


def test_one_query_is_a_batch_too(store: ObjectStore) -> None:
    vectors = VectorStore(store)
    train = _cloud(0, 60, 4)
    version = write_indexed(vectors, "train", [(np.arange(60), train)], _centroids(train, 3))
    found = nearest_indexed(vectors.open("train", version), train[7:8], neighbours=5)
    assert found.row.tolist() == [7]
    assert found.rows.shape == (1, 5)
    assert (np.diff(found.distances[0]) >= 0).all()


def test_an_older_version_is_still_what_it_was(store: ObjectStore) -> None:
    vectors = VectorStore(store)
    first = _cloud(0, 60, 4)
    centroids = _centroids(first, 3)
    old = write_indexed(vectors, "train", [(np.arange(60), first)], centroids)
    new = write_indexed(vectors, "train", [(np.arange(60) + 100, first[::-1])], centroids)
    assert (nearest_indexed(vectors.open("train", old), first)[0] == np.arange(60)).all()
    assert (nearest_indexed(vectors.open("train", new), first)[0] == np.arange(60)[::-1] + 100).all()


def test_a_cell_without_train_images_is_an_error(tmp_path: object) -> None:
    vectors = VectorStore(open_store(str(tmp_path)))
    train = _cloud(0, 50, 4)
    far = np.full((1, 4), 500, np.float32)
    version = write_indexed(vectors, "t", [(np.arange(50), train)], np.concatenate([_centroids(train, 2), far]))
    with pytest.raises(StageError, match="the index of t gave no neighbour for 1 of 6 images"):
        nearest_indexed(vectors.open("t", version), np.concatenate([train[:5], far]))


@pytest.mark.parametrize("seed", [0, 1])
def test_many_partitions_find_the_nearest_of_all(store: ObjectStore, seed: int) -> None:
    train, queries = _cloud(seed, 3000, 12), _cloud(seed, 300, 12, spread=1.5)
    queries[:20] = train[:20] + np.float32(1e-4)
    vectors = VectorStore(store)
    centroids = index_centroids(train, len(train), seed)
    assert len(centroids) == 54
    version = write_indexed(vectors, "many", _blocks(np.arange(3000), train, 1000), centroids)
    index = vectors.open("many", version)
    distance, expected = (one[:, :5] for one in NearestNeighbors(n_neighbors=5).fit(train).kneighbors(queries))
    everywhere = nearest_indexed(index, queries, 5, probes=54, block=128)
    assert (everywhere.row == expected[:, 0]).all()
    assert (everywhere.rows == expected).all()
    assert np.abs(everywhere.distances - distance).max() <= 1e-4
    exact = recompute_euclidean(queries, train[expected[:, 0]])
    assert (recompute_euclidean(queries, everywhere.vector) == exact).all()
    misses = [
        measure_recall(
            recompute_euclidean(queries, nearest_indexed(index, queries, probes=probes).vector), exact
        ).misses
        for probes in (1, 4, 16, 54)
    ]
    assert misses == sorted(misses, reverse=True)
    assert misses[0] > misses[-1] == 0


def test_a_version_in_use_outlives_a_clean_up(store: ObjectStore) -> None:
    vectors = VectorStore(store)
    train = _cloud(3, 200, 4)
    version = write_indexed(vectors, "kept", [(np.arange(200), train)], _centroids(train, 3))
    for _ in range(3):
        untagged = lance.write_dataset(
            pa.table({"row": np.arange(9), "vector": vector_array(train[:9])}),
            vectors.table_uri("kept"),
            mode="overwrite",
            storage_options=vectors.options,
        )
    untagged.optimize.compact_files()
    untagged.cleanup_old_versions(timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False)
    assert {one["version"] for one in untagged.versions()} == {version, untagged.latest_version}
    assert (nearest_indexed(vectors.open("kept", version), train).row == np.arange(200)).all()
