"""The two nearest training vectors of each query among all: exact, block by block."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scoring.nearest.in_cell import TrainBlock, in_cell_neighbours


class TwoNearest(NamedTuple):
    """Distances of each query to its nearest and second nearest training vector.

    Attributes:
        first: (q,) float64.
        second: (q,) float64; infinite where there is only one training vector.
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]


def two_nearest(queries: NDArray[np.float32], blocks: Iterable[NDArray[np.float32]]) -> TwoNearest:
    """Compare every query with every training vector: the search inside cells, with one cell.

    Args:
        queries: (q, k) float32.
        blocks: The training vectors, (b, k) float32 each.

    Raises:
        ValueError: There is no training vector.

    >>> train = np.float32([[0, 0], [3, 4], [9, 9]])
    >>> two_nearest(np.float32([[3, 0], [8, 9]]), [train[:2], train[2:]])
    TwoNearest(first=array([3., 1.]), second=array([4.        , 7.07106781]))
    """
    one_cell = (TrainBlock(np.arange(len(x)), x, np.zeros(len(x), np.int32)) for x in blocks)
    first, second = in_cell_neighbours(queries, np.zeros(len(queries), np.int32), one_cell, 2).distances.T
    if np.isinf(first).any():
        raise ValueError("there is no training vector to compare with")
    return TwoNearest(first, second)
