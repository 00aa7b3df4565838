"""Bound on the error of Â from a search that misses some nearest training images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from scoring.checks.check import Check
from scoring.score.placements import check_sample

LOOSE = 0.25
"""Largest error of the search, as a share of the standard error of Â: with this bias a 95 % interval still covers
94.3 %."""

ROUNDING = 1e-5
"""Relative rounding of an index in float32: neighbours this close may change places, which hardly changes ranks."""

FEW_MISSES = 10
"""Misses from which on their own errors are used."""


class Recall(NamedTuple):
    """Share of queries whose nearest training image was found, with its exact interval.

    Attributes:
        queries: Queries with an exact answer.
        misses: Queries whose nearest was missed.
        rate: Recall r.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    queries: int
    misses: int
    rate: float
    low: float
    high: float


def measure_recall(distance: NDArray[np.float64], exact: NDArray[np.float64]) -> Recall:
    """Measure the recall of a search on queries with an exact answer.

    Args:
        distance: (s,) float64, distance found by the search.
        exact: (s,) float64, distance to the nearest training image.

    Raises:
        ValueError: The search found a training image nearer than the nearest.

    Source:
        Clopper & Pearson 1934.

    >>> measure_recall(np.array([1.0, 2.0, 3.5, 4.0]), np.array([1.0, 2.0, 3.0, 4.0]))[:3]
    (4, 1, 0.75)
    """
    if (distance < exact * (1 - ROUNDING)).any():
        raise ValueError("found a training image nearer than the nearest: the exact distances are of other data")
    queries, misses = len(exact), int(missed(distance, exact).sum())
    if not queries:
        return Recall(0, 0, math.nan, 0.0, 1.0)
    interval = binomtest(queries - misses, queries).proportion_ci(0.95, "exact")
    return Recall(queries, misses, 1 - misses / queries, float(interval.low), float(interval.high))


def missed(distance: NDArray[np.float64], exact: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Flag queries for which the search found another training image than the nearest."""
    worse: NDArray[np.bool_] = distance > exact * (1 + ROUNDING)
    return worse


@dataclass(frozen=True, slots=True, eq=False)
class Searched:
    """One image set after a search, with exact answers for a sample.

    Attributes:
        distance: (n,) float64, nearest distance found by the search.
        group: (n,) integer, merged cell; negative = dropped.
        exact: (n,) float64, exact nearest distance; NaN outside the sample.
        second: (n,) float64, exact distance to the second nearest; NaN outside the sample.
    """

    distance: NDArray[np.float64]
    group: NDArray[np.integer]
    exact: NDArray[np.float64]
    second: NDArray[np.float64]

    @property
    def recall(self) -> Recall:
        """Recall on the sample."""
        sample = ~np.isnan(self.exact)
        return measure_recall(self.distance[sample], self.exact[sample])

    @property
    def most_missed(self) -> float:
        """Upper bound (97.5 %) of the share of the set that was missed; the misses of the sample are known."""
        recall, n = self.recall, len(self.distance)
        return (recall.misses + (1 - recall.low) * (n - recall.queries)) / n


class SearchError(NamedTuple):
    """Error of a layer's search.

    Attributes:
        held_out: Recall for the held-out images.
        release: Recall for the generated images.
        bound: Upper bound of ``|ΔÂ|``.
        se: Standard error to compare it with.
    """

    held_out: Recall
    release: Recall
    bound: float
    se: float

    @property
    def loose(self) -> bool:
        """Whether the bound is too large to publish Â."""
        return self.bound > LOOSE * self.se


def search_error(held_out: Searched, release: Searched, se: float) -> SearchError:
    """Bound ``|ΔÂ|``, the difference between Â from the search and Â from the true nearest training images.

    A missed image has too large a distance. A generated one can only raise Â, by the share of held-out images of its
    group that it passes; a held-out one can only lower it. For each pair the changes never add up, so that ΔÂ is
    between -(1 - r_P)·flip_P and (1 - r_Q)·flip_Q. ``flip`` is the mean share that an image passes when its nearest
    training image is removed and the second nearest remains. It is measured on the sample, without assumptions on the
    distribution of distances. With ten or more misses, the share that these really passed counts if it is larger.

    If all distances are normal with the same mean and deviation, flip = ε/(2√π·CV) with ε = mean(d₂/d₁) - 1 and
    CV = deviation/mean. Real distances are skewed with less spread within a cell, so that this underestimates.

    The bound is compared with the standard error of Â, or with that of an honest release if this is larger: a release
    of copies alone has a standard error near 0, which no search could satisfy.

    Args:
        held_out: The held-out images after the search.
        release: The generated images.
        se: DeLong standard error of Â.

    Raises:
        ValueError: Distances that cannot be ranked, or no group with images of both sets.
    """
    for name, images in (("held_out", held_out), ("release", release)):
        check_sample(name, images.distance, images.group)
    n, m = _counts(held_out.group, release.group), _counts(release.group, held_out.group)
    both = (n > 0) & (m > 0)
    if not both.any():
        raise ValueError("no group holds both held-out and generated images")
    lowered = held_out.most_missed * _flip(held_out, release, both.astype(np.float64))
    weight = np.divide(n, m, out=np.zeros(len(n)), where=both)
    raised = release.most_missed * _flip(release, held_out, weight)
    n, m = n[both], m[both]
    honest = math.sqrt(float(((n / n.sum()) ** 2 * (n + m + 1) / (12 * n * m)).sum()))
    return SearchError(held_out.recall, release.recall, max(lowered, raised), max(se, honest))


def _counts(own: NDArray[np.integer], other: NDArray[np.integer]) -> NDArray[np.float64]:
    groups = max(int(own.max()), int(other.max()), -1) + 1
    return np.bincount(own[own >= 0], minlength=groups).astype(np.float64)


def _flip(missing: Searched, other: Searched, weight: NDArray[np.float64]) -> float:
    """Mean share of the other set's images of its group that a missed image passes; 1 without a sample.

    Args:
        missing: The set whose images are missed.
        other: The set among which they are ranked.
        weight: (g,) float64, weight of an image of each group in Â.
    """
    sample = np.flatnonzero(~np.isnan(missing.exact) & (missing.group >= 0))
    sample = sample[weight[missing.group[sample]] > 0]
    if not len(sample):
        return 1.0
    second, moved = np.zeros(len(sample)), np.zeros(len(sample))
    for group in np.unique(missing.group[sample]):
        at = missing.group[sample] == group
        ordered = np.sort(other.distance[other.group == group])
        before = _place(ordered, missing.exact[sample[at]])
        second[at] = _place(ordered, missing.second[sample[at]]) - before
        moved[at] = _place(ordered, missing.distance[sample[at]]) - before
    weights = weight[missing.group[sample]]
    flip = float(np.average(second, weights=weights))
    misses = missed(missing.distance[sample], missing.exact[sample])
    if misses.sum() < FEW_MISSES:
        return flip
    return max(flip, float((weights * moved)[misses].sum() / (misses.sum() * weights.mean())))


def _place(ordered: NDArray[np.float64], distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of ordered distances below each distance; ties count one half."""
    left, right = np.searchsorted(ordered, distances, "left"), np.searchsorted(ordered, distances, "right")
    return 0.5 * (left + right) / len(ordered)


def search_check(errors: Mapping[int, SearchError]) -> Check:
    """Check whether the search was exact enough in every layer.

    Args:
        errors: Layer → error; empty when every search was exact.

    >>> search_check({}).passed
    True
    """
    if not errors:
        exact = "the nearest training image of each image was searched exactly, inside its cell"
        return Check("search", True, 0.0, LOOSE, exact)
    layer = max(errors, key=lambda k: errors[k].bound / errors[k].se)
    worst = errors[layer]
    ratio, passed = worst.bound / worst.se, not worst.loose
    return Check(
        "search",
        passed,
        ratio,
        LOOSE,
        f"nearest of all training images, by index: layer {layer} is the least exact, with {_text(worst.held_out)} "
        f"held-out and {_text(worst.release)} generated images; Â is off by at most {worst.bound:.2g}, {ratio:.2g} of "
        "its standard error",
        "" if passed else "set scoring.search: in_cell, which is exact, for all releases of this reference",
    )


def _text(recall: Recall) -> str:
    return f"recall {recall.rate:.4f} ({recall.low:.4f}–{recall.high:.4f}) on {recall.queries}"
