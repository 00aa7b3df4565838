"""The exact search by 1 - ``|cos|``, the distance of the ``paper`` preset."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scoring.nearest.in_cell import InCell, TrainBlock, in_cell_neighbours
from scoring.nearest.paired_distances import recompute_abs_cosine


def abs_cosine_nearest(
    queries: NDArray[np.float32], cells: NDArray[np.integer], blocks: Iterable[TrainBlock]
) -> InCell:
    """Find the training vector with the largest ``|cos|`` in each query's cell.

    On unit vectors 1 - ``|cos|`` is half the squared Euclidean distance to v or to -v, whichever is nearer. A zero
    vector is at distance 1 from all others: a further coordinate, 1 for zero training vectors, sees to that.

    Args:
        queries: (q, k) float32, projected.
        cells: (q,) integer.
        blocks: All training vectors.

    Returns:
        One neighbour per query; ``vector`` is a unit vector.

    Source:
        He et al. 2024 (1 - ``|cos|`` in the cell).

    >>> train = TrainBlock(np.arange(2), np.float32([[1, 0], [2, 2]]), np.array([0, 0]))
    >>> abs_cosine_nearest(np.float32([[-5, 0], [0, 0]]), np.array([0, 0]), [train]).distances.tolist()
    [[0.0], [1.0]]
    """
    unit = _unit(queries)
    near = in_cell_neighbours(_extended(unit, 0.0), cells, map(_unit_block, blocks), 1, either_sign=True)
    vector = near.vector[:, :-1].astype(np.float64)
    distances = np.where(near.rows < 0, np.inf, recompute_abs_cosine(unit, vector)[:, None])
    return InCell(distances, near.rows, vector)


def _unit_block(block: TrainBlock) -> TrainBlock:
    unit = _unit(block.vector)
    return block._replace(vector=_extended(unit, ~unit.any(axis=1)))


def _extended(x: NDArray[np.float64], last: ArrayLike) -> NDArray[np.float64]:
    return np.column_stack([x, np.broadcast_to(last, len(x))])


def _unit(x: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = x.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: NDArray[np.float64] = wide / np.where(length == 0, 1.0, length)
    return unit
