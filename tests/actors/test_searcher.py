from __future__ import annotations

from functools import partialmethod
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from actors.searcher import Metric, NearestTable, Searcher, SearchLayer
from storage.vectors import VectorStore
from tests.actors.conftest import Lab


def _search(lab: Lab, name: str, layer: int, metric: Metric, key: str) -> NearestTable:
    table = lab.tables[name]
    task = SearchLayer(lab.store.uri, table.name, table.version, layer, lab.partition_key(layer), metric, key)
    assert Searcher().process(task)
    return NearestTable.load(lab.store, key)


def _expected(
    lab: Lab, name: str, layer: int, metric: Metric
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Cell, nearest train image of the cell and its distance, all pairs at once."""
    partition = lab.stored(layer).partition
    x, train = (partition.project(lab.arrays[one][layer]).astype(float) for one in (name, "train"))
    cells, train_cells = (cdist(y, partition.centroids).argmin(axis=1) for y in (x, train))
    distance = cdist(x, train) if metric == "euclidean" else 1 - np.abs(1 - cdist(x, train, "cosine"))
    distance[cells[:, None] != train_cells] = np.inf
    return cells, distance.argmin(axis=1), distance.min(axis=1)


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("name", ["held_out", "release"])
@pytest.mark.parametrize("metric", ["euclidean", "abs_cosine"])
def test_it_is_the_nearest_train_image_of_the_cell(lab: Lab, name: str, layer: int, metric: Metric) -> None:
    found = _search(lab, name, layer, metric, f"exact/{name}-{layer}-{metric}.parquet")
    cells, nearest, distance = _expected(lab, name, layer, metric)
    assert (found.row == np.arange(len(cells))).all()
    assert (found.cell == cells).all()
    assert np.abs(found.distance - distance).max() <= 1e-9
    assert (found.train_row == nearest).all()
    assert len(set(cells)) == 3


def test_other_neighbours_and_the_gap_of_the_nearest(lab: Lab) -> None:
    found = _search(lab, "release", 1, "euclidean", "neighbours.parquet")
    partition = lab.stored(1).partition
    x, train = (partition.project(lab.arrays[name][1]).astype(float) for name in ("release", "train"))
    cells, train_cells = partition.assign(x.astype(np.float32)), partition.assign(train.astype(np.float32))
    for i in range(0, 110, 7):
        near = np.sort(cdist(x[i : i + 1], train[train_cells == cells[i]])[0])[:50]
        assert found.ratio[i] == pytest.approx(near[0] / near[1:].mean(), abs=1e-5)
        own = found.train_row[i]
        others = (train_cells == train_cells[own]) & (np.arange(200) != own)
        assert found.train_gap[i] == pytest.approx(cdist(train[own : own + 1], train[others]).min(), abs=1e-5)
    assert np.isnan(_search(lab, "release", 1, "abs_cosine", "no-neighbours.parquet").ratio).all()


def test_train_images_are_left_out_of_train(lab: Lab) -> None:
    table = lab.tables["train"]
    rows = (3, 50, 199)
    key = "left-out.parquet"
    task = SearchLayer(
        lab.store.uri, table.name, table.version, 1, lab.partition_key(1), "euclidean", key, left_out=rows
    )
    assert Searcher().process(task)
    found = NearestTable.load(lab.store, key)
    partition = lab.stored(1).partition
    train = partition.project(lab.arrays["train"][1])
    cells = partition.assign(train)
    assert found.row.tolist() == list(rows)
    for row, distance in zip(rows, found.distance, strict=True):
        others = (cells == cells[row]) & (np.arange(200) != row)
        assert distance == pytest.approx(cdist(train[row : row + 1], train[others]).min(), abs=1e-5)


def test_an_equal_image_is_at_distance_zero(lab: Lab) -> None:
    for metric in ("euclidean", "abs_cosine"):
        found = _search(lab, "release", 1, metric, f"zero-{metric}.parquet")
        assert (found.distance[:5] == 0).all()
        assert found.train_row[:5].tolist() == [0, 1, 2, 3, 4]
        assert (found.distance[5:] > 0).all()


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
    assert not Searcher().process(other)
    assert lab.store.get("once.parquet") == before
