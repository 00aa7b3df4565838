"""Drift between two versions of one model: a distance between their profiles, with a p-value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import cauchy, chi2, f as fisher

from scoring.attribution.curve import curve_distances
from scoring.attribution.profile import Profile
from scoring.partition.moments import Moments

PER_COORDINATE = 5
"""Images of both sets together needed per compared coordinate."""


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """Difference between the images of two releases.

    Attributes:
        distance: (L,) float64, Mahalanobis distance of the mean embeddings, in standard deviations of one image,
            bias-corrected; 0 = no difference seen.
        layer_p: (L,) float64, p-value of each layer alone.
        curve_d2: D² of the memorization curves.
        curve_p: P(χ²_L ≥ D²).
        p: p-value of all layers and the curve together.
    """

    distance: NDArray[np.float64]
    layer_p: NDArray[np.float64]
    curve_d2: float
    curve_p: float
    p: float


def drift(first: Profile, second: Profile) -> Drift:
    """Compare two sets of images: mean embeddings layer by layer (Hotelling's T²), and memorization curves (D²).

    The layers see the same images, so that their tests depend on each other in ways that profiles do not record.
    Cauchy's rule combines the p-values; its level holds under any such dependence for small p.

    Args:
        first: One release.
        second: The other, by the same reference and encoder.

    Raises:
        ValueError: Profiles of different layers, or fewer than 7 images together.

    Source:
        Hotelling 1931; Liu & Xie 2020 (Cauchy combination).
    """
    if len(first.signature) != len(second.signature):
        raise ValueError(f"profiles of {len(first.signature)} and {len(second.signature)} layers")
    layers = [mean_difference(a, b) for a, b in zip(first.signature, second.signature, strict=True)]
    distance, layer_p = (np.array(column) for column in zip(*layers, strict=True))
    step, covariance = first.curve.x - second.curve.x, first.curve.covariance + second.curve.covariance
    d2 = float(curve_distances(step, covariance))
    curve_p = float(chi2.sf(d2, len(step)))
    return Drift(distance, layer_p, d2, curve_p, cauchy_combination(np.append(layer_p, curve_p)))


def mean_difference(a: Moments, b: Moments) -> tuple[float, float]:
    """Mahalanobis distance of two means, and Hotelling's two-sample p-value.

    The coordinates are principal, largest first; as many are compared as the images allow.

    Args:
        a: Moments of one set.
        b: Moments of the other.

    Returns:
        The distance (root of its unbiased square, at least 0) and the p-value.

    Raises:
        ValueError: Fewer than `PER_COORDINATE` + 2 images together, or coordinates that differ.

    >>> x = np.random.default_rng(0).normal(size=(400, 2))
    >>> distance, p = mean_difference(Moments.of(x[:200]), Moments.of(x[200:] + [1.0, 0.0]))
    >>> 0.8 < distance < 1.2, p < 1e-9
    (True, True)
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"{a.mean.size} and {b.mean.size} coordinates")
    degrees = a.n + b.n - 2
    k = min(a.mean.size, degrees // PER_COORDINATE)
    if k < 1:
        raise ValueError(f"{a.n} and {b.n} images are too few, {PER_COORDINATE + 2} together are needed")
    pooled = (a.scatter[:k, :k] + b.scatter[:k, :k]) / degrees
    step = (a.mean - b.mean)[:k]
    square = float(step @ np.linalg.solve(pooled, step))
    sampling = 1 / a.n + 1 / b.n
    unbiased = square * (degrees - k - 1) / degrees - k * sampling
    p = float(fisher.sf(square / sampling * (degrees - k + 1) / (degrees * k), k, degrees - k + 1))
    return max(0.0, unbiased) ** 0.5, p


def cauchy_combination(p_values: NDArray[np.float64]) -> float:
    """Combine dependent p-values into one.

    Source:
        Liu & Xie 2020.

    >>> round(cauchy_combination(np.array([0.02, 0.02])), 6), cauchy_combination(np.array([1e-300, 1.0])) < 1e-290
    (0.02, True)
    """
    clipped = np.clip(p_values, 1e-300, 1 - 1e-9)
    small = clipped < 1e-15
    safe = np.where(small, 0.5, clipped)
    scores = np.where(small, 1 / (np.pi * clipped), np.tan((0.5 - safe) * np.pi))
    return float(cauchy.sf(scores.mean()))
