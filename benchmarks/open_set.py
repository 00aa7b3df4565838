"""How well an attribution method does: accuracy, unknown makers, and whether its confidence is right."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score


class Share(NamedTuple):
    """A share with its interval (Wilson 1927)."""

    value: float
    low: float
    high: float


class Reliability(NamedTuple):
    """Stated confidence against observed accuracy.

    Attributes:
        confidence: (b,) float64, mean of each bin.
        accuracy: (b,) float64.
        size: (b,) int64, answers in each bin.
        ece: Expected calibration error, Σ size·|accuracy - confidence| / Σ size.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    size: NDArray[np.int64]
    ece: float


def wilson(right: int, total: int, level: float = 0.95) -> Share:
    """The share of what is right, with its Wilson interval.

    >>> [round(x, 3) for x in wilson(17, 18)]
    [0.944, 0.742, 0.99]
    """
    interval = binomtest(right, total).proportion_ci(level, method="wilson")
    return Share(right / total, float(interval.low), float(interval.high))


def auroc(known: NDArray[np.float64], unknown: NDArray[np.float64]) -> float:
    """Chance that a set whose maker is enrolled scores higher than one whose maker is not, ties one half.

    >>> auroc(np.array([0.9, 0.5]), np.array([0.5, 0.1]))
    0.875
    """
    labels = np.repeat([1, 0], [len(known), len(unknown)])
    return float(roc_auc_score(labels, np.concatenate([known, unknown])))


def oscr(known: NDArray[np.float64], right: NDArray[np.bool_], unknown: NDArray[np.float64]) -> float:
    """Area under the rate of correct classification against the rate of accepted unknowns.

    Args:
        known: (n,) float64, scores of sets whose maker is enrolled; higher = more surely known.
        right: (n,) bool, whether they were attributed rightly.
        unknown: (u,) float64, scores of sets whose maker is not enrolled.

    Returns:
        Mean over unknowns of the share of known sets that are right and score higher; ties one half. At most the
        closed-set accuracy.

    Source:
        Dhamija, Günther, Boult 2018.

    >>> oscr(np.array([0.9, 0.8, 0.2]), np.array([True, False, True]), np.array([0.5]))
    0.3333333333333333
    """
    above = (known[None] > unknown[:, None]) + 0.5 * (known[None] == unknown[:, None])
    return float((above * right).mean())


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 10) -> Reliability:
    """Confidence and accuracy in bins of equal count.

    Args:
        confidence: (n,) float64, stated probability of the answer.
        right: (n,) bool, whether it was right.
        bins: Number of bins; fewer when there are fewer answers.

    Source:
        Guo et al. 2017 (ECE), Nixon et al. 2019 (bins of equal count).

    >>> found = reliability(np.array([0.6, 0.6, 1.0, 1.0]), np.array([True, False, True, True]), 2)
    >>> round(found.ece, 6)
    0.05
    """
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(order))) if len(part)]
    stated = np.array([confidence[part].mean() for part in parts])
    found = np.array([right[part].mean() for part in parts])
    size = np.array([len(part) for part in parts])
    return Reliability(stated, found, size, float((size * np.abs(found - stated)).sum() / size.sum()))
