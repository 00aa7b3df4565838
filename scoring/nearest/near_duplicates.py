"""Near-duplicates of training images, by a threshold estimated from the reference itself."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FALSE_RATE = 1e-4
"""Share of other images that one layer takes for near-duplicates."""

_BULK = (0.1, 0.5)
"""Quantiles of the distance ratio from which the tail is extrapolated."""

MIN_IMAGES = 100


class DuplicateThreshold(NamedTuple):
    """Largest distance ratio of a near-duplicate in one layer.

    Attributes:
        ratio: Largest ratio of a near-duplicate; 0 = only identical embeddings.
        dimension: Exponent of the lower tail, about the intrinsic dimension of the training set in this layer.
        false_rate: Expected share of other images below ``ratio``.
    """

    ratio: float
    dimension: float
    false_rate: float


def duplicate_threshold(ratio_p: NDArray[np.float64], false_rate: float = FALSE_RATE) -> DuplicateThreshold:
    """Estimate the threshold of one layer from the bulk of the held-out distance ratios.

    A low quantile of the held-out ratios would not do: the held-out near-duplicates are exactly there. Without
    duplicates the training images around an image are locally a Poisson process of some dimension D, so that the
    nearest of k at scale R has P(d > rR) = (1 - r^D)^k ≈ exp(-k·r^D): the hazard H(r) = -ln(1 - F(r)) of the ratio is a
    power of r. D and the scale come from the 10 % and 50 % quantiles, and H is extrapolated to ``false_rate``.
    Contamination by a share ε moves the 10 % quantile to one of about 10 % - ε of the clean images, which lowers D and
    the threshold: the error is on the side of keeping images.

    On CIFAR-10 (5,000 test and 10,000 training images with about 32 expected near-duplicates; raw pixels, 4 × 4 means
    and gradient histograms in 64 components) it gives 0.46, 0.44 and 0.55 and flags 34 images.

    Args:
        ratio_p: (n,) float64 in [0, 1], see :func:`scoring.nearest.distance_ratio.distance_ratio`.
        false_rate: Expected share of other images that are flagged.

    Raises:
        ValueError: Fewer than 100 ratios, or a rate outside (0, 0.1).

    Source:
        Facco et al. 2017 (ratios of neighbour distances are Pareto in the intrinsic dimension).

    >>> u = (np.arange(999) + 0.5) / 999
    >>> threshold = duplicate_threshold(0.8 * (-np.log1p(-u)) ** (1 / 8), 0.001)
    >>> round(threshold.dimension, 1), round(threshold.ratio, 2)
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
    hazard_low, hazard_high, hazard = (-math.log1p(-share) for share in (*_BULK, false_rate))
    dimension = math.log(hazard_high / hazard_low) / math.log(high / low)
    return DuplicateThreshold(low * (hazard / hazard_low) ** (1 / dimension), dimension, false_rate)


def near_duplicates(
    ratios: NDArray[np.float64],
    winners: NDArray[np.integer],
    thresholds: NDArray[np.float64],
    *,
    agree: int | None = None,
) -> NDArray[np.bool_]:
    """Flag images that several layers call near-duplicates of the same training image.

    One layer can be wrong (a small object in a blue sky); a near-duplicate has the same partner in many layers.

    Args:
        ratios: (L, m) float64, distance ratios.
        winners: (L, m) integer, nearest training image of each.
        thresholds: (L,) float64, see :func:`duplicate_threshold`.
        agree: Layers that must agree; by default half of them, but 2 if there are 2.

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
    """Find the held-out images to remove: near-duplicates of a training image.

    Removing another image costs little (one in 10,000 of the nearest held-out images per layer). A near-duplicate that
    stays hides copies, because it moves the tail threshold of every audit of this reference.

    Args:
        ratios_p: (L, n) float64, distance ratios of the held-out images.
        winners_p: (L, n) integer, their nearest training images.
        false_rate: See :func:`duplicate_threshold`.
        agree: See :func:`near_duplicates`.

    Returns:
        (n,) bool, True = remove.
    """
    thresholds = np.array([duplicate_threshold(layer, false_rate).ratio for layer in ratios_p])
    return near_duplicates(ratios_p, winners_p, thresholds, agree=agree)
