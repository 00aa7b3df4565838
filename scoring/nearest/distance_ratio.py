"""Distance to the nearest train image, measured in the distances of the next nearest ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scoring.score.conformal import conformal_p

NEIGHBOURS = 50
"""Train images looked at: the nearest, and 49 that say how dense train is there."""


class CalibratedRatio(NamedTuple):
    """How unusual the distance ratios of generated images are.

    Attributes:
        ratio: (m,) float64 in [0, 1], small = one train image stands out as much nearer than the others.
        p: (m,) float64, share of held-out images with a ratio as small, counting the image itself.
    """

    ratio: NDArray[np.float64]
    p: NDArray[np.float64]


def mean_of_others(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean distance of the second and further neighbours, over those that there are.

    Args:
        distances: (m, k) float64, ascending; NaN or infinite where train (or the cell) has fewer images.

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

    An image at distance 0 has ratio 0 even where the others are at 0 too (an exact copy of a train image
    that train holds many times): evidence is not hidden; where held-out images do the same, the calibrated p
    says so. Without other neighbours (NaN or infinite) there is nothing to compare with: the ratio is 1.

    Args:
        first: (m,) float64, distance to the nearest train image.
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


def calibrated_ratio(
    first_p: NDArray[np.float64],
    others_p: NDArray[np.float64],
    first_q: NDArray[np.float64],
    others_q: NDArray[np.float64],
) -> CalibratedRatio:
    """Distance ratios of generated images with their conformal p-values among held-out images.

    A ratio has no absolute meaning (its tail depends on the dimension of the layer and on near-duplicates
    inside train); among held-out images it has: an image that is exchangeable with them has P(p ≤ t) ≤ t.

    Args:
        first_p: (n,) float64, nearest distances of held-out images.
        others_p: (n,) float64, their mean distances of the other neighbours.
        first_q: (m,) float64, nearest distances of generated images.
        others_q: (m,) float64, likewise.

    Source:
        Carlini et al. 2023; Bates et al. 2023.

    >>> calibrated_ratio(np.array([2.0, 3.0]), np.array([4.0, 4.0]), np.array([0.5]), np.array([5.0])).ratio.tolist()
    [0.1]
    """
    ratio = distance_ratio(first_q, others_q)
    return CalibratedRatio(ratio, conformal_p(distance_ratio(first_p, others_p), ratio))
