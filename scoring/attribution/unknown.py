"""The probability that the maker of a set is not enrolled."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

PRIOR, WIDTH = (4.0, 7.0), 3.0
"""Centre and width of the prior of both slopes: what 14 CIFAR-10 generators gave, as wide as to be left by 20 sets."""

NEAREST = 0.1
"""Least distance: sets of a maker whose images are all the same lie at 0 from it, and would decide the slopes."""

RELATED = 0.5
"""Mean probability, relative to the own maker's, from which a maker is a relative."""


class UnknownRule(NamedTuple):
    """Log odds of an unknown maker at equal prior odds: offset + near·log d₁ - gap·log(d₂/d₁).

    d₁ and d₂ are the distances from the nearest and the second maker. With more images d₁ of an enrolled maker stays
    near 1 while d₂ grows; of a stranger both grow alike, so that the odds move the right way without knowing how many
    images there are.

    Attributes:
        offset: Of the log odds.
        near: Slope on the distance from the nearest, at least 0.
        gap: Slope on its lead over the second, at least 0.
    """

    offset: float
    near: float
    gap: float

    def probability(self, distances: NDArray[np.float64], prior: float) -> float:
        """Probability that none of the makers made the set.

        Args:
            distances: (K,) float64, fused distances.
            prior: Probability before the images were seen; 0 stays 0.
        """
        if prior == 0:
            return 0.0
        odds = self.offset + _features(distances) @ np.array([self.near, -self.gap])
        return float(expit(odds + math.log(prior / (1 - prior))))


def fit_unknown(distances: NDArray[np.float64], own: NDArray[np.intp], closed: NDArray[np.float64]) -> UnknownRule:
    """Learn from trial sets with and without their own maker: a logistic regression with priors on its slopes.

    Relatives are left out with the own maker: one that is told from it by nothing would stand for a stranger at no
    distance, and no set of any maker would be named. Labels are softened to (N + 1)/(N + 2), so that N sets never give
    more certainty than N allows; both kinds weigh alike.

    Args:
        distances: (N, K) float64, fused distances of trial sets.
        own: (N,) integer, their makers.
        closed: (N, K) float64, probability of each maker.

    Source:
        Platt 1999; Chow 1970 (rejection by the two best).
    """
    n, k = distances.shape
    if n == 0 or k < 2:
        return UnknownRule(0.0, *PRIOR)
    strangers = [row[~_relatives(closed, own, maker)] for row, maker in zip(distances, own, strict=True)]
    strangers = [row for row in strangers if len(row)]
    if not strangers:
        return UnknownRule(0.0, *PRIOR)
    compared = min(len(row) for row in strangers) > 1  # of a single one left there is no second
    x = np.stack([_features(row) for row in (*distances, *strangers)]) * [1, -int(compared)]
    s = len(strangers)
    target = np.repeat([1 / (n + 2), (s + 1) / (s + 2)], [n, s])
    weight = np.repeat([1.0, n / s], [n, s])

    def loss(found: NDArray[np.float64]) -> float:
        odds = found[0] + x @ found[1:]
        return float(
            weight @ (np.logaddexp(0, odds) - target * odds) + 0.5 * np.square((found[1:] - PRIOR) / WIDTH).sum()
        )

    bounds = [(None, None), (0, None), (0, None)]
    offset, near, gap = minimize(loss, np.array([0.0, *PRIOR]), method="L-BFGS-B", bounds=bounds).x
    return UnknownRule(float(offset), float(near), float(gap) if compared else 0.0)


def _relatives(closed: NDArray[np.float64], own: NDArray[np.intp], maker: int) -> NDArray[np.bool_]:
    """(K,) the maker, and those that its own sets leave at least `RELATED` times as probable."""
    mean = closed[own == maker].mean(axis=0)
    related: NDArray[np.bool_] = mean >= RELATED * mean[maker]
    related[maker] = True
    return related


def _features(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of the nearest distance, and of the second over it; a single maker has no second."""
    logs = np.log(np.maximum(np.sort(distances), NEAREST))
    return np.array([logs[0], logs[1] - logs[0] if len(logs) > 1 else 0.0])
