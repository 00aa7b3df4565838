"""The verdict on copies, from the copy scores of a release's images and of held-out images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scoring.checks.copies_power import smallest_rate_seen
from scoring.copies.copy_counts import CopyCounts, copy_counts, upper_rate
from scoring.score.conformal import conformal_p
from scoring.score.false_discovery import LISTED, discoveries
from scoring.verdict.copying import percent

Copying = Literal["copying", "no copying seen", "inconclusive"]


@dataclass(frozen=True, slots=True, eq=False)
class CopiesVerdict:
    """Whether a release of m images holds copies of training images, judged against n held-out images.

    Attributes:
        verdict: ``copying`` when a copy is certain, the lower bound of the rate exceeds the allowed one, and some image
            is listed, so that nobody is accused without an exhibit; ``no copying seen`` when the lower bound does not
            exceed the allowed rate, and the upper bound is at most the rate to rule out; else ``inconclusive``.
        counts: The lower bounds, over several thresholds together.
        high: Upper bound of the rate of copies, at the same level, above the line that at most 1 % of held-out images
            pass, the last of the ranks; at least the lower bound.
        p_values: (m,) float64, p of each image against the held-out ones.
        listed: (m,) bool, the images that are listed as copies: at most `LISTED` of them are expected to be wrong.
        smallest_seen: Rate of copies that would have been called copying with 80 % probability; None when there are too
            few images for any.
        sentence: The verdict in words, with its numbers.
    """

    verdict: Copying
    counts: CopyCounts
    high: float
    p_values: NDArray[np.float64]
    listed: NDArray[np.bool_]
    smallest_seen: float | None
    sentence: str


def copies_verdict(
    held_out: NDArray[np.float64], generated: NDArray[np.float64], *, max_copy_rate: float, detectable: float
) -> CopiesVerdict:
    """Judge whether a release holds copies of training images.

    Args:
        held_out: (n,) float64, copy scores of distinct held-out images.
        generated: (m,) float64, copy scores of the release's distinct images, of the same scale.
        max_copy_rate: Largest rate of copies allowed, in [0, 1).
        detectable: Rate of copies that "no copying seen" rules out, in (0, 1]; 1 rules out nothing.

    Raises:
        ValueError: No image, a score that is not a number, or a rate outside its range.

    >>> honest, copies = np.arange(999.0), np.full(30, 5e3)
    >>> copies_verdict(honest, np.append(honest[:270], copies), max_copy_rate=0.0, detectable=0.01).verdict
    'copying'
    >>> copies_verdict(honest, honest, max_copy_rate=0.0, detectable=0.02).verdict
    'no copying seen'
    """
    if not 0 <= max_copy_rate < 1 or not 0 < detectable <= 1:
        raise ValueError(f"need 0 <= max_copy_rate < 1 and 0 < detectable <= 1, got {max_copy_rate} and {detectable}")
    counts = copy_counts(held_out, generated)
    high = max(counts.low, upper_rate(counts.hits[-1], counts.m, counts.ranks[-1], counts.n, counts.level))
    p_values = conformal_p(-held_out, -generated)
    listed = discoveries(p_values, LISTED)
    smallest = smallest_rate_seen(counts.n, counts.m, max_copy_rate, level=counts.level)
    verdict: Copying = "inconclusive"
    if counts.at_least >= 1 and counts.low > max_copy_rate:
        verdict = "copying" if listed.any() else "inconclusive"
        facts = _copying(counts, int(listed.sum()), max_copy_rate) if listed.any() else _unlisted(counts)
    elif high <= detectable:
        verdict, facts = "no copying seen", f"{_found(counts, high, max_copy_rate)}; {_power(smallest)}"
    else:
        facts = _too_few(counts, high, max_copy_rate, detectable)
    return CopiesVerdict(verdict, counts, high, p_values, listed, smallest, f"{verdict}: {facts}")


def images_without_hit(rate: float, level: float = 0.95) -> int:
    """The fewest images that rule out a rate of copies when none of them lies above the line.

    >>> images_without_hit(0.01), upper_rate(0, 299, 1, 100) < 0.01 < upper_rate(0, 298, 1, 100)
    (299, True)
    """
    return math.ceil(math.log(1 - level) / math.log1p(-rate))


def _seen(counts: CopyCounts, line: int = -1) -> str:
    """How many images lie above a threshold, by its place among the ranks."""
    hits, share = counts.hits[line], counts.ranks[line] / (counts.n + 1)
    lie = "lies" if hits == 1 else "lie"
    return f"{hits:,} of {counts.m:,} images {lie} above the line that {percent(share)} % of unseen images pass"


def _copying(counts: CopyCounts, listed: int, max_copy_rate: float) -> str:
    one = counts.at_least == 1
    which = f"{listed:,} are listed, at most 10 % of them expected to be wrong"
    if listed == 1:
        which = "1 is listed, wrong with a probability of at most 10 %"
    return (
        f"at least {counts.at_least:,} of {counts.m:,} images {'is a copy' if one else 'are copies'} of training "
        f"images, whole or in part (95 %); {which}; rate of copies at least {percent(counts.low)} %, allowed "
        f"{percent(max_copy_rate)} %"
    )


def _unlisted(counts: CopyCounts) -> str:
    seen = _seen(counts, counts.ranks.index(counts.rank))
    return (
        f"{seen}, at least {counts.at_least:,} more than unseen images explain (95 %), but none of them can be listed "
        f"as a copy: more held-out images would tell whether some stand out"
    )


def _found(counts: CopyCounts, high: float, max_copy_rate: float) -> str:
    """What was found where the lower bound does not exceed the allowed rate."""
    if not counts.at_least:
        return f"{_seen(counts)}; the rate of copies is below {percent(high)} % (95 %)"
    return (
        f"at least {counts.at_least:,} of {counts.m:,} images {'is' if counts.at_least == 1 else 'are'} copied; the "
        f"rate of copies lies between {percent(counts.low)} % and {percent(high)} % (95 %), and "
        f"{percent(max_copy_rate)} % is allowed"
    )


def _too_few(counts: CopyCounts, high: float, max_copy_rate: float, detectable: float) -> str:
    needed = images_without_hit(detectable, counts.level)
    would_do = f"with no hit, {needed:,} images would do" if counts.m < needed else "more images would tell"
    found = _found(counts, high, max_copy_rate)
    return f"{found}; too few images to rule out a rate of {percent(detectable)} %: {would_do}"


def _power(smallest: float | None) -> str:
    if smallest is None:
        return "with so few images no rate of copies could have been called copying"
    return f"a rate of {percent(smallest)} % would have been called copying with 80 % probability"
