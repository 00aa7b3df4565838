"""Profiles: logit Â over the layers with its covariance, and distances between profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import chi2

from scoring.effect import bounded_variance, half_count

RIDGE = 0.1
"""Share of each layer's variance added to the diagonal before a covariance is inverted."""


class Profile(NamedTuple):
    """A release seen through one reference and encoder.

    Attributes:
        x: (L,) float64, logit Â of each layer.
        covariance: (L, L) float64, sampling covariance of ``x``.
    """

    x: NDArray[np.float64]
    covariance: NDArray[np.float64]


class Match(NamedTuple):
    """An enrolled profile compared with an unknown one.

    Attributes:
        name: The enrolled release.
        d2: Squared profile distance.
        p_value: Chance of one as large between two samples of one release, P(χ²_L ≥ d2).
    """

    name: str
    d2: float
    p_value: float


def logit_profile(
    a_hat: NDArray[np.float64], influence_p: NDArray[np.float64], influence_q: NDArray[np.float64]
) -> Profile:
    """Logit Â of all layers with its covariance by the delta method.

    The covariance of the Â is closed: IₚᵀIₚ + I_qᵀI_q, the layers being scored on the same images. Â is kept
    half a count of the smaller set away from 0 and 1. A layer without sampling variance (perfect separation)
    gets the largest variance that such an Â can have, uncorrelated with the others.

    Args:
        a_hat: (L,) Â of each layer.
        influence_p: (n, L) influences of the held-out images.
        influence_q: (m, L) influences of the generated images.

    Raises:
        ValueError: Shapes that do not fit or Â outside [0, 1].

    Source:
        DeLong, DeLong, Clarke-Pearson 1988 (covariance of correlated AUCs).

    >>> profile = logit_profile(np.array([0.5]), np.full((4, 1), 0.05), np.full((4, 1), 0.05))
    >>> profile.x.tolist(), profile.covariance.round(6).tolist()
    ([0.0], [[0.32]])
    """
    layers = a_hat.shape
    if a_hat.ndim != 1 or influence_p.shape[1:] != layers or influence_q.shape[1:] != layers:
        raise ValueError(f"need (L,), (n, L), (m, L), got {a_hat.shape}, {influence_p.shape}, {influence_q.shape}")
    if not ((a_hat >= 0) & (a_hat <= 1)).all():
        raise ValueError(f"Â must lie in [0, 1], got {a_hat.tolist()}")
    count = min(len(influence_p), len(influence_q))
    edge = half_count(0.0, count)
    inside = np.clip(a_hat, edge, 1 - edge)
    covariance = influence_p.T @ influence_p + influence_q.T @ influence_q
    variances = np.diag(covariance).copy()
    still = variances < 1e-24
    variances[still] = [bounded_variance(a, count) for a in inside[still]]
    np.fill_diagonal(covariance, variances)
    slope = 1 / (inside * (1 - inside))
    return Profile(logit(inside), covariance * np.outer(slope, slope))


def profile_distance(
    x1: NDArray[np.float64], s1: NDArray[np.float64], x2: NDArray[np.float64], s2: NDArray[np.float64]
) -> float:
    """D² = (x1 - x2)ᵀ (S + λ·diag S)⁻¹ (x1 - x2) with S = S1 + S2 and λ = ``RIDGE``.

    Neighbouring layers say nearly the same, so that S⁻¹ alone would blow up tiny differences between them.
    With the ridge no direction weighs more than 1/λ = 10 times what it would if layers were independent, and
    D² is never larger than without: compared with χ²_L it errs to "the same". A held-out set shared by both
    makes S too large, on the same side.

    Args:
        x1: (L,) logit Â.
        s1: (L, L) its covariance.
        x2: (L,) the other's.
        s2: (L, L) likewise.

    Raises:
        ValueError: Shapes that do not fit, or a layer without variance.

    >>> one = np.eye(2) * 0.5
    >>> round(profile_distance(np.array([0.0, 0.0]), one, np.array([1.1, 0.0]), one), 6)
    1.1
    """
    if not x1.shape == x2.shape == s1.shape[:1] == s2.shape[:1] or s1.shape != s2.shape:
        raise ValueError(f"profiles do not fit: {x1.shape}, {s1.shape}, {x2.shape}, {s2.shape}")
    covariance = s1 + s2
    variances = np.diag(covariance)
    if not (variances > 0).all():
        raise ValueError(f"a layer has no variance: diagonal {variances.tolist()}")
    difference = x1 - x2
    return float(difference @ np.linalg.solve(covariance + RIDGE * np.diag(variances), difference))


def published_similarity(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """½·cos(a, b) + ½/(1 + ‖a - b‖₂) between two C_T curves; cos is 0 where a curve is all zero.

    Args:
        a: (L,) C_T of each layer.
        b: (L,) the other's.

    Source:
        He et al. 2024 (similarity of C_T curves).

    >>> published_similarity(np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    1.0
    >>> published_similarity(np.array([1.0, 0.0]), np.array([0.0, 0.0]))
    0.25
    """
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(a @ b) / lengths if lengths > 0 else 0.0
    return 0.5 * cosine + 0.5 / (1 + float(np.linalg.norm(a - b)))


def nearest_profile(
    x: NDArray[np.float64],
    covariance: NDArray[np.float64],
    enrolled: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> list[Match]:
    """Enrolled profiles by squared distance, nearest first, ties by name.

    Args:
        x: (L,) logit Â of the unknown set.
        covariance: (L, L) its covariance.
        enrolled: Name → (x, covariance).

    >>> one = np.eye(1) * 0.5
    >>> enrolled = {"far": (np.array([3.3]), one), "near": (np.array([0.0]), one)}
    >>> [(match.name, round(match.d2, 3)) for match in nearest_profile(np.array([0.0]), one, enrolled)]
    [('near', 0.0), ('far', 9.9)]
    """
    distances = [(profile_distance(x, covariance, *known), name) for name, known in enrolled.items()]
    return [Match(name, d2, float(chi2.sf(d2, len(x)))) for d2, name in sorted(distances)]
