"""How far a search that misses some nearest train images can move Â, and when that is too far."""

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
"""Share of the standard error of Â from which on the error of the search is too large: with a bias of so much a
95 % interval still covers 94.3 %."""

ROUNDING = 1e-5
"""An index works in float32, where neighbours this close may change places; ranks do not feel it."""

FEW_MISSES = 10
"""Fewer missed queries than this say nothing about how far the missed ones are off."""


class Recall(NamedTuple):
    """Share of queries whose nearest train image was found, with its exact interval.

    Attributes:
        queries: Queries that were answered exactly as well.
        misses: Those whose nearest was missed.
        rate: Recall r.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    queries: int
    misses: int
    rate: float
    low: float
    high: float


def recall(distance: NDArray[np.float64], exact: NDArray[np.float64]) -> Recall:
    """The recall of a search on queries that were answered exactly as well.

    Args:
        distance: (s,) float64, distance to what the search found.
        exact: (s,) float64, distance to the nearest train image.

    Raises:
        ValueError: The search found a train image nearer than the nearest.

    Source:
        Clopper & Pearson 1934.

    >>> recall(np.array([1.0, 2.0, 3.5, 4.0]), np.array([1.0, 2.0, 3.0, 4.0]))[:3]
    (4, 1, 0.75)
    """
    if (distance < exact * (1 - ROUNDING)).any():
        raise ValueError("the search found a train image nearer than the nearest: the exact distances are not its own")
    queries, misses = len(exact), int(missed(distance, exact).sum())
    if not queries:
        return Recall(0, 0, math.nan, 0.0, 1.0)
    interval = binomtest(queries - misses, queries).proportion_ci(0.95, "exact")
    return Recall(queries, misses, 1 - misses / queries, float(interval.low), float(interval.high))


def missed(distance: NDArray[np.float64], exact: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a search found another train image than the nearest."""
    worse: NDArray[np.bool_] = distance > exact * (1 + ROUNDING)
    return worse


@dataclass(frozen=True, slots=True, eq=False)
class Searched:
    """One image set as a search left it, with exact answers for a sample of it.

    Attributes:
        distance: (n,) float64, nearest distance as the search found it.
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
        return recall(self.distance[sample], self.exact[sample])

    @property
    def most_missed(self) -> float:
        """Share of the set that was missed, at most (97.5 %): the sample's misses are known, those of others not."""
        found, n = self.recall, len(self.distance)
        return (found.misses + (1 - found.low) * (n - found.queries)) / n


class SearchError(NamedTuple):
    """How exact a layer's search was.

    Attributes:
        held_out: Recall of the held-out images' search.
        release: Recall of the generated images' search.
        bound: ``|ΔÂ|`` at most.
        se: The standard error that it is held against.
    """

    held_out: Recall
    release: Recall
    bound: float
    se: float

    @property
    def loose(self) -> bool:
        """Whether the bound is too large for Â to be published."""
        return self.bound > LOOSE * self.se


def search_error(held_out: Searched, release: Searched, se: float) -> SearchError:
    """Bound ``|ΔÂ|``, the difference between Â of what the search found and of the nearest train images.

    A missed image gets a distance that is too large. One that is generated can only raise Â, by the share of held-out
    images of its group that it passes; a held-out one can only lower it. Pair by pair the changes never add up, so
    ΔÂ lies between -(1 - r_P)·flip_P and (1 - r_Q)·flip_Q. ``flip`` is the mean share passed by an image whose nearest
    train image is taken away, leaving the second nearest: it is measured on the sample, which makes no assumption
    on the distribution of distances. Where ten or more were missed, what these really passed counts if it is more.

    When all distances are normal with the same mean and deviation, flip = ε/(2√π·CV) with ε = mean(d₂/d₁) - 1 and
    CV = deviation/mean. Real distances are skewed and their spread within a cell is smaller, so that this
    underestimates.

    The bound is held against the standard error of Â, or against that of an honest release if this is larger: a
    release of copies alone has a standard error near 0, which no search could satisfy.

    Args:
        held_out: The held-out images as they were searched.
        release: The generated ones.
        se: DeLong standard error of Â.

    Raises:
        ValueError: Distances that cannot be ranked, or no group with images of both sets.
    """
    for name, one in (("held_out", held_out), ("release", release)):
        check_sample(name, one.distance, one.group)
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


def _flip(one: Searched, other: Searched, weight: NDArray[np.float64]) -> float:
    """Mean share of the other set's images of its group that a missed image passes; 1 where nothing is known.

    Args:
        one: The set whose images are missed.
        other: The set that they are ranked among.
        weight: (g,) float64, what an image of each group counts in Â.
    """
    sample = np.flatnonzero(~np.isnan(one.exact) & (one.group >= 0))
    sample = sample[weight[one.group[sample]] > 0]
    if not len(sample):
        return 1.0
    second, moved = np.zeros(len(sample)), np.zeros(len(sample))
    for group in np.unique(one.group[sample]):
        at = one.group[sample] == group
        ordered = np.sort(other.distance[other.group == group])
        before = _place(ordered, one.exact[sample[at]])
        second[at] = _place(ordered, one.second[sample[at]]) - before
        moved[at] = _place(ordered, one.distance[sample[at]]) - before
    weights = weight[one.group[sample]]
    flip = float(np.average(second, weights=weights))
    misses = missed(one.distance[sample], one.exact[sample])
    if misses.sum() < FEW_MISSES:
        return flip
    return max(flip, float((weights * moved)[misses].sum() / (misses.sum() * weights.mean())))


def _place(ordered: NDArray[np.float64], distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of ordered distances below each distance, ties counting one half."""
    left, right = np.searchsorted(ordered, distances, "left"), np.searchsorted(ordered, distances, "right")
    return 0.5 * (left + right) / len(ordered)


def search_check(errors: Mapping[int, SearchError]) -> Check:
    """Whether the search was exact enough in every layer.

    Args:
        errors: Layer → error; empty when every search was exact.

    >>> search_check({}).passed
    True
    """
    if not errors:
        exact = "the nearest train image of each image was searched exactly, inside its cell"
        return Check("search", True, 0.0, LOOSE, exact)
    layer = max(errors, key=lambda k: errors[k].bound / errors[k].se)
    worst = errors[layer]
    ratio, passed = worst.bound / worst.se, not worst.loose
    return Check(
        "search",
        passed,
        ratio,
        LOOSE,
        f"nearest of all train images, by index: at layer {layer}, the least exact, {_text(worst.held_out)} held-out "
        f"and {_text(worst.release)} generated images; Â is off by at most {worst.bound:.2g}, {ratio:.2g} of its "
        "standard error",
        "" if passed else "set scoring.search: in_cell, which is exact, for all releases of this reference",
    )


def _text(found: Recall) -> str:
    return f"recall {found.rate:.4f} ({found.low:.4f}–{found.high:.4f}) on {found.queries}"
