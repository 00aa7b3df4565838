"""AuthPct: the share of images farther from the training set than its own images are from each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest


@dataclass(frozen=True, slots=True)
class Share:
    """A share of images with its exact interval.

    Attributes:
        rate: k/m.
        low: Lower end (Clopper-Pearson).
        high: Upper end.
        k: Number of images that count.
        m: Number of all images.
    """

    rate: float
    low: float
    high: float
    k: int
    m: int


@dataclass(frozen=True, slots=True)
class Authenticity:
    """AuthPct of a release and of unseen real images.

    Attributes:
        release: Share of authentic generated images.
        held_out: Share of authentic held-out images, for comparison.
        difference: release - held_out; negative = the release is less authentic than unseen images.
        low: Lower end of the interval of the difference (Newcombe).
        high: Upper end.
    """

    release: Share
    held_out: Share
    difference: float
    low: float
    high: float


def authentic_share(
    distance_q: NDArray[np.float64], train_gap_of_winner: NDArray[np.float64], *, level: float = 0.95
) -> Share:
    """Compute the share of images with d(q, t*) > d(t*, nearest other training image), t* the one nearest to q.

    Both distances must come from one search (both inside cells, or both global). The share is below 100 % for unseen
    images too and depends on the size of the training set: compare it with that of held-out images.

    Args:
        distance_q: (m,) float64, nearest distances.
        train_gap_of_winner: (m,) float64, distance of each image's nearest training image to its own nearest
            other training image; infinite where there is none.
        level: Level of the interval.

    Raises:
        ValueError: Shapes that do not fit, no image, NaN.

    Source:
        Alaa et al. 2022 (arXiv 2102.08921, §4: authenticity).

    >>> share = authentic_share(np.array([1.0, 2.0, 3.0, 0.0]), np.array([2.0, 1.0, 1.0, 0.0]))
    >>> share.k, share.rate, round(share.low, 3), round(share.high, 3)
    (2, 0.5, 0.068, 0.932)
    """
    if distance_q.ndim != 1 or distance_q.size == 0 or distance_q.shape != train_gap_of_winner.shape:
        raise ValueError(f"need two non-empty vectors (m,), got {distance_q.shape} and {train_gap_of_winner.shape}")
    if np.isnan(distance_q).any() or np.isnan(train_gap_of_winner).any():
        raise ValueError("distances or gaps hold a NaN")
    return share_of(int((distance_q > train_gap_of_winner).sum()), distance_q.size, level=level)


def share_of(k: int, m: int, *, level: float = 0.95) -> Share:
    """Compute the share k/m with its Clopper-Pearson interval.

    >>> share_of(0, 10).high.__round__(4)
    0.3085
    """
    interval = binomtest(k, m).proportion_ci(level, method="exact")
    return Share(k / m, float(interval.low), float(interval.high), k, m)


def compare_authenticity(release: Share, held_out: Share, *, level: float = 0.95) -> Authenticity:
    """Compare AuthPct of a release with that of held-out images.

    Args:
        release: Share of the release.
        held_out: Share of the held-out images.
        level: Level of the interval of the difference.

    Source:
        Newcombe 1998, method 10 (square-and-add Wilson intervals).

    >>> both = compare_authenticity(share_of(56, 70), share_of(48, 80))
    >>> round(both.difference, 2), round(both.low, 4), round(both.high, 4)
    (0.2, 0.0524, 0.3339)
    """
    (low_q, high_q), (low_p, high_p) = _wilson(release, level), _wilson(held_out, level)
    difference = release.rate - held_out.rate
    below = math.hypot(release.rate - low_q, high_p - held_out.rate)
    above = math.hypot(high_q - release.rate, held_out.rate - low_p)
    return Authenticity(release, held_out, difference, max(-1.0, difference - below), min(1.0, difference + above))


def _wilson(share: Share, level: float) -> tuple[float, float]:
    interval = binomtest(share.k, share.m).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)
