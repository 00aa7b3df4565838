"""Exact nearest train vectors, inside the query's own cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scoring.presets import Metric

_ENTRIES = 2_000_000
"""Most entries of a score matrix or a pair list held at once."""


class Nearest(NamedTuple):
    """Nearest train vector of each query.

    Attributes:
        distance: (q,) float64; infinite where the query's cell has no train vector.
        row: (q,) int64 into train; -1 there.
    """

    distance: NDArray[np.float64]
    row: NDArray[np.int64]


_Pairs = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def in_cell_nearest(
    queries: NDArray[np.float32],
    query_cells: NDArray[np.integer],
    train: NDArray[np.float32],
    train_cells: NDArray[np.integer],
    metric: Metric,
) -> Nearest:
    """Nearest train vector of each query among those of the same cell: exact, in bounded memory.

    A float64 matrix product proposes every candidate that rounding could make the winner; the candidates are
    compared by direct differences in float64, ties going to the lowest train index.

    Args:
        queries: (q, k) float32, projected.
        query_cells: (q,) integer.
        train: (t, k) float32, projected.
        train_cells: (t,) integer.
        metric: ``euclidean``, or ``abs_cosine`` = 1 - |cos|, where a zero vector is at distance 1 from all.

    Raises:
        ValueError: Shapes that do not fit, or an unknown metric.

    Source:
        Meehan et al. 2020 (search inside the cell); He et al. 2024 (1 - |cos|).

    >>> train = np.float32([[0, 0], [3, 4], [9, 9]])
    >>> queries, cells = np.float32([[3, 0], [8, 9]]), np.array([0, 1])
    >>> in_cell_nearest(queries, cells, train, np.array([0, 0, 1]), "euclidean")
    Nearest(distance=array([3., 1.]), row=array([0, 2]))
    """
    _check(queries, query_cells, train, train_cells)
    if metric not in ("euclidean", "abs_cosine"):
        raise ValueError(f"metric must be euclidean or abs_cosine, got {metric!r}")
    search = _euclidean if metric == "euclidean" else _abs_cosine
    found = Nearest(np.full(len(queries), np.inf), np.full(len(queries), -1, np.int64))
    for cell in np.unique(query_cells):
        members = np.flatnonzero(train_cells == cell)
        if members.size == 0:
            continue
        base = train[members].astype(np.float64)
        asking = np.flatnonzero(query_cells == cell)
        step = max(1, _ENTRIES // members.size)
        for start in range(0, asking.size, step):
            rows = asking[start : start + step]
            near = search(queries[rows].astype(np.float64), base)
            found.distance[rows] = near.distance
            found.row[rows] = members[near.row]
    return found


def recompute_euclidean(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean distance of matching rows, as direct differences in float64.

    Half precision and the expansion ``|a|² - 2ab + |b|²`` destroy the distance of near-duplicates; this keeps it.

    Args:
        a: (n, k) float32.
        b: (n, k) float32.

    Returns:
        (n,) float64.

    >>> recompute_euclidean(np.float32([[1, 1]]), np.float32([[4, 5]])).tolist()
    [5.0]
    """
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"a and b must have the same shape (n, k), got {a.shape} and {b.shape}")
    distance = np.empty(len(a))
    step = max(1, _ENTRIES // max(1, a.shape[1]))
    for start in range(0, len(a), step):
        rows = slice(start, start + step)
        distance[rows] = _direct(a[rows].astype(np.float64), b[rows].astype(np.float64))
    return distance


def _euclidean(queries: NDArray[np.float64], train: NDArray[np.float64]) -> Nearest:
    centre = train.mean(axis=0)
    q, t = queries - centre, train - centre
    t_square = np.einsum("ij,ij->i", t, t)
    scores = q @ t.T
    scores *= -2
    scores += t_square
    power = np.einsum("ij,ij->i", q, q) + t_square.max()
    slack = 8 * (train.shape[1] + 2) * np.finfo(np.float64).eps * power
    return _refine(scores, slack, queries, train, _direct)


def _abs_cosine(queries: NDArray[np.float64], train: NDArray[np.float64]) -> Nearest:
    q, t = _unit(queries), _unit(train)
    scores = q @ t.T
    np.abs(scores, out=scores)
    np.negative(scores, out=scores)
    slack = np.full(len(q), 8 * (train.shape[1] + 2) * np.finfo(np.float64).eps)
    return _refine(scores, slack, q, t, _one_minus_abs_cos)


def _refine(
    scores: NDArray[np.float64],
    slack: NDArray[np.float64],
    queries: NDArray[np.float64],
    train: NDArray[np.float64],
    pair_distance: _Pairs,
) -> Nearest:
    """The best of each row's candidates (scores within ``slack`` of the least) by ``pair_distance``."""
    rows, columns = np.nonzero(scores <= (scores.min(axis=1) + slack)[:, None])
    distance = np.empty(rows.size)
    step = max(1, _ENTRIES // max(1, train.shape[1]))
    for start in range(0, rows.size, step):
        part = slice(start, start + step)
        distance[part] = pair_distance(queries[rows[part]], train[columns[part]])
    order = np.lexsort((columns, distance, rows))
    first = order[np.searchsorted(rows[order], np.arange(len(queries)))]
    return Nearest(distance[first], columns[first].astype(np.int64))


def _direct(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    difference = a - b
    square: NDArray[np.float64] = np.einsum("ij,ij->i", difference, difference)
    return np.sqrt(square)


def _one_minus_abs_cos(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - |cos| of unit rows as ½|u ∓ v|², which is exactly 0 for equal rows; 1 where a row is zero."""
    cos = np.einsum("ij,ij->i", u, v)
    difference = u - np.copysign(1.0, cos)[:, None] * v
    distance: NDArray[np.float64] = 0.5 * np.einsum("ij,ij->i", difference, difference)
    distance[~(u.any(axis=1) & v.any(axis=1))] = 1.0
    return distance


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit: NDArray[np.float64] = x / np.where(length == 0, 1.0, length)
    return unit


def _check(
    queries: NDArray[np.float32],
    query_cells: NDArray[np.integer],
    train: NDArray[np.float32],
    train_cells: NDArray[np.integer],
) -> None:
    if queries.ndim != 2 or train.ndim != 2 or queries.shape[1] != train.shape[1]:
        raise ValueError(f"queries and train must be (q, k) and (t, k), got {queries.shape}, {train.shape}")
    if query_cells.shape != (len(queries),) or train_cells.shape != (len(train),):
        raise ValueError(
            f"one cell a vector: {len(queries)} queries have cells {query_cells.shape}, "
            f"{len(train)} train vectors {train_cells.shape}"
        )
    if not (np.isfinite(queries).all() and np.isfinite(train).all()):
        raise ValueError("queries or train hold a NaN or an infinity")
