"""What is said of planted copies, from copy scores alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scoring.checks.power import POWER
from scoring.verdict.copies import copies_verdict

TAIL = 0.01
"""Share of the unseen images that pass the line above which a copy counts as found."""

DRAWS = 40
"""Releases that are drawn to see how often a rate of copies is called."""

_MOST = 0.5


def tail_line(unseen: NDArray[np.float64], share: float = TAIL) -> float:
    """The score that this share of unseen images reaches; of fewer than 1/share images the highest.

    >>> tail_line(np.arange(199.0)), tail_line(np.arange(5.0))
    (197.0, 4.0)
    """
    return float(np.sort(unseen)[::-1][max(1, int(share * (len(unseen) + 1))) - 1])


def smallest_rate_called(
    unseen: NDArray[np.float64],
    honest: NDArray[np.float64],
    copies: NDArray[np.float64],
    *,
    max_copy_rate: float,
    detectable: float,
    seed: int = 0,
) -> float | None:
    """Measure the rate of copies of a kind from which on releases are called copying, with probability `POWER`.

    Releases are the honest images, some of them replaced by copies that are drawn with replacement. The rate is found
    by halving, with `DRAWS` releases a step, so that it is good to about a fifth of itself.

    Args:
        unseen: (n,) float64, copy scores of the held-out images that judge.
        honest: (m,) float64, of a release without copies.
        copies: (k,) float64, of copies of the kind.
        max_copy_rate: Largest rate of copies allowed.
        detectable: Rate of copies that "no copying seen" rules out.
        seed: Seed of the draws.

    Returns:
        The rate, or None when not even half a release of such copies is called.

    >>> honest, copies = np.arange(400.0), np.full(5, 1e4)
    >>> smallest_rate_called(honest, honest, copies, max_copy_rate=0.0, detectable=0.01)
    0.025
    >>> smallest_rate_called(honest, honest, honest, max_copy_rate=0.0, detectable=0.01) is None
    True
    """

    def called(planted: int) -> bool:
        rng = np.random.default_rng([seed, planted])
        calls = 0
        for draw in range(DRAWS):
            kept = rng.choice(honest, len(honest) - planted, replace=False)
            release = np.concatenate([rng.choice(copies, planted), kept])
            verdict = copies_verdict(unseen, release, max_copy_rate=max_copy_rate, detectable=detectable).verdict
            calls += verdict == "copying"
            if calls + DRAWS - 1 - draw < POWER * DRAWS:
                return False
        return True

    low, high = 0, int(_MOST * len(honest))
    if not high or not called(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if called(middle) else (middle, high)
    return high / len(honest)
