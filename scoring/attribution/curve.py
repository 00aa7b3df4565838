"""The memorization curve: logit Â over the layers with its covariance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from scoring.score.effect import bounded_variance, half_count

RIDGE = 0.1
"""Share of each layer's variance added to the diagonal before a covariance is inverted."""

_STILL = 1e-24


class LogitCurve(NamedTuple):
    """Logit Â of the layers.

    Attributes:
        x: (L,) float64.
        covariance: (L, L) float64, sampling covariance of ``x``.
    """

    x: NDArray[np.float64]
    covariance: NDArray[np.float64]


def logit_curve(a_hat: NDArray[np.float64], covariance: NDArray[np.float64], count: float) -> LogitCurve:
    """Logit Â with its covariance by the delta method.

    Â stays half a count away from 0 and 1. A layer without sampling variance (perfect separation) gets the largest
    possible variance, uncorrelated with the others.

    Args:
        a_hat: (L,) Â of each layer.
        covariance: (L, L) sampling covariance of ``a_hat``.
        count: Images of the smaller set.

    Raises:
        ValueError: Shapes that do not fit or Â outside [0, 1].

    >>> curve = logit_curve(np.array([0.5]), np.array([[0.02]]), 4)
    >>> curve.x.tolist(), curve.covariance.round(6).tolist()
    ([0.0], [[0.32]])
    """
    if a_hat.ndim != 1 or covariance.shape != (a_hat.size, a_hat.size):
        raise ValueError(f"need (L,) and (L, L), got {a_hat.shape} and {covariance.shape}")
    if not ((a_hat >= 0) & (a_hat <= 1)).all():
        raise ValueError(f"Â must lie in [0, 1], got {a_hat.tolist()}")
    edge = half_count(0.0, count)
    inside = np.clip(a_hat, edge, 1 - edge)
    variances = np.diag(covariance).copy()
    still = variances < _STILL
    filled = np.where(still[:, None] | still, 0.0, covariance)
    variances[still] = [bounded_variance(a, count) for a in inside[still]]
    np.fill_diagonal(filled, variances)
    slope = 1 / (inside * (1 - inside))
    return LogitCurve(logit(inside), filled * np.outer(slope, slope))


def covariance_of(influence_p: NDArray[np.float64], influence_q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance of Â over layers scored on the same images, in closed form: IₚᵀIₚ + I_qᵀI_q.

    Args:
        influence_p: (n, L) influences of the held-out images.
        influence_q: (m, L) influences of the generated images.

    Source:
        DeLong, DeLong, Clarke-Pearson 1988 (covariance of correlated AUCs).
    """
    return influence_p.T @ influence_p + influence_q.T @ influence_q


def ridged(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., L, L) float64, S + λ·diag S with λ = ``RIDGE``.

    >>> ridged(np.array([[1.0, 0.5], [0.5, 2.0]])).tolist()
    [[1.1, 0.5], [0.5, 2.2]]
    """
    return covariance + RIDGE * np.eye(covariance.shape[-1]) * np.diagonal(covariance, axis1=-2, axis2=-1)[..., None]


def curve_distances(steps: NDArray[np.float64], covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """D² = stepᵀ (S + λ·diag S)⁻¹ step with λ = ``RIDGE``.

    Neighbouring layers are nearly equal, so that S⁻¹ alone would inflate tiny differences between them. With the ridge
    no direction has more than 1/λ = 10 times the weight of independent layers, and D² is never larger than without:
    compared with χ²_L it errs towards "the same".

    Args:
        steps: (..., L) differences of curves.
        covariance: (L, L) or (..., L, L), their covariance under "the same".

    Returns:
        (...) float64.

    Raises:
        ValueError: Shapes that do not fit, or a layer without variance.

    >>> round(float(curve_distances(np.array([1.1, 0.0]), np.eye(2))), 6)
    1.1
    """
    layers = steps.shape[-1]
    if covariance.shape[-2:] != (layers, layers):
        raise ValueError(f"differences {steps.shape} and covariance {covariance.shape} do not fit")
    diagonal = np.diagonal(covariance, axis1=-2, axis2=-1)
    if not (diagonal > 0).all():
        raise ValueError(f"a layer has no variance: diagonal {diagonal.tolist()}")
    solved = np.linalg.solve(ridged(covariance), steps[..., None])[..., 0]
    distances: NDArray[np.float64] = (steps * solved).sum(axis=-1)
    return distances
