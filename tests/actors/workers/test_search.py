from __future__ import annotations

from dataclasses import replace
from functools import partialmethod
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from actors.stages.search import in_blocks
from actors.workers import search_sample
from actors.workers.nearest_table import MergeBlocks, NearestTable, merge_blocks, read_nearest, search_facts
from actors.workers.partition import FitLayer, fit_layer
from actors.workers.search import Metric, SearchLayer, search_layer
from actors.workers.search_sample import SampleSearch, SearchSample, wanted_recall
from scoring.nearest import search_plan
from storage.objects.open import ObjectMissingError, open_store
from storage.vectors.tables import VectorStore
from storage.vectors.train_index import nearest_indexed
from tests.actors.conftest import Lab, embedding_table


def _search(lab: Lab, name: str, layer: int, metric: Metric, key: str) -> NearestTable:
    table = lab.tables[name]
    task = SearchLayer(lab.store.uri, table.name, table.version, layer, lab.partition_key(layer), metric, key)
    assert search_layer(task)
    return NearestTable.load(lab.store, key)


def _expected(
    lab: Lab, name: str, layer: int, metric: Metric
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Cell, nearest training image of the cell and its distance, all pairs at once."""
    partition = lab.stored(layer).partition
    x, train = (partition.project(lab.arrays[key][layer]).astype(float) for key in (name, "train"))
    cells, train_cells = (cdist(y, partition.centroids).argmin(axis=1) for y in (x, train))
    distance = cdist(x, train) if metric == "euclidean" else 1 - np.abs(1 - cdist(x, train, "cosine"))
    distance[cells[:, None] != train_cells] = np.inf
    return cells, distance.argmin(axis=1), distance.min(axis=1)


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("name", ["held_out", "release"])
@pytest.mark.parametrize("metric", ["euclidean", "abs_cosine"])
def test_it_is_the_nearest_training_image_of_the_cell(lab: Lab, name: str, layer: int, metric: Metric) -> None:
    result = _search(lab, name, layer, metric, f"exact/{name}-{layer}-{metric}.parquet")
    cells, nearest, distance = _expected(lab, name, layer, metric)
    assert (result.row == np.arange(len(cells))).all()
    assert (result.cell == cells).all()
    assert np.abs(result.distance - distance).max() <= 1e-9
    assert (result.train_row == nearest).all()
    assert len(set(cells)) == 3


def test_other_neighbours_and_the_gap_of_the_nearest(lab: Lab) -> None:
    result = _search(lab, "release", 1, "euclidean", "neighbours.parquet")
    partition = lab.stored(1).partition
    x, train = (partition.project(lab.arrays[name][1]).astype(float) for name in ("release", "train"))
    cells, train_cells = partition.assign(x.astype(np.float32)), partition.assign(train.astype(np.float32))
    for i in range(0, 110, 7):
        near = np.sort(cdist(x[i : i + 1], train[train_cells == cells[i]])[0])[:50]
        assert result.ratio[i] == pytest.approx(near[0] / near[1:].mean(), abs=1e-5)
        own = result.train_row[i]
        others = (train_cells == train_cells[own]) & (np.arange(200) != own)
        assert result.train_gap[i] == pytest.approx(cdist(train[own : own + 1], train[others]).min(), abs=1e-5)
    assert np.isnan(_search(lab, "release", 1, "abs_cosine", "no-neighbours.parquet").ratio).all()


def test_train_images_are_left_out_of_train(lab: Lab) -> None:
    table = lab.tables["train"]
    rows = (3, 50, 199)
    key = "left-out.parquet"
    task = SearchLayer(
        lab.store.uri, table.name, table.version, 1, lab.partition_key(1), "euclidean", key, left_out=rows
    )
    assert search_layer(task)
    result = NearestTable.load(lab.store, key)
    partition = lab.stored(1).partition
    train = partition.project(lab.arrays["train"][1])
    cells = partition.assign(train)
    assert result.row.tolist() == list(rows)
    for row, distance in zip(rows, result.distance, strict=True):
        others = (cells == cells[row]) & (np.arange(200) != row)
        assert distance == pytest.approx(cdist(train[row : row + 1], train[others]).min(), abs=1e-5)


def test_an_equal_image_is_at_distance_zero(lab: Lab) -> None:
    for metric in ("euclidean", "abs_cosine"):
        result = _search(lab, "release", 1, metric, f"zero-{metric}.parquet")
        assert (result.distance[:5] == 0).all()
        assert result.train_row[:5].tolist() == [0, 1, 2, 3, 4]
        assert (result.distance[5:] > 0).all()


@pytest.mark.parametrize("metric", ["euclidean", "abs_cosine"])
def test_it_does_not_depend_on_blocks(lab: Lab, metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _search(lab, "held_out", 2, metric, f"whole-{metric}.parquet")
    scan: Any = VectorStore.scan
    monkeypatch.setattr(VectorStore, "scan", partialmethod(scan, batch_rows=17))
    parts = _search(lab, "held_out", 2, metric, f"parts-{metric}.parquet")
    for name in ("row", "cell", "distance", "train_row"):
        assert (getattr(parts, name) == getattr(whole, name)).all()


def test_a_constant_layer_has_no_distances(lab: Lab) -> None:
    assert len(_search(lab, "release", 0, "euclidean", "constant.parquet").row) == 0


def test_what_is_there_is_left_alone(lab: Lab) -> None:
    _search(lab, "release", 1, "euclidean", "once.parquet")
    before = lab.store.get("once.parquet")
    table = lab.tables["held_out"]
    other = SearchLayer(lab.store.uri, table.name, table.version, 2, lab.partition_key(2), "abs_cosine", "once.parquet")
    assert not search_layer(other)
    assert lab.store.get("once.parquet") == before


# -- nearest of all, by index ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A larger laboratory whose index is for the nearest of all: √1600 = 40 partitions, 3 cells."""
    store = open_store(str(tmp_path_factory.mktemp("wide")))
    rng = np.random.default_rng(5)
    places = rng.normal(scale=2, size=(30, 10))
    arrays: dict[str, dict[int, NDArray[np.float32]]] = {}
    for name, n in {"train": 1600, "held_out": 600, "release": 500}.items():
        x = places[rng.integers(0, 30, n)] + rng.normal(size=(n, 10))
        arrays[name] = {0: np.full((n, 4), 2.5, np.float32), 1: x.astype(np.float32)}
    arrays["release"][1][:30] = arrays["train"][1][:30]
    made = Lab(store, arrays, {name: embedding_table(store, name, layers) for name, layers in arrays.items()})
    train = made.tables["train"]
    for layer in (0, 1):
        task = FitLayer(store.uri, train.name, train.version, layer, 6, 3, 0, made.partition_key(layer), "i", "global")
        fit_layer(task)
    return made


def _plan(lab: Lab, name: str, layer: int, key: str) -> SearchLayer:
    table = lab.tables[name]
    sample = f"samples/{name}-{layer}.npz"
    search_sample.search_sample(
        SampleSearch(lab.store.uri, table.name, table.version, table.rows, layer, lab.partition_key(layer), sample)
    )
    return SearchLayer(
        lab.store.uri, table.name, table.version, layer, lab.partition_key(layer), "euclidean", key, sample_key=sample
    )


def _among_all(lab: Lab, name: str, neighbours: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Neighbours by scikit-learn: distances and rows."""
    partition = lab.stored(1).partition
    x, train = (partition.project(lab.arrays[key][1]).astype(float) for key in (name, "train"))
    distances, rows = NearestNeighbors(n_neighbors=neighbours, algorithm="kd_tree").fit(train).kneighbors(x)
    return distances, rows


@pytest.mark.parametrize("name", ["held_out", "release"])
def test_an_index_finds_the_nearest_of_all(wide: Lab, name: str) -> None:
    search_layer(_plan(wide, name, 1, f"{name}.parquet"))
    result = NearestTable.load(wide.store, f"{name}.parquet")
    distances, rows = _among_all(wide, name, 50)
    partition = wide.stored(1).partition
    cells = cdist(partition.project(wide.arrays[name][1]), partition.centroids).argmin(axis=1)
    assert (result.cell == cells).all()
    assert np.abs(result.exact - distances[:, 0]).max() <= 1e-12  # a small set is sampled whole
    assert np.abs(result.second - distances[:, 1]).max() <= 1e-12
    hits = result.train_row == rows[:, 0]
    assert hits.mean() >= wanted_recall(600)
    assert np.abs(result.distance - distances[:, 0])[hits].max() <= 1e-12
    ratio = distances[:, 0] / distances[:, 1:].mean(axis=1)
    assert np.abs(result.ratio - ratio).mean() < 0.01  # some of the further neighbours may be missed
    probes = result.probes or 0
    assert 1 < probes < 40
    fewer = nearest_indexed(_index(wide), partition.project(wide.arrays[name][1]), probes=max(1, probes * 2 // 3))
    assert (fewer.row == rows[:, 0]).mean() < wanted_recall(600)  # one step fewer is too few
    train_cells = cdist(partition.project(wide.arrays["train"][1]), partition.centroids).argmin(axis=1)
    assert (train_cells[result.train_row] != cells).any()  # the cell does not matter


def _index(lab: Lab) -> Any:
    stored = lab.stored(1)
    return VectorStore(lab.store).open(stored.index_table, stored.index_version)


def test_the_table_says_how_it_was_searched(wide: Lab) -> None:
    search_layer(_plan(wide, "held_out", 1, "facts.parquet"))
    facts = search_facts(read_nearest(wide.store, "facts.parquet"))
    stored, probes = wide.stored(1), NearestTable.load(wide.store, "facts.parquet").probes
    assert facts == {
        "search": "global",
        "index_table": stored.index_table,
        "index_version": str(stored.index_version),
        "probes": str(probes),
        "exact_queries": "600",
        "recall": facts["recall"],
    }
    assert float(facts["recall"]) >= wanted_recall(600)


def test_train_images_are_left_out_of_all(wide: Lab) -> None:
    whole = _plan(wide, "held_out", 1, "unused.parquet")
    table, rows = wide.tables["train"], (3, 50, 1599)
    task = replace(whole, table=table.name, version=table.version, key="left-out.parquet", left_out=rows)
    assert search_layer(task)
    result = NearestTable.load(wide.store, "left-out.parquet")
    assert result.row.tolist() == list(rows)
    assert result.distance == pytest.approx(_among_all(wide, "train", 2)[0][list(rows), 1], abs=1e-5)
    assert np.isnan(result.exact).all()  # the sample is of another set


def test_blocks_joined_are_the_whole(wide: Lab) -> None:
    whole = _plan(wide, "release", 1, "whole.parquet")
    search_layer(whole)
    blocks = in_blocks(replace(whole, key="joined.parquet"), 500, 170)
    assert [(block.part.start, block.part.stop) for block in blocks if block.part] == [(0, 167), (167, 334), (334, 500)]
    for block in reversed(blocks):
        search_layer(block)
    merge = MergeBlocks(wide.store.uri, tuple(block.key for block in blocks), "joined.parquet")
    assert merge_blocks(merge)
    assert read_nearest(wide.store, "joined.parquet").equals(read_nearest(wide.store, "whole.parquet"), True)
    assert not list(wide.store.list("joined/"))
    assert not merge_blocks(merge)  # another audit may have joined and removed them
    with pytest.raises(ObjectMissingError):
        merge_blocks(replace(merge, key="nowhere.parquet"))


def test_a_constant_layer_needs_no_sample(wide: Lab) -> None:
    search_layer(_plan(wide, "held_out", 0, "constant.parquet"))
    assert len(NearestTable.load(wide.store, "constant.parquet").row) == 0


def test_of_a_large_set_other_images_choose_than_measure(monkeypatch: pytest.MonkeyPatch, wide: Lab) -> None:
    monkeypatch.setattr(search_plan, "TUNED", 100)
    monkeypatch.setattr(search_plan, "FEWEST_MEASURED", 150)
    tuned, measured = search_sample.choose_sample(600, 0)
    assert (len(tuned), len(measured), len(np.intersect1d(tuned, measured))) == (100, 150, 0)
    table = wide.tables["held_out"]
    search_sample.search_sample(
        SampleSearch(wide.store.uri, table.name, table.version, 600, 1, wide.partition_key(1), "part.npz")
    )
    sample = SearchSample.load(wide.store, "part.npz")
    distances, _ = _among_all(wide, "held_out", 2)
    known = sample.of_rows(np.arange(600))
    assert np.flatnonzero(~np.isnan(known.first)).tolist() == measured.tolist() == sample.row.tolist()
    assert np.abs(known.first - distances[:, 0])[measured].max() <= 1e-12
    assert np.abs(known.second - distances[:, 1])[measured].max() <= 1e-12
    assert not search_sample.search_sample(
        SampleSearch(wide.store.uri, table.name, table.version, 600, 1, wide.partition_key(1), "part.npz")
    )
