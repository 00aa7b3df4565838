from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from scoring.score.cells import merge_small_cells

LINE = np.array([[0], [1], [10], [12], [30]], np.float32)


def merged(n: list[int], m: list[int]) -> list[int]:
    groups = merge_small_cells(LINE[: len(n)], np.array(n), np.array(m))
    return [int(group) for group in groups]


def test_large_cells_stay_as_they_are() -> None:
    assert merged([50] * 5, [20] * 5) == [0, 1, 2, 3, 4]


def test_a_small_cell_joins_its_nearest() -> None:
    assert merged([80, 80, 40, 80, 80], [30, 30, 30, 30, 30]) == [0, 1, 2, 2, 3]
    assert merged([80, 80, 80, 80, 80], [30, 19, 30, 30, 30]) == [0, 0, 1, 2, 3]


def test_merging_goes_on_until_the_group_is_large_enough() -> None:
    assert merged([20, 20, 20, 90, 90], [30, 30, 30, 90, 90]) == [0, 0, 0, 0, 1]


def test_a_cell_the_release_does_not_generate_is_dropped() -> None:
    assert merged([100] * 5, [0, 50, 50, 50, 50]) == [-1, 0, 1, 2, 3]
    assert merged([100] * 5, [5, 50, 50, 50, 50]) == [0, 0, 1, 2, 3]


def test_an_empty_cell_where_few_were_expected_is_merged() -> None:
    assert merged([50, 100, 100, 100, 100], [0, 30, 30, 30, 30]) == [0, 0, 1, 2, 3]


def test_a_dropped_cell_comes_back_when_nothing_else_is_large_enough() -> None:
    assert merged([10, 1000, 1000, 0, 0], [500, 0, 0, 0, 0]) == [0, 0, -1, 0, 0]


def test_too_few_images_are_named() -> None:
    with pytest.raises(ValueError, match=r"49 held-out .* 100 generated"):
        merged([49, 0], [50, 50])
    with pytest.raises(ValueError, match="19 generated"):
        merged([90, 90], [10, 9])
    with pytest.raises(ValueError, match="2 centroids, but 1 and 2"):
        merge_small_cells(LINE[:2], np.array([1]), np.array([1, 1]))


SPOTS = np.array([[0], [1], [3.5], [9], [21]], np.float32)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=5, max_size=5))
def test_every_group_is_large_enough_and_only_scarce_cells_are_dropped(counts: list[tuple[int, int]]) -> None:
    n, m = np.array(counts).T
    if n.sum() < 50 or m.sum() < 20:
        return
    groups = merge_small_cells(SPOTS, n, m)
    kept = sorted(set(groups.tolist()) - {-1})
    assert kept == list(range(len(kept)))
    assert kept
    for group in kept:
        assert n[groups == group].sum() >= 50
        assert m[groups == group].sum() >= 20
    assert (m[groups < 0] < 20).all()
    assert (m[groups < 0] < 0.1 * m.sum() * n[groups < 0] / n.sum()).all()


def test_groups_do_not_depend_on_the_order_of_cells() -> None:
    rng = np.random.default_rng(0)
    merges = 0
    for _ in range(60):
        n, m, order = rng.integers(0, 20_000, 5), rng.integers(0, 20_000, 5), rng.permutation(5)
        m[rng.random(5) < 0.2] = 0
        here = merge_small_cells(SPOTS, n, m, min_n=9000, min_m=4000)
        there = merge_small_cells(SPOTS[order], n[order], m[order], min_n=9000, min_m=4000)
        back = np.empty(5, np.int32)
        back[order] = there
        np.testing.assert_array_equal(here[:, None] == here, back[:, None] == back)
        np.testing.assert_array_equal(here < 0, back < 0)
        merges += len(set(here.tolist())) < 5
    assert merges > 20
