from __future__ import annotations

import numpy as np
import pytest

from scoring.nearest import in_cell
from scoring.nearest.abs_cosine import abs_cosine_nearest
from scoring.nearest.in_cell import TrainBlock
from scoring.nearest.in_memory import in_cell_nearest
from scoring.nearest.paired_distances import recompute_euclidean
from scoring.presets import Metric
from tests.scoring import oracle

METRICS: list[Metric] = ["euclidean", "abs_cosine"]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("entries", [1_000_000, 7])
def test_agrees_with_plain_loops_in_any_block_size(
    metric: Metric, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_cell, "_ENTRIES", entries)
    monkeypatch.setattr(in_cell, "_MEMBERS", entries)
    rng = np.random.default_rng(0)
    queries, train = rng.normal(size=(40, 5)).astype(np.float32), rng.normal(size=(90, 5)).astype(np.float32)
    query_cells, train_cells = rng.integers(0, 4, 40), rng.integers(0, 3, 90)
    near = in_cell_nearest(queries, query_cells, train, train_cells, metric)
    for i, (x, cell) in enumerate(zip(queries.tolist(), query_cells.tolist(), strict=True)):
        expected = oracle.nearest(x, cell, train.tolist(), train_cells.tolist(), metric)
        assert near.distance[i] == pytest.approx(expected, rel=1e-12)
        if cell == 3:
            assert (near.distance[i], near.row[i]) == (np.inf, -1)
        else:
            assert train_cells[near.row[i]] == cell
            assert oracle.distance(x, train[near.row[i]].tolist(), metric) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_copies_are_at_zero_and_ties_go_to_the_lowest_row(metric: Metric) -> None:
    train = np.repeat(np.random.default_rng(1).normal(size=(30, 16)).astype(np.float32), 3, axis=0)
    near = in_cell_nearest(train[::3], np.zeros(30, int), train, np.zeros(90, int), metric)
    assert near.distance.tolist() == [0.0] * 30
    assert near.row.tolist() == list(range(0, 90, 3))


def test_near_duplicates_keep_their_distance_far_from_the_origin() -> None:
    train = (np.random.default_rng(2).normal(size=(200, 64)) + 1000).astype(np.float32)
    queries = np.nextafter(train, np.float32(np.inf))
    near = in_cell_nearest(queries, np.zeros(200, int), train, np.zeros(200, int), "euclidean")
    assert near.row.tolist() == list(range(200))
    exact = np.sqrt(((queries.astype(np.float64) - train.astype(np.float64)) ** 2).sum(axis=1))
    np.testing.assert_allclose(near.distance, exact, rtol=1e-12)
    np.testing.assert_array_equal(recompute_euclidean(queries, train), near.distance)


def test_candidates_that_the_matrix_product_cannot_tell_apart_are_compared_directly() -> None:
    base = np.random.default_rng(3).normal(size=(100, 64)) * np.repeat([[1000], [-1000]], 50, axis=0)
    train = np.repeat(base.astype(np.float32), 2, axis=0)
    train[::2, 0] = np.nextafter(train[::2, 0], np.float32(np.inf))
    queries = train[1::2].copy()
    queries[:, 1] = np.nextafter(queries[:, 1], np.float32(np.inf))
    near = in_cell_nearest(queries, np.zeros(100, int), train, np.zeros(200, int), "euclidean")
    assert near.row.tolist() == list(range(1, 200, 2))


def test_abs_cosine_tells_directions_apart_that_a_product_in_float32_cannot() -> None:
    """Copies of another length and the opposite sign, beside directions that differ by a millionth."""
    rng = np.random.default_rng(4)
    train = np.repeat(rng.normal(size=(100, 16)).astype(np.float32), 2, axis=0)
    train[1::2, 0] *= np.float32(1 + 1e-6)
    queries = -2 * train[1::2]
    near = in_cell_nearest(queries, np.zeros(100, int), train, np.zeros(200, int), "abs_cosine")
    assert near.row.tolist() == list(range(1, 200, 2))
    assert (near.distance == 0).all()


@pytest.mark.parametrize("size", [1, 7, 300])
def test_abs_cosine_is_all_pairs_in_blocks_of_any_size(size: int) -> None:
    rng = np.random.default_rng(5)
    train, queries = rng.normal(size=(300, 8)).astype(np.float32), rng.normal(size=(80, 8)).astype(np.float32)
    train_cells, cells, rows = rng.integers(0, 3, 300), rng.integers(0, 3, 80), 10 * np.arange(300)
    parts = [slice(start, start + size) for start in range(0, 300, size)]
    near = abs_cosine_nearest(queries, cells, [TrainBlock(rows[p], train[p], train_cells[p]) for p in parts])
    units = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries.astype(float), train.astype(float))]
    distance = 1 - np.abs(units[0] @ units[1].T)
    distance[cells[:, None] != train_cells] = np.inf
    np.testing.assert_allclose(near.distances[:, 0], distance.min(axis=1), atol=1e-15)
    assert near.rows[:, 0].tolist() == (10 * distance.argmin(axis=1)).tolist()


def test_abs_cosine_calls_the_opposite_a_copy_and_a_zero_vector_far() -> None:
    train, cells = np.array([[1, 2], [2, -1]], np.float32), np.zeros(2, int)
    near = in_cell_nearest(np.array([[-1, -2], [0, 0]], np.float32), cells, train, cells, "abs_cosine")
    assert near.distance.tolist() == [0.0, 1.0]
    for angle in (0.5, 1.5):  # a zero vector in train is not nearer than one at any angle, and is found when alone
        train = np.array([[0, 0], [np.cos(angle), np.sin(angle)]], np.float32)
        near = in_cell_nearest(np.array([[1, 0], [1, 0]], np.float32), np.array([0, 1]), train, cells, "abs_cosine")
        assert near.row.tolist() == [1, -1]
        assert near.distance[0] == pytest.approx(1 - np.cos(angle))
    assert in_cell_nearest(train[1:], cells[:1], train[:1], cells[:1], "abs_cosine").distance.tolist() == [1.0]


def test_bad_input_is_named() -> None:
    x, cells = np.zeros((2, 3), np.float32), np.zeros(2, int)
    with pytest.raises(ValueError, match="got 'cosine'"):
        in_cell_nearest(x, cells, x, cells, "cosine")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got \(2, 3\), \(2, 2\)"):
        in_cell_nearest(x, cells, x[:, :2], cells, "euclidean")
    with pytest.raises(ValueError, match="2 queries have cells"):
        in_cell_nearest(x, cells[:1], x, cells, "euclidean")
    with pytest.raises(ValueError, match="NaN"):
        in_cell_nearest(x * np.float32(np.nan), cells, x, cells, "euclidean")
    with pytest.raises(ValueError, match="same shape"):
        recompute_euclidean(x, x[:1])
