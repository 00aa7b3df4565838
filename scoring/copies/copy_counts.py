"""How many of a release's images are copies, from copy scores alone: bounds over several thresholds at once.

The r-th highest score of n held-out images is passed by k of m generated ones. Without copies all n + m scores are
exchangeable (groups of images count once), so that k follows a beta-binomial law and the k of several r have a known
joint law, which is simulated with a fixed seed. Few copies show at r = 1, where hardly any honest image is; many weak
ones at a larger r. Nobody knows which beforehand: the bounds hold for all ranks together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import betabinom

from scoring.score.copy_rate import chance_at_least
from scoring.score.placements import check_sample

LEVEL = 0.95

_LARGEST_SHARE = 0.01
"""Largest tail among the ranks, as a share of the held-out images."""

_SIMULATIONS = 20_000
_SEED = 7
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class CopyCounts:
    """Copies among a release's images.

    Attributes:
        n: Held-out images.
        m: Generated images.
        ranks: Ranks of the held-out scores that serve as thresholds.
        hits: Generated images strictly above each threshold.
        rank: The rank that gives ``at_least``; 0 when no rank shows a copy.
        at_least: At least so many of these m images are copies, with probability ``level``.
        low: Lower bound of the rate of copies of the generator, at the same level.
        p_value: Smallest level at which some copy would have been claimed.
        level: Level of each bound, over all ranks together.
    """

    n: int
    m: int
    ranks: tuple[int, ...]
    hits: tuple[int, ...]
    rank: int
    at_least: int
    low: float
    p_value: float
    level: float


def copy_counts(held_out: NDArray[np.float64], generated: NDArray[np.float64], *, level: float = LEVEL) -> CopyCounts:
    """Bound the number of copies from below.

    Args:
        held_out: (n,) float64, copy scores of held-out images.
        generated: (m,) float64, copy scores of generated images.
        level: Level of the bounds.

    Raises:
        ValueError: A sample is empty or not finite.

    >>> counts = copy_counts(np.arange(99.0), np.array([200.0] * 12 + [5.0] * 88))
    >>> counts.hits[0], counts.rank, counts.at_least, round(counts.low, 3)
    (12, 1, 8, 0.059)
    """
    check_sample("held_out", held_out)
    check_sample("generated", generated)
    n, m = len(held_out), len(generated)
    ranks = rank_grid(n)
    thresholds = np.sort(held_out)[::-1][[r - 1 for r in ranks]]
    hits = tuple(int((generated > threshold).sum()) for threshold in thresholds)
    error = simultaneous_error(n, m, level)
    least = [_at_least(k, m, r, n, error) for k, r in zip(hits, ranks, strict=True)]
    low = max(_low(k, m, r, n, error) for k, r in zip(hits, ranks, strict=True))
    most = int(np.argmax(least))
    smallest = min(chance_at_least(k, m, r, n, 0.0) for k, r in zip(hits, ranks, strict=True))
    at_least = least[most]
    return CopyCounts(
        n=n,
        m=m,
        ranks=ranks,
        hits=hits,
        rank=ranks[most] if at_least else 0,
        at_least=at_least,
        low=low,
        p_value=_family_p(smallest, n, m),
        level=level,
    )


def upper_rate(k: int, m: int, r: int, n: int, level: float = LEVEL) -> float:
    """The largest rate of copies above the r-th highest held-out score that k hits allow.

    The rate c at which so few hits have (1 - level) times the probability that they have without any copy. So a release
    that is farther from the training images than unseen ones are never gets a bound below that of no hit without
    background, and the bound falls with every image and rises with every hit.

    Args:
        k: Generated images above the threshold.
        m: Generated images.
        r: Rank of the threshold.
        n: Held-out images.
        level: Level of the bound.

    Source:
        Read 2002 (the CLs method), for the beta-binomial law of :func:`scoring.score.copy_rate.chance_at_least`.

    >>> round(upper_rate(0, 500, 1, 10**6), 5), round(1 - 0.05 ** (1 / 500), 5)
    (0.00597, 0.00597)
    """
    if not 0 <= k <= m or not 1 <= r <= n:
        raise ValueError(f"need 0 <= k <= m and 1 <= r <= n, got k={k}, m={m}, r={r}, n={n}")
    if k == m:
        return 1.0
    allowed = (1 - level) * (1 - chance_at_least(k + 1, m, r, n, 0.0))

    def left(c: float) -> float:
        return (1 - chance_at_least(k + 1, m, r, n, c)) - allowed

    return float(brentq(left, 0.0, 1.0, xtol=1e-9, rtol=1e-10))


def rank_grid(n: int) -> tuple[int, ...]:
    """The ranks of the held-out scores that serve as thresholds: 1, 2, 4, … up to 1 % of n.

    Farther down many honest images lie, and a release of another mix or sharpness has more or fewer of them.

    >>> rank_grid(1000), rank_grid(10)
    ((1, 2, 4, 8), (1,))
    """
    largest = max(1, math.floor(_LARGEST_SHARE * n))
    return tuple(2**i for i in range(largest.bit_length()))


@lru_cache(maxsize=64)
def _null_p(n: int, m: int) -> NDArray[np.float64]:
    """Sorted smallest p-values over the ranks in simulated releases without copies."""
    ranks = rank_grid(n)
    rng = np.random.default_rng(_SEED)
    steps = np.diff(np.array([0, *ranks]))
    gaps = rng.gamma(steps, size=(_SIMULATIONS, len(steps)))
    rest = rng.gamma(n + 1 - ranks[-1], size=_SIMULATIONS)
    background = np.cumsum(gaps, axis=1)
    background /= (background[:, -1] + rest)[:, None]
    smallest = np.ones(_SIMULATIONS)
    hits = np.zeros(_SIMULATIONS, np.int64)
    below = np.zeros(_SIMULATIONS)
    for column, r in enumerate(ranks):
        share = (background[:, column] - below) / (1 - below)
        hits = hits + rng.binomial(m - hits, np.clip(share, 0, 1))
        below = background[:, column]
        table = betabinom.sf(np.arange(hits.max() + 1) - 1, m, r, n + 1 - r)
        smallest = np.minimum(smallest, table[hits])
    return np.sort(smallest)


def simultaneous_error(n: int, m: int, level: float = LEVEL) -> float:
    """The level of each rank's one-sided test at which all of them together err with probability 1 - ``level`` at most.

    Between that of a single test and Bonferroni's, which need no simulation. With few images p has few values: then the
    level lies just below the one at which they would err more often.
    """
    null = _null_p(n, m)
    allowed = math.floor((1 - level) * _SIMULATIONS)
    simulated = float(null[max(0, allowed - 1)])
    too_often = int(np.searchsorted(null, simulated * (1 + _ROUNDING), side="right")) > allowed
    simulated *= 1 - _ROUNDING if too_often else 1 + _ROUNDING
    return min(1 - level, max((1 - level) / len(rank_grid(n)), simulated))


def _family_p(smallest: float, n: int, m: int) -> float:
    null = _null_p(n, m)
    reached = float(np.searchsorted(null, smallest, side="right"))
    return min(1.0, len(rank_grid(n)) * smallest, (1 + reached) / (_SIMULATIONS + 1))


def _at_least(k: int, m: int, r: int, n: int, error: float) -> int:
    """The fewest copies x with P(at least k - x of m - x honest images above the threshold) > error."""
    first, last = 0, k
    while first < last:
        x = (first + last) // 2
        if chance_at_least(k - x, m - x, r, n, 0.0) > error:
            last = x
        else:
            first = x + 1
    return first


def _low(k: int, m: int, r: int, n: int, error: float) -> float:
    if chance_at_least(k, m, r, n, 0.0) > error:
        return 0.0
    return float(brentq(lambda c: chance_at_least(k, m, r, n, c) - error, 0.0, 1.0, xtol=1e-10, rtol=1e-12))
