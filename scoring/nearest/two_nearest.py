"""The two nearest train vectors of each query among all: exact, block by block."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from scoring.nearest.abs_cosine import recompute_euclidean


class TwoNearest(NamedTuple):
    """Distances of each query to its nearest and second nearest train vector.

    Attributes:
        first: (q,) float64.
        second: (q,) float64; infinite where there is only one train vector.
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]


def two_nearest(queries: NDArray[np.float32], blocks: Iterable[NDArray[np.float32]]) -> TwoNearest:
    """Compare every query with every train vector, whatever their number, in the memory of a block.

    Scikit-learn proposes the candidates from float64 products; their distances are direct differences in float64.

    Args:
        queries: (q, k) float32.
        blocks: The train vectors, (b, k) float32 each.

    Raises:
        ValueError: There is no train vector.

    >>> train = np.float32([[0, 0], [3, 4], [9, 9]])
    >>> two_nearest(np.float32([[3, 0], [8, 9]]), [train[:2], train[2:]])
    TwoNearest(first=array([3., 1.]), second=array([4.        , 7.07106781]))
    """
    best = np.full((len(queries), 2), np.inf)
    for train in blocks:
        near = NearestNeighbors(n_neighbors=min(2, len(train)), algorithm="brute").fit(train)
        found = near.kneighbors(queries, return_distance=False).T
        distances = [recompute_euclidean(queries, train[rows]) for rows in found]
        best = np.sort(np.column_stack([best, *distances]), axis=1)[:, :2]
    if np.isinf(best[:, 0]).any():
        raise ValueError("there is no train vector to compare with")
    return TwoNearest(best[:, 0], best[:, 1])
