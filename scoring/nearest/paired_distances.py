"""Distances of matching rows, as direct differences in float64.

Half precision and the expansion ``|a|² - 2ab + |b|²`` destroy the distance of near-duplicates, so that every search
recomputes the distances of its winners here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ENTRIES = 2_000_000
"""Most entries of a block of differences."""


def recompute_euclidean(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean distance of matching rows.

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
        difference = a[rows].astype(np.float64) - b[rows].astype(np.float64)
        distance[rows] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return distance


def recompute_abs_cosine(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - ``|cos|`` of matching rows as ½|u ∓ v|², which is exactly 0 for equal rows; 1 where a row is zero.

    Args:
        u: (n, k) float64, unit or zero vectors.
        v: (n, k) float64, likewise.

    Returns:
        (n,) float64 in [0, 1].

    >>> recompute_abs_cosine(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[-1.0, 0.0], [1.0, 0.0]])).tolist()
    [0.0, 1.0]
    """
    difference = u - np.copysign(1.0, np.einsum("ij,ij->i", u, v))[:, None] * v
    distance: NDArray[np.float64] = 0.5 * np.einsum("ij,ij->i", difference, difference)
    distance[~(u.any(axis=1) & v.any(axis=1))] = 1.0
    return distance
