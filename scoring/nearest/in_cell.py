"""The exact search: nearest training vectors of each query among those of its own cell, block by block."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_ENTRIES = 1_000_000
"""Most entries of a matrix in memory at once: they stay in a core's cache."""

_MEMBERS = 8192
"""Most training vectors of a cell to compare at a time; with more, too few queries would fit for a fast product."""

_GROUPS, _FEWEST_GROUPS = 4, 128
"""Groups of training vectors per neighbour, whose minima bound the distance of the last neighbour. NumPy takes the
minima of few groups at a sixteenth of the speed."""


class TrainBlock(NamedTuple):
    """A block of training vectors.

    Attributes:
        row: (b,) int64, ascending.
        vector: (b, k) float32 or float64, projected.
        cell: (b,) integer.
    """

    row: NDArray[np.int64]
    vector: NDArray[np.floating]
    cell: NDArray[np.integer]


class InCell(NamedTuple):
    """The nearest training vectors of each query within its cell, nearest first.

    Attributes:
        distances: (q, neighbours) float64; infinite where the cell has fewer.
        rows: (q, neighbours) int64; -1 there.
        vector: (q, k), the nearest one itself.
    """

    distances: NDArray[np.float64]
    rows: NDArray[np.int64]
    vector: NDArray[np.floating]


def in_cell_neighbours(
    queries: NDArray[np.floating],
    cells: NDArray[np.integer],
    blocks: Iterable[TrainBlock],
    neighbours: int,
    own_rows: NDArray[np.int64] | None = None,
    *,
    either_sign: bool = False,
) -> InCell:
    """Find the nearest training vectors by Euclidean distance, in the memory of one block.

    A float32 matrix product proposes every candidate that could be among the nearest, rounding errors allowed for;
    their distances are direct differences in float64. Ties go to the lowest row.

    Args:
        queries: (q, k) float32 or float64, projected.
        cells: (q,) integer.
        blocks: All training vectors.
        neighbours: Neighbours per query.
        own_rows: (q,) int64, the train row of each query, which is not its own neighbour; None when the queries are
            not training images.
        either_sign: Whether a training vector is as near as its opposite.

    >>> train = TrainBlock(np.arange(3), np.float32([[0, 0], [3, 4], [9, 9]]), np.array([0, 0, 1]))
    >>> near = in_cell_neighbours(np.float32([[3, 0], [8, 9]]), np.array([0, 1]), [train], neighbours=2)
    >>> near.distances.tolist(), near.rows.tolist()
    ([[3.0, 4.0], [1.0, inf]], [[0, 1], [2, -1]])
    """
    shape = (len(queries), neighbours)
    best = InCell(np.full(shape, np.inf), np.full(shape, -1, np.int64), np.zeros_like(queries))
    own = np.full(len(queries), -1, np.int64) if own_rows is None else own_rows
    for block in blocks:
        for cell in np.unique(cells):
            asking, members = np.flatnonzero(cells == cell), np.flatnonzero(block.cell == cell)
            for start in range(0, members.size, _MEMBERS):
                some = members[start : start + _MEMBERS]
                _search(best, queries, asking, own, block.row[some], block.vector[some], either_sign)
    return best


def _search(
    best: InCell,
    queries: NDArray[np.floating],
    asking: NDArray[np.int64],
    own: NDArray[np.int64],
    row: NDArray[np.int64],
    vectors: NDArray[np.floating],
    either_sign: bool,
) -> None:
    """Compare the queries ``asking`` with training vectors of their cell and keep the nearest in ``best``."""
    train = vectors.astype(np.float64)
    centre = np.zeros(train.shape[1]) if either_sign else train.mean(axis=0)
    base = train - centre
    squares = _squares(base).astype(np.float32)
    right = np.column_stack([base, np.zeros(len(base)) if either_sign else squares]).astype(np.float32)
    step = max(1, _ENTRIES // len(row))
    held = np.empty((min(step, asking.size), len(row)), np.float32)
    for start in range(0, asking.size, step):
        some = asking[start : start + step]
        x = queries[some].astype(np.float64)
        shifted = x - centre
        left = np.column_stack([-2 * shifted, np.ones(len(x))]).astype(np.float32)
        scores = np.matmul(left, right.T, out=held[: len(x)])  # squared distances less |x - centre|²
        if either_sign:
            np.subtract(squares, np.abs(scores, out=scores), out=scores)
        at = np.minimum(np.searchsorted(row, own[some]), len(row) - 1)
        itself = np.flatnonzero(row[at] == own[some])
        scores[itself, at[itself]] = np.inf
        columns = _candidates(scores, _squares(shifted), best.distances[some], train.shape[1])
        _merge(best, some, _nearest(x, train, row, columns, best.distances.shape[1], either_sign))


def _merge(best: InCell, asking: NDArray[np.int64], near: InCell) -> None:
    """Merge the neighbours from a block into the best so far, which stay first where distances are equal."""
    nearer = near.distances[:, 0] < best.distances[asking, 0]
    best.vector[asking[nearer]] = near.vector[nearer]
    if np.isinf(best.distances[asking]).all():
        best.distances[asking], best.rows[asking] = near.distances, near.rows
        return
    distances = np.concatenate([best.distances[asking], near.distances], axis=1)
    rows = np.concatenate([best.rows[asking], near.rows], axis=1)
    order = np.argsort(distances, axis=1, kind="stable")[:, : best.rows.shape[1]]
    best.distances[asking] = np.take_along_axis(distances, order, axis=1)
    best.rows[asking] = np.take_along_axis(rows, order, axis=1)


def _squares(x: NDArray[np.float64]) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", x, x)
    return squares


def _candidates(
    scores: NDArray[np.float32], square: NDArray[np.float64], known: NDArray[np.float64], dims: int
) -> NDArray[np.int64]:
    """Columns that may hold one of the n nearest of each query: (s, w), -1 after the last one.

    The n-th smallest of the minima of disjoint groups of columns is an upper bound of the n-th smallest score. With x
    and t measured from the centre, a product of k + 1 terms errs by less than (k + 4) ε (|x|² + 2|t|²); a vector t at
    distance D from x has |t|² ≤ 2|x|² + 2D², so that far vectors do not widen the bound.

    Args:
        scores: (s, t) squared distances less ``square``.
        square: (s,) |x|².
        known: (s, n) the nearest distances so far, ascending.
        dims: k.
    """
    neighbours = known.shape[1]
    groups = min(scores.shape[1], 1 if neighbours == 1 else max(_FEWEST_GROUPS, _GROUPS * neighbours))
    minima = scores[:, : scores.shape[1] // groups * groups].reshape(len(scores), -1, groups).min(axis=1)
    last = min(neighbours, groups) - 1
    bound = np.minimum(np.partition(minima, last, axis=1)[:, last], known[:, -1] ** 2 - square)
    rounding = (dims + 4) * np.finfo(np.float32).eps
    slack = 2 * rounding * (5 * square + 4 * np.maximum(bound + square, 0))
    within = np.flatnonzero(scores <= np.nextafter((bound + slack).astype(np.float32), np.float32(np.inf))[:, None])
    within = within[np.isfinite(scores.ravel()[within])]  # the score of the query itself is infinite
    query, column = np.divmod(within, scores.shape[1])
    rank = np.arange(len(query)) - np.searchsorted(query, query)
    columns = np.full((len(scores), max(neighbours, rank.max(initial=0) + 1)), -1)
    columns[query, rank] = column
    return columns


def _nearest(
    x: NDArray[np.float64],
    train: NDArray[np.float64],
    row: NDArray[np.int64],
    columns: NDArray[np.int64],
    neighbours: int,
    either_sign: bool,
) -> InCell:
    """The nearest of each query's candidates, by direct differences."""
    distance = np.empty(columns.shape)
    step = max(1, _ENTRIES // (columns.shape[1] * x.shape[1]))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        difference = train[columns[part]]
        if either_sign:
            difference *= np.copysign(1.0, np.einsum("swk,sk->sw", difference, x[part]))[..., None]
        difference -= x[part, None]
        distance[part] = np.sqrt(np.einsum("swk,swk->sw", difference, difference))
    distance[columns < 0] = np.inf
    order = np.argsort(distance, axis=1, kind="stable")[:, :neighbours]
    chosen = np.take_along_axis(columns, order, axis=1)
    return InCell(
        np.take_along_axis(distance, order, axis=1),
        np.where(chosen < 0, -1, row[chosen]),
        train[chosen[:, 0]],
    )
