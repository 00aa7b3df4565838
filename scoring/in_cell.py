"""The nearest train vectors of each query among those of its own cell: exact, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scoring.distances import recompute_euclidean

_ENTRIES = 400_000
"""Most entries of a score matrix held at once: they stay in a core's cache."""

_GROUPS = 4
"""Groups of train vectors for each neighbour that is asked for, whose minima bound the distance of the last one."""


class TrainBlock(NamedTuple):
    """Some train vectors.

    Attributes:
        row: (b,) int64, ascending.
        vector: (b, k) float32, projected.
        cell: (b,) integer.
    """

    row: NDArray[np.int64]
    vector: NDArray[np.float32]
    cell: NDArray[np.integer]


class InCell(NamedTuple):
    """The nearest train vectors of each query within its cell, nearest first.

    Attributes:
        distances: (q, neighbours) float64; infinite where the cell has fewer.
        rows: (q, neighbours) int64; -1 there.
        vector: (q, k) float32, the nearest one itself.
    """

    distances: NDArray[np.float64]
    rows: NDArray[np.int64]
    vector: NDArray[np.float32]


def in_cell_neighbours(
    queries: NDArray[np.float32],
    cells: NDArray[np.integer],
    blocks: Iterable[TrainBlock],
    neighbours: int,
    own_rows: NDArray[np.int64] | None = None,
) -> InCell:
    """Search the cells, whatever the number of train vectors, in the memory of a block.

    A float64 matrix product proposes every candidate that rounding could make one of the nearest; their distances are
    direct differences in float64, ties going to the lowest row.

    Args:
        queries: (q, k) float32, projected.
        cells: (q,) integer.
        blocks: All train vectors.
        neighbours: Neighbours of each query.
        own_rows: (q,) int64, the train row that each query is, left out of train; None when they are none.

    >>> train = TrainBlock(np.arange(3), np.float32([[0, 0], [3, 4], [9, 9]]), np.array([0, 0, 1]))
    >>> found = in_cell_neighbours(np.float32([[3, 0], [8, 9]]), np.array([0, 1]), [train], neighbours=2)
    >>> found.distances.tolist(), found.rows.tolist()
    ([[3.0, 4.0], [1.0, inf]], [[0, 1], [2, -1]])
    """
    shape = (len(queries), neighbours)
    best = InCell(np.full(shape, np.inf), np.full(shape, -1, np.int64), np.zeros_like(queries))
    own = np.full(len(queries), -1, np.int64) if own_rows is None else own_rows
    for block in blocks:
        for asking, found in _found(queries, cells, own, block, neighbours):
            _merge(best, asking, found)
    return best


def _merge(best: InCell, asking: NDArray[np.int64], found: InCell) -> None:
    """Put what a block holds for some queries among the best so far; these stay first where equal."""
    nearer = found.distances[:, 0] < best.distances[asking, 0]
    best.vector[asking[nearer]] = found.vector[nearer]
    if np.isinf(best.distances[asking]).all():
        best.distances[asking], best.rows[asking] = found.distances, found.rows
        return
    distances = np.concatenate([best.distances[asking], found.distances], axis=1)
    rows = np.concatenate([best.rows[asking], found.rows], axis=1)
    order = np.argsort(distances, axis=1, kind="stable")[:, : best.rows.shape[1]]
    best.distances[asking] = np.take_along_axis(distances, order, axis=1)
    best.rows[asking] = np.take_along_axis(rows, order, axis=1)


def _found(
    queries: NDArray[np.float32],
    cells: NDArray[np.integer],
    own: NDArray[np.int64],
    block: TrainBlock,
    neighbours: int,
) -> Iterator[tuple[NDArray[np.int64], InCell]]:
    """What a block holds, for some queries of one cell at a time."""
    for cell in np.unique(cells):
        members = np.flatnonzero(block.cell == cell)
        if not members.size:
            continue
        row, train = block.row[members], block.vector[members]
        centre = train.mean(axis=0, dtype=np.float64)
        base = train - centre
        square = np.einsum("ij,ij->i", base, base)
        waiting = np.flatnonzero(cells == cell)
        step = max(1, _ENTRIES // members.size)
        for start in range(0, waiting.size, step):
            asking = waiting[start : start + step]
            x = queries[asking] - centre
            scores = (-2 * x) @ base.T
            scores += square
            at = np.minimum(np.searchsorted(row, own[asking]), len(row) - 1)
            itself = np.flatnonzero(row[at] == own[asking])
            scores[itself, at[itself]] = np.inf
            power = np.einsum("ij,ij->i", x, x) + square.max()
            slack = 8 * (train.shape[1] + 2) * np.finfo(np.float64).eps * power
            asked, column = _candidates(scores, slack, neighbours)
            yield asking, _ranked(queries[asking], train, row, asked, column, neighbours)


def _candidates(
    scores: NDArray[np.float64], slack: NDArray[np.float64], neighbours: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (query, column) that hold the nearest ones of each query, in the order of the queries.

    Of the minima of disjoint groups of columns, the n-th smallest is no less than the n-th smallest of all.
    """
    columns = scores.shape[1]
    if neighbours == 1:
        bound = scores.min(axis=1)
    elif columns <= neighbours:
        bound = scores.max(axis=1)
    else:
        size = max(1, columns // (_GROUPS * neighbours))
        minima = scores[:, : columns // size * size].reshape(len(scores), -1, size).min(axis=2)
        bound = np.partition(minima, neighbours - 1)[:, neighbours - 1]
    found = np.flatnonzero(scores <= (bound + 2 * slack)[:, None])
    found = found[np.isfinite(scores.ravel()[found])]  # the query itself is not
    return np.divmod(found, columns)


def _ranked(
    queries: NDArray[np.float32],
    train: NDArray[np.float32],
    row: NDArray[np.int64],
    asked: NDArray[np.int64],
    column: NDArray[np.int64],
    neighbours: int,
) -> InCell:
    """The nearest of each query's candidates by direct differences."""
    distance = recompute_euclidean(queries[asked], train[column])
    order = np.lexsort((column, distance, asked))
    asked, column, distance = asked[order], column[order], distance[order]
    rank = np.arange(len(asked)) - np.searchsorted(asked, asked)
    kept = rank < neighbours
    shape = (len(queries), neighbours)
    found = InCell(np.full(shape, np.inf), np.full(shape, -1, np.int64), np.zeros_like(queries))
    found.distances[asked[kept], rank[kept]] = distance[kept]
    found.rows[asked[kept], rank[kept]] = row[column[kept]]
    found.vector[asked[rank == 0]] = train[column[rank == 0]]
    return found
