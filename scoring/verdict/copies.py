"""The verdict on copies, from the copy scores of a release's images and of held-out images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from scoring.checks.copies_power import smallest_rate_seen
from scoring.copies.copy_counts import CopyCounts, copy_counts, upper_rate
from scoring.copies.units import Units, files_at_least
from scoring.score.conformal import conformal_p
from scoring.score.false_discovery import LISTED, discoveries
from scoring.verdict.copying import percent

Copying = Literal["copying", "no copying seen", "inconclusive"]


@dataclass(frozen=True, slots=True, eq=False)
class CopiesVerdict:
    """Whether a release of m images holds copies of training images, judged against held-out images.

    Images in groups are judged by one of each group (`scoring.copies.units`); without groups every image is its own.

    Attributes:
        verdict: ``copying`` when a copy is certain, the lower bound of the rate exceeds the allowed one, and some image
            is listed, so that nobody is accused without an exhibit; ``no copying seen`` when the lower bound does not
            exceed the allowed rate, and the upper bound is at most the rate to rule out; else ``inconclusive``.
        counts: The lower bounds, over several thresholds together; its n and m are groups.
        files_at_least: At least so many files of the release show pictures that are copies, at the same level.
        high: Upper bound of the rate of copies, at the same level, above the line that at most 1 % of held-out images
            pass, the last of the ranks; at least the lower bound.
        p_values: (m,) float64, p of each image against the held-out ones, one of each group.
        listed: (m,) bool, the images that are listed as copies: at most `LISTED` of them are expected to be wrong.
        smallest_seen: Rate of copies that would have been called copying with 80 % probability; None when there are too
            few images for any.
        sentence: The verdict in words, with its numbers.
    """

    verdict: Copying
    counts: CopyCounts
    files_at_least: int
    high: float
    p_values: NDArray[np.float64]
    listed: NDArray[np.bool_]
    smallest_seen: float | None
    sentence: str


def copies_verdict(
    held_out: NDArray[np.float64],
    generated: NDArray[np.float64],
    *,
    max_copy_rate: float,
    detectable: float,
    units: Units | None = None,
) -> CopiesVerdict:
    """Judge whether a release holds copies of training images.

    Args:
        held_out: (n,) float64, copy scores of distinct held-out images.
        generated: (m,) float64, copy scores of the release's distinct images, of the same scale.
        max_copy_rate: Largest rate of copies allowed, in [0, 1).
        detectable: Rate of copies that "no copying seen" rules out, in (0, 1]; 1 rules out nothing.
        units: The groups of both; None where every image is alone.

    Raises:
        ValueError: No image, a score that is not a number, a rate outside its range, or groups of other images.

    >>> honest, copies = np.arange(999.0), np.full(30, 5e3)
    >>> copies_verdict(honest, np.append(honest[:270], copies), max_copy_rate=0.0, detectable=0.01).verdict
    'copying'
    >>> copies_verdict(honest, honest, max_copy_rate=0.0, detectable=0.02).verdict
    'no copying seen'
    """
    if not 0 <= max_copy_rate < 1 or not 0 < detectable <= 1:
        raise ValueError(f"need 0 <= max_copy_rate < 1 and 0 < detectable <= 1, got {max_copy_rate} and {detectable}")
    units = units or Units.single(len(held_out), len(generated))
    if (len(units.held_out), len(units.generated)) != (len(held_out), len(generated)):
        raise ValueError("groups of other images")
    of_held_out, of_generated = units.drawn()
    calibration, drawn = held_out[of_held_out], generated[of_generated]
    counts = copy_counts(calibration, drawn)
    high = max(counts.low, upper_rate(counts.hits[-1], counts.m, counts.ranks[-1], counts.n, counts.level))
    p_values = conformal_p(-calibration, -generated)
    listed = discoveries(p_values, LISTED)
    smallest = smallest_rate_seen(counts.n, counts.m, max_copy_rate, level=counts.level)
    files = 0
    if counts.at_least:
        above = drawn > np.sort(calibration)[-counts.rank]
        files = files_at_least(counts.at_least, above, units.files[of_generated])
    judged = _Judged(counts, "images" if counts.m == len(generated) else "groups of images", high, max_copy_rate)
    verdict: Copying = "inconclusive"
    if counts.at_least >= 1 and counts.low > max_copy_rate:
        verdict = "copying" if listed.any() else "inconclusive"
        facts = judged.copying(int(listed.sum())) if listed.any() else judged.unlisted()
    elif high <= detectable:
        verdict, facts = "no copying seen", f"{judged.found()}; {_power(smallest)}"
    else:
        facts = judged.too_few(detectable)
    return CopiesVerdict(verdict, counts, files, high, p_values, listed, smallest, f"{verdict}: {facts}")


def images_without_hit(rate: float, level: float = 0.95) -> int:
    """The fewest images that rule out a rate of copies when none of them lies above the line.

    >>> images_without_hit(0.01), upper_rate(0, 299, 1, 100) < 0.01 < upper_rate(0, 298, 1, 100)
    (299, True)
    """
    return math.ceil(math.log(1 - level) / math.log1p(-rate))


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a verdict says, in words.

    Attributes:
        counts: The lower bounds.
        units: What is counted.
        high: The upper bound of the rate.
        max_copy_rate: Largest rate allowed.
    """

    counts: CopyCounts
    units: str
    high: float
    max_copy_rate: float

    def copying(self, listed: int) -> str:
        """Copies were found, and so many images are listed."""
        counts, images = self.counts, "" if self.units == "images" else " images"
        which = f"{listed:,}{images} are listed, at most 10 % of them expected to be wrong"
        if listed == 1:
            which = "1 is listed, wrong with a probability of at most 10 %"
        return (
            f"at least {counts.at_least:,} of {self._all} {self._be('is a copy', 'are copies')} of training images, "
            f"whole or in part (95 %); {which}; rate of copies at least {percent(counts.low)} %, allowed "
            f"{percent(self.max_copy_rate)} %"
        )

    def unlisted(self) -> str:
        """Too many lie above a line, and none can be listed."""
        seen = self._seen(self.counts.ranks.index(self.counts.rank))
        return (
            f"{seen}, at least {self.counts.at_least:,} more than unseen images explain (95 %), but none of them can "
            f"be listed as a copy: more held-out images would tell whether some stand out"
        )

    def found(self) -> str:
        """What was found where the lower bound does not exceed the allowed rate."""
        if not self.counts.at_least:
            return f"{self._seen()}; the rate of copies is below {percent(self.high)} % (95 %)"
        return (
            f"at least {self.counts.at_least:,} of {self._all} {self._be('is', 'are')} copied; the rate of copies lies "
            f"between {percent(self.counts.low)} % and {percent(self.high)} % (95 %), and "
            f"{percent(self.max_copy_rate)} % is allowed"
        )

    def too_few(self, detectable: float) -> str:
        """Neither found nor ruled out."""
        needed = images_without_hit(detectable, self.counts.level)
        would_do = (
            f"with no hit, {needed:,} {self.units} would do"
            if self.counts.m < needed
            else f"more {self.units} would tell"
        )
        return f"{self.found()}; too few {self.units} to rule out a rate of {percent(detectable)} %: {would_do}"

    @property
    def _all(self) -> str:
        return f"{self.counts.m:,} {self.units}"

    def _be(self, one: str, more: str) -> str:
        return one if self.counts.at_least == 1 else more

    def _seen(self, line: int = -1) -> str:
        """How many lie above a threshold, by its place among the ranks."""
        hits, share = self.counts.hits[line], self.counts.ranks[line] / (self.counts.n + 1)
        lie = "lies" if hits == 1 else "lie"
        return f"{hits:,} of {self._all} {lie} above the line that {percent(share)} % of unseen images pass"


def _power(smallest: float | None) -> str:
    if smallest is None:
        return "with so few images no rate of copies could have been called copying"
    return f"a rate of {percent(smallest)} % would have been called copying with 80 % probability"
