"""The copy rate: the excess of generated images very close to the training set over unseen real ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betainc, betainccinv, betaincinv, ndtr

from scoring.score.placements import check_sample


@dataclass(frozen=True, slots=True)
class CopyRate:
    """Copy rate of one layer at one tail.

    Attributes:
        alpha: Nominal tail; the actual one is r/(n + 1).
        n: Held-out images.
        m: Generated images.
        r: Rank of the threshold among the held-out distances.
        k: Generated images strictly below the threshold.
        threshold: r-th smallest held-out distance.
        rate: (k/m - α)/(1 - α) with α = r/(n + 1), within [0, 1].
        low: Lower end of the interval of the rate.
        high: Upper end.
        p_value: P(K ≥ k) without copies.
        level: Level of the interval.
        tied: Generated images exactly at the threshold.
    """

    alpha: float
    n: int
    m: int
    r: int
    k: int
    threshold: float
    rate: float
    low: float
    high: float
    p_value: float
    level: float
    tied: int


class Bounds(NamedTuple):
    """An interval."""

    low: float
    high: float


def copy_rate(
    dist_p: NDArray[np.float64], dist_q: NDArray[np.float64], *, alpha: float = 0.01, level: float = 0.95
) -> CopyRate | None:
    """Compute the copy rate with an exact interval that includes the error of the threshold.

    Model: a share c of the generated images is copied and falls below the threshold; the others do so with the
    probability B of an unseen real image. B is the r-th of n uniform order statistics, Beta(r, n + 1 - r), so that
    k ~ Beta-binomial(m, r, n + 1 - r) when c = 0.

    Ties: images at the threshold count in ``high`` but not in k and ``low``, so that both ends are conservative. When
    r held-out images are byte-identical to training images the threshold is 0, k is 0 and ``high`` counts all images
    at distance 0: clean the held-out set first.

    Args:
        dist_p: (n,) float64, nearest distances of held-out images.
        dist_q: (m,) float64, nearest distances of generated images.
        alpha: Tail.
        level: Level of the equal-tailed interval.

    Returns:
        The copy rate, or None when floor(alpha·(n + 1)) = 0: too few held-out images for this tail.

    Source:
        docs/method.md: "The copy rate and its interval".

    >>> rate = copy_rate(np.arange(199) + 1.0, np.array([0.5] * 5 + [50.0] * 95), alpha=0.01)
    >>> rate.r, rate.k, rate.threshold, round(rate.rate, 4), round(rate.low, 3), round(rate.high, 3)
    (2, 5, 2.0, 0.0404, 0.003, 0.105)
    """
    check_sample("dist_p", dist_p)
    check_sample("dist_q", dist_q)
    n, m = len(dist_p), len(dist_q)
    r = tail_rank(n, alpha)
    if r < 1:
        return None
    threshold = float(np.partition(dist_p, r - 1)[r - 1])
    k, tied = int((dist_q < threshold).sum()), int((dist_q == threshold).sum())
    share = r / (n + 1)
    low, high = copy_rate_bounds(k, m, r, n, level, tied=tied)
    rate = min(1.0, max(0.0, (k / m - share) / (1 - share)))
    p_value = chance_at_least(k, m, r, n, 0.0)
    return CopyRate(alpha, n, m, r, k, threshold, rate, low, high, p_value, level, tied)


def tail_rank(n: int, alpha: float) -> int:
    """floor(alpha·(n + 1)), the rank of the threshold; 0 = n is too small.

    >>> tail_rank(99, 0.01), tail_rank(98, 0.01)
    (1, 0)
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
    return math.floor(alpha * (n + 1) + 1e-9)


def copy_rate_bounds(k: int, m: int, r: int, n: int, level: float, *, tied: int = 0) -> Bounds:
    """Equal-tailed interval of the copy rate c, by inverting the two one-sided tests.

    ``low`` is the c with P(K ≥ k | c) = (1 - level)/2 (0 if there is none), ``high`` the c with
    P(K ≤ k + tied | c) = (1 - level)/2. When there are too few images below the threshold even for c = 0, the release
    is farther from the training images than unseen ones and does not share the background B: ``high`` then assumes no
    background, which gives the largest bound (Clopper-Pearson).

    Args:
        k: Generated images strictly below the threshold.
        m: Generated images.
        r: Rank of the threshold.
        n: Held-out images.
        level: Level of the interval; a one-sided bound at level 1 - a is the low end at level 1 - 2a.
        tied: Generated images exactly at the threshold.

    >>> [round(end, 4) for end in copy_rate_bounds(24, 500, 10, 1000, 0.95)]
    [0.02, 0.0619]
    """
    if not 0 <= k <= k + tied <= m or not 1 <= r <= n:
        raise ValueError(f"need 0 <= k <= m and 1 <= r <= n, got k={k}, tied={tied}, m={m}, r={r}, n={n}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    error = (1 - level) / 2
    low = _solve(lambda c: chance_at_least(k, m, r, n, c) - error) if k else 0.0
    most = k + tied
    if most == m:
        return Bounds(low, 1.0)
    if chance_at_least(most + 1, m, r, n, 0.0) >= 1 - error:
        return Bounds(low, float(betainccinv(most + 1, m - most, error)))
    return Bounds(low, _solve(lambda c: chance_at_least(most + 1, m, r, n, c) - (1 - error)))


def chance_at_least(k: int, m: int, r: int, n: int, c: float) -> float:
    """P(K ≥ k) with a share c of copies: E[P(Bin(m, c + (1 - c)B) ≥ k)], B ~ Beta(r, n + 1 - r).

    The mean over B is a trapezoid sum on the normal-score scale of B, where the integrand is smooth and decays like a
    Gaussian; the step follows the width sqrt(n/m) of its rise.

    >>> from scipy.stats import betabinom
    >>> round(chance_at_least(3, 100, 1, 99, 0.0), 6), float(betabinom.sf(2, 100, 1, 99).round(6))
    (0.12499, 0.12499)
    """
    if k <= 0:
        return 1.0
    background, weights = _background(r, n, math.ceil(8 / min(0.1, 0.5 * math.sqrt(n / m))))
    return min(1.0, float(weights @ betainc(k, m - k + 1, c + (1 - c) * background)))


@lru_cache(maxsize=64)
def _background(r: int, n: int, half: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values of B at 2·half + 1 normal scores from -8 to 8, and their weights (which sum to 1)."""
    score = np.linspace(-8.0, 8.0, 2 * half + 1)
    a, b = float(r), float(n + 1 - r)
    values = np.where(score < 0, betaincinv(a, b, ndtr(score)), betainccinv(a, b, ndtr(-score)))
    weights = np.exp(-0.5 * score**2)
    return values, weights / weights.sum()


def _solve(rising: Callable[[float], float]) -> float:
    """The zero of a rising function on [0, 1], 0 if it starts above zero."""
    if rising(0.0) >= 0:
        return 0.0
    return float(brentq(rising, 0.0, 1.0, xtol=1e-10, rtol=1e-12))
