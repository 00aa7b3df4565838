from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from scoring.nearest.search_plan import global_seconds, in_cell_seconds, index_centroids, index_partitions, search_mode


@pytest.mark.parametrize("preset", ["paper", "meehan"])
@pytest.mark.parametrize("asked", ["auto", "in_cell", "global"])
def test_published_presets_are_searched_in_cells(preset: str, asked: Literal["auto", "in_cell", "global"]) -> None:
    assert search_mode(asked, preset, 10**9, 50_000, 64, 10) == "in_cell"


def test_auto_changes_once_as_train_grows() -> None:
    modes = [search_mode("auto", "default", int(n), 50_000, 64, 10) for n in np.geomspace(100, 10**9, 200)]
    assert modes[0] == "in_cell"
    assert modes[-1] == "global"
    assert sum(before != after for before, after in pairwise(modes)) == 1


def test_what_is_asked_for_is_done() -> None:
    assert search_mode("in_cell", "default", 10**9, 50_000, 64, 10) == "in_cell"
    assert search_mode("global", "default", 100, 50_000, 64, 10) == "global"


def test_many_small_cells_are_as_quick_as_an_index() -> None:
    assert search_mode("auto", "default", 10**8, 50_000, 64, 1000) == "in_cell"
    assert in_cell_seconds(10**8, 50_000, 64, 1000) < global_seconds(10**8, 50_000, 64)
    assert in_cell_seconds(10**8, 50_000, 64, 10) > 1.5 * global_seconds(10**8, 50_000, 64)


def test_small_sets_are_compared_with_their_cells_whatever_train_is() -> None:
    """The exact sample that measures the recall costs more than the search in the cell."""
    assert search_mode("auto", "default", 10**9, 5000, 64, 10) == "in_cell"


@pytest.mark.parametrize(("train", "sample", "partitions"), [(1_000_000, 3200, 100), (2500, 2500, 50), (40, 40, 1)])
def test_the_index_has_about_the_root_of_train_partitions(train: int, sample: int, partitions: int) -> None:
    x = np.random.default_rng(0).normal(size=(sample, 4)).astype(np.float32)
    centroids = index_centroids(x, train, seed=1)
    assert centroids.shape == (partitions, 4)
    assert centroids.dtype == np.float32
    assert (centroids == index_centroids(x, train, seed=1)).all()
    assert len(centroids) <= index_partitions(train)


def test_no_partition_is_empty() -> None:
    few = np.repeat(np.random.default_rng(0).normal(size=(5, 3)), 200, axis=0).astype(np.float32)
    centroids = index_centroids(few, 1000, 0)
    assert 1 < len(centroids) <= 5
    assert set(cdist(few, centroids).argmin(axis=1)) == set(range(len(centroids)))
    assert len(index_centroids(np.ones((400, 3), np.float32), 400, 0)) == 1
