"""Distance ratio: distance to the nearest training image, relative to the next nearest ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 50
"""Neighbours of an image: the nearest, and 49 for the local density of the training set."""


def mean_of_others(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean distance of the second and further neighbours that exist.

    Args:
        distances: (m, k) float64, ascending; NaN or infinite where the training set (or the cell) has fewer images.

    Returns:
        (m,) float64; NaN where there is no second neighbour.

    >>> mean_of_others(np.array([[1.0, 2.0, 4.0], [1.0, 2.0, np.inf], [1.0, np.inf, np.inf]])).tolist()
    [3.0, 2.0, nan]
    """
    if distances.ndim != 2 or distances.shape[1] < 1:
        raise ValueError(f"distances must be (m, k), got {distances.shape}")
    others = distances[:, 1:]
    there = np.isfinite(others)
    total, count = np.where(there, others, 0.0).sum(axis=1), there.sum(axis=1)
    mean: NDArray[np.float64] = np.divide(total, count, out=np.full(len(others), np.nan), where=count > 0)
    return mean


def distance_ratio(first: NDArray[np.float64], mean_of_others: NDArray[np.float64]) -> NDArray[np.float64]:
    """d(q, NN1) / mean d(q, NN2…NN50).

    A ratio has no absolute meaning (its tail depends on the dimension of the layer and on near-duplicates in the
    training set): read its conformal p-value among the ratios of held-out images.

    An image at distance 0 has ratio 0 even where the others are at 0 too (an exact copy of a training image that the
    training set holds many times), so that no copy is hidden. Without other neighbours (NaN or infinite) the ratio
    is 1.

    Args:
        first: (m,) float64, distance to the nearest training image.
        mean_of_others: (m,) float64, see :func:`mean_of_others`.

    Returns:
        (m,) float64 in [0, 1].

    Raises:
        ValueError: Shapes that do not fit, negative or NaN ``first``, or others nearer than the nearest.

    Source:
        Carlini et al. 2023 (arXiv 2301.13188, §4.2: distance relative to 50 neighbours).

    >>> distance_ratio(np.array([1.0, 0.0, 0.0, 3.0]), np.array([4.0, 4.0, 0.0, np.nan])).tolist()
    [0.25, 0.0, 0.0, 1.0]
    """
    if first.ndim != 1 or first.shape != mean_of_others.shape:
        raise ValueError(f"need two vectors (m,), got {first.shape} and {mean_of_others.shape}")
    if not (first >= 0).all():
        raise ValueError(f"first holds {int((~(first >= 0)).sum())} negative or NaN distances")
    compared = np.isfinite(mean_of_others)
    nearer = compared & (mean_of_others < first * (1 - 1e-6))
    if nearer.any():
        raise ValueError(f"{int(nearer.sum())} images have other neighbours nearer than their nearest")
    ratio = np.where(first == 0, 0.0, 1.0)
    usable = compared & (first > 0)
    return np.minimum(1.0, np.divide(first, mean_of_others, out=ratio, where=usable))
