"""The rates of copies that the copy verdict could have seen."""

from __future__ import annotations

import bisect
from functools import lru_cache

from scipy.optimize import brentq

from scoring.checks.check import Check
from scoring.checks.power import POWER
from scoring.copies.copy_counts import LEVEL, rank_grid, simultaneous_error
from scoring.score.copy_rate import chance_at_least
from scoring.score.false_discovery import fewest_discoveries

_MOST_IMAGES = 1_000_000


@lru_cache(maxsize=256)
def smallest_rate_seen(
    n: int, m: int, max_copy_rate: float = 0.0, *, level: float = LEVEL, power: float = POWER
) -> float | None:
    """Compute the rate of copies that :func:`.copies_verdict` would call copying with probability ``power``.

    It is that of copies that pass every threshold, so that the rank that shows them best decides. They must be too many
    for chance, and enough to be listed: with as many generated as held-out images ten.

    Args:
        n: Held-out images.
        m: Generated images.
        max_copy_rate: Largest rate allowed.
        level: Level of the bounds, over all ranks together.
        power: Probability of the verdict.

    Returns:
        The rate, or None when there are too few images for any rate.

    >>> round(smallest_rate_seen(1000, 1000), 4), smallest_rate_seen(3, 1) is None
    (0.0116, True)
    """
    error = simultaneous_error(n, m, level)
    rates = [_rate_seen(n, m, r, max_copy_rate, error, power) for r in rank_grid(n)]
    return min((rate for rate in rates if rate is not None), default=None)


def _rate_seen(n: int, m: int, r: int, max_copy_rate: float, error: float, power: float) -> float | None:
    needed = _hits_needed(n, m, r, max_copy_rate, error)
    if needed is None:
        return None
    return float(brentq(lambda c: chance_at_least(needed, m, r, n, c) - power, max_copy_rate, 1.0, xtol=1e-9))


def _is_seen(rate: float, n: int, m: int, r: int, max_copy_rate: float, error: float) -> bool:
    needed = _hits_needed(n, m, r, max_copy_rate, error)
    return needed is not None and chance_at_least(needed, m, r, n, rate) >= POWER


def _hits_needed(n: int, m: int, r: int, max_copy_rate: float, error: float) -> int | None:
    """The fewest images above the r-th highest held-out score that are called copying; None if no number is."""
    certain = bisect.bisect_left(range(m + 1), True, key=lambda k: chance_at_least(k, m, r, n, max_copy_rate) < error)
    needed = max(certain, fewest_discoveries(n, m, rank=r))
    return needed if needed <= m else None


def copies_power_check(n: int, m: int, max_copy_rate: float, *, wanted: float) -> Check:
    """Check whether the audit could have seen copies at the rate ``wanted``.

    It is a note: "no copying seen" needs an upper bound below that rate anyway.

    Args:
        n: Distinct held-out images.
        m: Distinct generated images.
        max_copy_rate: Largest rate allowed.
        wanted: Rate that must be seen.

    >>> copies_power_check(1000, 1000, 0.0, wanted=0.01).sentence
    'with 1,000 generated and 1,000 held-out images copies would be called at a rate of 1.2 % with 80 % probability'
    """
    smallest = smallest_rate_seen(n, m, max_copy_rate)
    counts = f"with {m:,} generated and {n:,} held-out images"
    if smallest is None:
        sentence = f"{counts} no rate of copies could be called copying"
    else:
        sentence = f"{counts} copies would be called at a rate of {100 * smallest:.2g} % with 80 % probability"
    passed = smallest is not None and smallest <= wanted
    remedy = "" if passed else _remedy(n, m, max_copy_rate, wanted)
    return Check("power", passed, smallest, wanted, sentence, remedy, "note")


def _remedy(n: int, m: int, max_copy_rate: float, wanted: float) -> str:
    if wanted <= max_copy_rate:
        return f"ask for more than the allowed {100 * max_copy_rate:.2g} %"
    enough = images_to_see(wanted, max_copy_rate, n=n, above=m)
    both = images_to_see(wanted, max_copy_rate, above=min(n, m))
    if enough is not None and (both is None or enough - m <= max(0, both - n) + max(0, both - m)):
        return f"generate about {enough:,} images to see {100 * wanted:.2g} %"
    number = "more" if both is None else f"about {both:,}"
    return f"give {number} held-out and generated images to see {100 * wanted:.2g} %"


def images_to_see(rate: float, max_copy_rate: float, *, n: int | None = None, above: int = 0) -> int | None:
    """A number of generated images with which a rate of copies is seen, a little more than the fewest.

    The ranks are tested at Bonferroni's level, which needs no simulation.

    Args:
        rate: Rate to see.
        max_copy_rate: Largest rate allowed.
        n: Held-out images; None = as many as generated ones.
        above: A number known to be too small.

    Returns:
        It, or None when a million images are not enough.

    >>> images_to_see(0.01, 0.0), images_to_see(0.001, 0.0, n=100) is None
    (1200, True)
    """

    def seen(m: int) -> bool:
        held_out = m if n is None else n
        ranks = rank_grid(held_out)
        error = (1 - LEVEL) / len(ranks)
        return any(_is_seen(rate, held_out, m, r, max_copy_rate, error) for r in ranks)

    low, high = max(above, 1), max(50, 2 * above)
    while not seen(high):
        low, high = high, 2 * high
        if high > _MOST_IMAGES:
            return None
    while high - low > max(1, high // 16):
        middle = (low + high) // 2
        low, high = (low, middle) if seen(middle) else (middle, high)
    return high
