from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from scoring.nearest import in_cell
from scoring.nearest.in_cell import InCell, TrainBlock, in_cell_neighbours


def blocks(train: NDArray[np.float32], cells: NDArray[np.integer], size: int = 10**9) -> list[TrainBlock]:
    """Blocks of train vectors whose rows are ten times their positions."""
    rows = 10 * np.arange(len(train))
    starts = range(0, len(train), size)
    return [TrainBlock(rows[i : i + size], train[i : i + size], cells[i : i + size]) for i in starts]


def expected(
    queries: NDArray[np.float32],
    query_cells: NDArray[np.integer],
    train: NDArray[np.float32],
    train_cells: NDArray[np.integer],
    neighbours: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All pairs at once; ties by a stable sort."""
    distance = cdist(queries.astype(float), train.astype(float))
    distance[query_cells[:, None] != train_cells] = np.inf
    order = np.argsort(distance, axis=1, kind="stable")[:, :neighbours]
    near = np.take_along_axis(distance, order, axis=1)
    return near, np.where(np.isinf(near), -1, 10 * order)


@pytest.mark.parametrize("neighbours", [1, 2, 5, 50])
@pytest.mark.parametrize(("size", "entries"), [(10**9, 400_000), (70, 500), (1, 1), (150, 40)])
def test_it_is_all_pairs_in_blocks_of_any_size(
    neighbours: int, size: int, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_cell, "_ENTRIES", entries)
    monkeypatch.setattr(in_cell, "_MEMBERS", entries)
    rng = np.random.default_rng(0)
    n, m = (90, 20) if size == 1 else (600, 60)
    train, queries = (rng.normal(size=(count, 6)).astype(np.float32) for count in (n, m))
    train_cells, query_cells = rng.integers(0, 3, n), rng.integers(0, 4, m)
    found = in_cell_neighbours(queries, query_cells, blocks(train, train_cells, size), neighbours)
    distances, rows = expected(queries, query_cells, train, train_cells, neighbours)
    assert np.isinf(distances[query_cells == 3]).all()
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)
    assert (found.rows == rows).all()
    there = rows[:, 0] >= 0
    assert (found.vector[there] == train[rows[there, 0] // 10]).all()


def test_the_bound_by_groups_loses_no_neighbour_in_a_large_cell() -> None:
    rng = np.random.default_rng(1)
    train = (rng.normal(size=(3000, 12)) * np.geomspace(10, 0.1, 12)).astype(np.float32)
    train = train[np.argsort(train[:, 0])]  # neighbours stand side by side, in the same groups
    queries, zeros = train[::30] + np.float32(0.01), np.zeros(3000, int)
    found = in_cell_neighbours(queries, zeros[:100], blocks(train, zeros), 50)
    distances, rows = expected(queries, zeros[:100], train, zeros, 50)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-9)
    assert (found.rows == rows).all()


@pytest.mark.parametrize("size", [10**9, 40])
def test_a_train_image_is_left_out_of_train(size: int) -> None:
    rng = np.random.default_rng(2)
    train = rng.normal(size=(300, 5)).astype(np.float32)
    train[200] = train[100]
    cells = rng.integers(0, 2, 300)
    cells[200] = cells[100]
    own = np.array([0, 7, 100, 299])
    found = in_cell_neighbours(train[own], cells[own], blocks(train, cells, size), 3, own_rows=10 * own)
    distance = cdist(train.astype(float), train.astype(float))
    np.fill_diagonal(distance, np.inf)
    distance[cells[:, None] != cells] = np.inf
    np.testing.assert_allclose(found.distances, np.sort(distance[own], axis=1)[:, :3], rtol=1e-12)
    assert (found.distances[2, 0], found.rows[2, 0]) == (0.0, 2000)
    alone = in_cell_neighbours(
        train[:1], cells[:1], [TrainBlock(np.array([0]), train[:1], cells[:1])], 1, np.array([0])
    )
    assert np.isinf(alone.distances).all()


@pytest.mark.parametrize("size", [10**9, 64])
def test_copies_are_at_zero_and_ties_go_to_the_lowest_row(size: int) -> None:
    train = np.repeat(np.random.default_rng(3).normal(size=(100, 16)).astype(np.float32), 3, axis=0)
    zeros = np.zeros(300, int)
    found = in_cell_neighbours(train[::3], zeros[:100], blocks(train, zeros, size), 5)
    assert (found.distances[:, :3] == 0).all()
    assert (found.rows[:, :3] == 10 * np.arange(300).reshape(100, 3)).all()
    same = in_cell_neighbours(
        train[:1], zeros[:1], blocks(np.repeat(train[:1], 500, axis=0), np.zeros(500, int), size), 50
    )
    assert same.rows[0].tolist() == list(range(0, 500, 10))


def test_near_duplicates_keep_their_distance_far_from_the_origin() -> None:
    train = (np.random.default_rng(4).normal(size=(2000, 64)) + 1000).astype(np.float32)
    queries, zeros = np.nextafter(train, np.float32(np.inf)), np.zeros(2000, int)
    found: InCell = in_cell_neighbours(queries, zeros, blocks(train, zeros), 2)
    exact = np.sqrt(((queries.astype(np.float64) - train.astype(np.float64)) ** 2).sum(axis=1))
    np.testing.assert_allclose(found.distances[:, 0], exact, rtol=1e-12)
    assert (found.rows[:, 0] == 10 * np.arange(2000)).all()


def test_far_and_crowded_vectors_hide_no_neighbour() -> None:
    """A product in float32 says nothing of distances in a crowd, and an outlier must not widen what it proposes."""
    rng = np.random.default_rng(5)
    train = rng.normal(size=(1500, 16)).astype(np.float32)
    train[:300] = train[0] + 1e-5 * train[:300]
    train[1499] = 1e6
    queries = np.concatenate([train[100:160] + np.float32(1e-6), train[400:460], train[1499:]])
    zeros = np.zeros(1500, int)
    for neighbours in (1, 50):
        found = in_cell_neighbours(queries, zeros[: len(queries)], blocks(train, zeros), neighbours)
        distances, rows = expected(queries, zeros[: len(queries)], train, zeros, neighbours)
        np.testing.assert_allclose(found.distances, distances, rtol=1e-9)
        assert (found.rows == rows).all()


def test_an_outlier_does_not_widen_what_is_proposed() -> None:
    train = np.random.default_rng(6).normal(size=(2000, 16))
    train[0] = 1e4
    squares, asking = (train**2).sum(axis=1), slice(1, 51)
    scores = (squares - 2 * train[asking] @ train.T).astype(np.float32)
    columns = in_cell._candidates(scores, squares[asking], np.full((50, 1), np.inf), 16)
    assert columns.tolist() == [[i] for i in range(1, 51)]
