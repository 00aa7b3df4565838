"""The copy rates that an audit could have seen."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from functools import lru_cache

from scipy.optimize import brentq

from scoring.checks.check import Check
from scoring.score.copy_rate import chance_at_least, tail_rank

FAMILY_ERROR = 0.05
"""Largest probability that a release at the allowed copy rate is called copying in any layer."""

WANTED_RATE = 0.05
"""Default of the copy rate that an audit must be able to see."""

POWER = 0.8

_ALPHA = 0.01
_MOST_IMAGES = 1_000_000


@lru_cache(maxsize=256)
def smallest_detectable_rate(n: int, m: int, layers: int, max_copy_rate: float, power: float = POWER) -> float | None:
    """Compute the copy rate that :func:`.copying_verdict` would call copying with probability ``power``.

    Exact under the model of :func:`scoring.score.copy_rate.copy_rate`, for copies that show in one layer alone.

    Args:
        n: Held-out images.
        m: Generated images.
        layers: Layers that measure the tail.
        max_copy_rate: Largest copy rate allowed.
        power: Probability of the verdict.

    Returns:
        The rate, or None when there are too few images for any rate.

    >>> round(smallest_detectable_rate(1000, 500, 12, 0.01), 3)
    0.042
    """
    r = tail_rank(n, _ALPHA)
    if r < 1:
        return None
    error = FAMILY_ERROR / layers
    needed = _least(0, m, lambda k: chance_at_least(k, m, r, n, max_copy_rate) < error)
    if needed is None:
        return None
    return float(brentq(lambda c: chance_at_least(needed, m, r, n, c) - power, max_copy_rate, 1.0, xtol=1e-9))


def fewest_images(
    rate: float, layers: int, max_copy_rate: float, *, n: int | None = None, above: int = 0
) -> int | None:
    """Compute the number of generated images with which a copy rate is called copying with 80 % probability.

    Args:
        rate: Copy rate to see.
        layers: Layers that measure the tail.
        max_copy_rate: Largest copy rate allowed.
        n: Held-out images; None = as many as generated ones.
        above: A number known to be too small, although a smaller one may happen to be enough.

    Returns:
        m (the detectable rate falls with m except for small steps), or None when no number of generated images is
        enough: the error of the threshold, set by n, remains.

    >>> fewest_images(0.05, 12, 0.01) < fewest_images(0.03, 12, 0.01)
    True
    """

    def seen(m: int) -> bool:
        smallest = smallest_detectable_rate(m if n is None else n, m, layers, max_copy_rate)
        return smallest is not None and smallest <= rate

    top = max(100, 2 * above)
    while not seen(top):
        top *= 2
        if top > _MOST_IMAGES:
            return None
    return _least(above + 1, top, seen)


def power_check(
    n: int, m: int, layers: int, max_copy_rate: float, *, wanted: float = WANTED_RATE, power: float = POWER
) -> Check:
    """Check whether the audit could have seen the copy rate ``wanted``.

    A failure makes only "no copying seen" inconclusive; a verdict of copying stays valid.

    Args:
        n: Held-out images.
        m: Generated images.
        layers: Layers that measure the tail; 0 = none.
        max_copy_rate: Largest copy rate allowed.
        wanted: Copy rate that must be seen.
        power: Probability of seeing it.

    >>> power_check(1000, 500, 12, 0.01).sentence
    'with 500 generated and 1000 held-out images a copy rate of 4.2 % would be called copying with 80 % probability'
    """
    smallest = smallest_detectable_rate(n, m, layers, max_copy_rate, power) if layers else None
    counts = f"{m} generated and {n} held-out images"
    if smallest is None:
        sentence = f"with {counts} no copy rate could be called copying"
    else:
        seen = f"a copy rate of {100 * smallest:.2g} %"
        sentence = f"with {counts} {seen} would be called copying with {100 * power:.3g} % probability"
    passed = smallest is not None and smallest <= wanted
    remedy = "" if passed else _remedy(n, m, layers, max_copy_rate, wanted)
    return Check("power", passed, smallest, wanted, sentence, remedy, "inconclusive")


def _remedy(n: int, m: int, layers: int, max_copy_rate: float, wanted: float) -> str:
    if not layers:
        return "give an informative layer and at least 99 held-out images"
    if wanted <= max_copy_rate:
        return f"ask for more than the allowed {100 * max_copy_rate:.2g} %"
    enough = fewest_images(wanted, layers, max_copy_rate, n=n, above=m)
    if enough is not None:
        return f"generate about {enough} images to see {100 * wanted:.2g} %"
    both = fewest_images(wanted, layers, max_copy_rate, above=min(n, m))
    number = "more" if both is None else f"about {both}"
    return f"give {number} held-out and generated images to see {100 * wanted:.2g} %"


def _least(first: int, most: int, holds: Callable[[int], bool]) -> int | None:
    """The smallest k in first…most for which a monotone condition holds; None if there is none."""
    k = first + bisect.bisect_left(range(first, most + 1), True, key=holds)
    return k if k <= most else None
