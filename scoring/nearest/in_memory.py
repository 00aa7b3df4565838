"""The search inside cells on plain arrays, for whoever has all training vectors in memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scoring.nearest.abs_cosine import abs_cosine_nearest
from scoring.nearest.in_cell import TrainBlock, in_cell_neighbours
from scoring.presets import Metric


class Nearest(NamedTuple):
    """Nearest training vector of each query.

    Attributes:
        distance: (q,) float64; infinite where the query's cell has no training vector.
        row: (q,) int64 into train; -1 there.
    """

    distance: NDArray[np.float64]
    row: NDArray[np.int64]


def in_cell_nearest(
    queries: NDArray[np.float32],
    query_cells: NDArray[np.integer],
    train: NDArray[np.float32],
    train_cells: NDArray[np.integer],
    metric: Metric,
) -> Nearest:
    """Find the nearest training vector of each query among those of the same cell, exactly. Ties go to the lowest row.

    Args:
        queries: (q, k) float32, projected.
        query_cells: (q,) integer.
        train: (t, k) float32, projected.
        train_cells: (t,) integer.
        metric: ``euclidean``, or ``abs_cosine`` = 1 - ``|cos|``, where a zero vector is at distance 1 from all.

    Raises:
        ValueError: Shapes that do not fit, a NaN, or an unknown metric.

    Source:
        Meehan et al. 2020 (search inside the cell); He et al. 2024 (1 - ``|cos|``).

    >>> train = np.float32([[0, 0], [3, 4], [9, 9]])
    >>> queries, cells = np.float32([[3, 0], [8, 9]]), np.array([0, 1])
    >>> in_cell_nearest(queries, cells, train, np.array([0, 0, 1]), "euclidean")
    Nearest(distance=array([3., 1.]), row=array([0, 2]))
    """
    if metric not in ("euclidean", "abs_cosine"):
        raise ValueError(f"metric must be euclidean or abs_cosine, got {metric!r}")
    if queries.ndim != 2 or train.ndim != 2 or queries.shape[1] != train.shape[1]:
        raise ValueError(f"queries and train must be (q, k) and (t, k), got {queries.shape}, {train.shape}")
    if query_cells.shape != (len(queries),) or train_cells.shape != (len(train),):
        raise ValueError(
            f"need one cell per vector: {len(queries)} queries have cells {query_cells.shape}, "
            f"{len(train)} training vectors {train_cells.shape}"
        )
    if not (np.isfinite(queries).all() and np.isfinite(train).all()):
        raise ValueError("queries or train hold a NaN or an infinity")
    blocks = [TrainBlock(np.arange(len(train)), train, train_cells)]
    if metric == "euclidean":
        near = in_cell_neighbours(queries, query_cells, blocks, neighbours=1)
    else:
        near = abs_cosine_nearest(queries, query_cells, blocks)
    return Nearest(near.distances[:, 0], near.rows[:, 0])
