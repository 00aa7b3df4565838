from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from actors.workers import partition
from actors.workers.partition import FitLayer, StoredPartition, fit_layer
from storage.errors import InputError
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import EmbeddingTable, VectorStore, vector_matrix
from storage.vectors.train_index import write_indexed
from tests.actors.conftest import embedding_table

N, D = 300, 12


def _train(seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    places = rng.normal(scale=3, size=(5, D)) + 10
    scales = np.geomspace(2, 0.1, D)
    return (places[rng.integers(0, 5, N)] + rng.normal(size=(N, D)) * scales).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    """A store with one table for all tests here."""
    return open_store(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def train(store: ObjectStore) -> EmbeddingTable:
    """Layer 0 is constant; layer 1 has five places; layer 2 has four different vectors alone."""
    few = _train(1)[np.arange(N) % 4]
    return embedding_table(store, "train", {0: np.full((N, 3), 7, np.float32), 1: _train(), 2: few})


def _task(store: ObjectStore, train: EmbeddingTable, key: str, layer: int = 1, **more: Any) -> FitLayer:
    task = FitLayer(
        store.uri, train.name, train.version, layer, components=6, cells=5, seed=0, key=key, index_table="t"
    )
    return replace(task, **more)


def test_it_is_scikit_learn_s_pca_and_k_means(store: ObjectStore, train: EmbeddingTable) -> None:
    assert fit_layer(_task(store, train, "p/1.npz"))
    stored = StoredPartition.load(store, "p/1.npz")
    partition = stored.partition
    pca = PCA(6, svd_solver="full").fit(_train().astype(np.float64))
    assert np.allclose(np.abs(partition.components @ pca.components_.T), np.eye(6), atol=1e-5)
    assert np.allclose(partition.explained_variance, pca.explained_variance_, rtol=1e-6)
    projected = partition.project(_train())
    signs = np.sign(np.sum(partition.components * pca.components_, axis=1))
    assert np.allclose(projected, pca.transform(_train().astype(np.float64)) * signs, atol=1e-4)
    inertia = ((projected - partition.centroids[partition.assign(projected)]) ** 2).sum()
    assert inertia <= KMeans(5, n_init=10, random_state=1).fit(projected).inertia_ * 1.0001


def test_the_projected_train_images_are_indexed(store: ObjectStore, train: EmbeddingTable) -> None:
    fit_layer(_task(store, train, "p/index.npz"))
    stored = StoredPartition.load(store, "p/index.npz")
    vectors = VectorStore(store)
    table = vectors.dataset(stored.index_table, stored.index_version).to_table().sort_by("row")
    assert table["row"].to_pylist() == list(range(N))
    assert (vector_matrix(table["vector"]) == stored.partition.project(_train())).all()
    (index,) = vectors.open(stored.index_table, stored.index_version).list_indices()
    assert index.columns == ["vector"]


def test_what_is_there_is_left_alone(store: ObjectStore, train: EmbeddingTable) -> None:
    task = _task(store, train, "p/once.npz")
    assert fit_layer(task)
    before, tables = store.get(task.key), _tables(store)
    assert not fit_layer(replace(task, seed=9))
    assert store.get(task.key) == before
    assert _tables(store) == tables


def test_two_workers_at_one_layer(store: ObjectStore, train: EmbeddingTable, monkeypatch: pytest.MonkeyPatch) -> None:
    task = _task(store, train, "p/both.npz", index_table="both")
    together = threading.Barrier(2, timeout=30)

    def at_once(*arguments: Any) -> int:
        together.wait()
        return write_indexed(*arguments)

    monkeypatch.setattr(partition, "write_indexed", at_once)
    with ThreadPoolExecutor(2) as workers:
        published = list(workers.map(lambda _: fit_layer(task), range(2)))
    assert sorted(published) == [False, True]
    stored = StoredPartition.load(store, task.key)
    assert VectorStore(store).open(stored.index_table, stored.index_version).count_rows() == N
    assert [name for name in _tables(store) if name.startswith("both")] == [stored.index_table]


def test_a_constant_layer_has_no_index(store: ObjectStore, train: EmbeddingTable) -> None:
    assert fit_layer(_task(store, train, "p/0.npz", layer=0, index_table="constant"))
    stored = StoredPartition.load(store, "p/0.npz")
    assert not stored.partition.informative
    assert stored.index_version == 0
    assert not [name for name in _tables(store) if name.startswith("constant")]


def test_fewer_distinct_images_than_cells(store: ObjectStore, train: EmbeddingTable) -> None:
    with pytest.raises(InputError, match=r"reference\.train, layer 2: .*5") as raised:
        fit_layer(_task(store, train, "p/2.npz", layer=2))
    assert "scoring.cells" in raised.value.remedy
    assert not store.exists("p/2.npz")
    assert fit_layer(_task(store, train, "p/2.npz", layer=2, cells=4))


@pytest.mark.parametrize(("n", "message"), [(0, "no readable image"), (1, "at least 2"), (4, "5 cells")])
def test_too_few_images(tmp_path: Path, n: int, message: str) -> None:
    store = open_store(str(tmp_path))
    table = embedding_table(store, "few", {1: _train()[:n]})
    with pytest.raises(InputError, match=message):
        fit_layer(_task(store, table, "p.npz"))


def test_k_means_sees_a_sample_that_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "SAMPLE_ROWS", 40)
    x, rows = _train(), np.arange(N)
    task = FitLayer("", "", 1, 1, 6, 5, seed=3, key="", index_table="")
    samples = []
    for size in (7, 50, N):
        blocks = ((rows[i : i + size], x[i : i + size]) for i in range(0, N, size))
        moments, sample = partition._moments_and_sample(blocks, task)
        assert np.allclose(moments.covariance, np.cov(x.astype(np.float64), rowvar=False))
        assert (sample.vectors == x[sample.rows]).all()
        samples.append(sample.vectors)
    assert samples[0].shape == (40, D)
    assert all((sample == samples[0]).all() for sample in samples)
    assert not (samples[0] == x[:40]).all()


def _tables(store: ObjectStore) -> list[str]:
    names: list[str] = lancedb.connect(VectorStore(store).uri).list_tables(limit=1000).tables
    return sorted(names)
