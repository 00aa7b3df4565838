"""Comparison of two releases on the same held-out images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from scoring.score.effect import bounded_variance, half_count

_DRAWS = 20_000
_BLOCK = 2_000
_NO_VARIANCE = 1e-24


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Differences Â₁ - Â₂ of two releases; negative = the first is closer to the training images.

    Attributes:
        difference: (L,) float64.
        se: (L,) float64, standard error; the common held-out images count only where their influences differ.
        low: (L,) float64, lower end of each layer's own interval.
        high: (L,) float64, upper end.
        p: (L,) float64, two-sided p of each layer alone.
        p_adjusted: (L,) float64, adjusted for all layers (single-step maximum).
        p_joint: Probability of a largest |z| at least this large when the releases differ in no layer.
        covariance: (L, L) float64, sampling covariance of ``difference``.
    """

    difference: NDArray[np.float64]
    se: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p: NDArray[np.float64]
    p_adjusted: NDArray[np.float64]
    p_joint: float
    covariance: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Influenced:
    """A release's Â with the influence of every image, see :class:`scoring.score.effect.Influence`.

    Attributes:
        a_hat: (L,) float64.
        influence_p: (n, L) float64.
        influence_q: (m, L) float64.
    """

    a_hat: NDArray[np.float64]
    influence_p: NDArray[np.float64]
    influence_q: NDArray[np.float64]


def compare(first: Influenced, second: Influenced, *, level: float = 0.95, seed: int = 0) -> Comparison:
    """Compare two releases over layers.

    Var(Â₁ - Â₂) = Σ (I₁(p) - I₂(p))² + Σ I₁(q)² + Σ I₂(q)²: equal influences of the held-out images on both releases
    cancel, and the same sums of products are the covariances over layers. The joint p is that of the largest |z| of a
    normal vector with this correlation, by seeded draws; duplicate layers do not change it. A release without sampling
    variance in a layer (perfect separation) gets the largest possible variance.

    Args:
        first: One release.
        second: The other, on the same held-out images in the same order and the same layers.
        level: Level of the intervals.
        seed: Seed of the draws.

    Raises:
        ValueError: Shapes that do not fit.

    Source:
        DeLong, DeLong, Clarke-Pearson 1988 (contrasts of correlated AUCs); Hothorn, Bretz, Westfall 2008.

    >>> first = Influenced(np.array([0.7]), np.full((4, 1), 0.05), np.full((25, 1), 0.01))
    >>> second = Influenced(np.array([0.5]), np.full((4, 1), 0.05), np.full((25, 1), 0.01))
    >>> compared = compare(first, second)
    >>> compared.difference.round(3).tolist(), compared.se.round(4).tolist()
    ([0.2], [0.0707])
    """
    _check(first, second)
    difference = first.a_hat - second.a_hat
    shared = first.influence_p - second.influence_p
    covariance = shared.T @ shared + sum(release.influence_q.T @ release.influence_q for release in (first, second))
    covariance[np.diag_indices_from(covariance)] += _unseen_variance(first) + _unseen_variance(second)
    se = np.sqrt(np.diag(covariance))
    z = np.abs(difference) / se
    reach = float(norm.isf((1 - level) / 2)) * se
    p_adjusted = _max_p(z, covariance / np.outer(se, se), seed)
    return Comparison(
        difference=difference,
        se=se,
        low=np.maximum(-1.0, difference - reach),
        high=np.minimum(1.0, difference + reach),
        p=2 * norm.sf(z),
        p_adjusted=p_adjusted,
        p_joint=float(p_adjusted.min()),
        covariance=covariance,
    )


def _unseen_variance(release: Influenced) -> NDArray[np.float64]:
    """The largest possible variance of Â where the sample shows none, 0 elsewhere."""
    count = min(len(release.influence_p), len(release.influence_q))
    edge = half_count(0.0, count)
    inside = np.clip(release.a_hat, edge, 1 - edge)
    own = (release.influence_p**2).sum(axis=0) + (release.influence_q**2).sum(axis=0)
    largest = np.array([bounded_variance(a, count) for a in inside])
    return np.where(own < _NO_VARIANCE, largest, 0.0)


def _max_p(z: NDArray[np.float64], correlation: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """P(max |Z| ≥ z) per layer, for normal Z with this correlation."""
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    rng = np.random.default_rng(seed)
    exceeding = np.zeros(len(z))
    for _ in range(_DRAWS // _BLOCK):
        largest = np.abs(rng.standard_normal((_BLOCK, len(z))) @ root.T).max(axis=1)
        exceeding += (largest[:, None] >= z).sum(axis=0)
    drawn = (1 + exceeding) / (_DRAWS + 1)
    alone = 2 * norm.sf(z)
    adjusted: NDArray[np.float64] = np.clip(np.minimum(drawn, len(z) * alone), alone, 1.0)
    return adjusted


def _check(first: Influenced, second: Influenced) -> None:
    layers = first.a_hat.shape
    if first.a_hat.ndim != 1 or second.a_hat.shape != layers or first.influence_p.shape != second.influence_p.shape:
        raise ValueError(
            f"releases must share layers and held-out images, got Â {layers}, {second.a_hat.shape} and "
            f"influence_p {first.influence_p.shape}, {second.influence_p.shape}"
        )
    for p, q in ((first.influence_p, first.influence_q), (second.influence_p, second.influence_q)):
        if p.shape[1:] != layers or q.shape[1:] != layers:
            raise ValueError(f"need (L,), (n, L), (m, L), got {layers}, {p.shape}, {q.shape}")
