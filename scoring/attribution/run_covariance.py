"""Covariance over layers between the curves of training runs of one model, beyond sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

_LOWEST, _HIGHEST = np.log(1e-8), np.log(1e4)


class RunSpread(NamedTuple):
    """Covariance of runs: σ²[(1 - ρ)·I + ρ·exp(-|i - j|/ℓ)].

    Attributes:
        covariance: (L, L) float64.
        variance: σ², of each layer.
        shared: ρ, the share of variance common to neighbouring layers.
        reach: ℓ, the range of the correlation in layers.
    """

    covariance: NDArray[np.float64]
    variance: float
    shared: float
    reach: float


def depth_covariance(layers: int, variance: float, shared: float, reach: float) -> NDArray[np.float64]:
    """(L, L) float64: an exponential correlation along depth, plus a part of each layer alone.

    >>> depth_covariance(2, 2.0, 0.5, 1e9).round(6).tolist()
    [[2.0, 1.0], [1.0, 2.0]]
    """
    apart = np.abs(np.subtract.outer(np.arange(layers), np.arange(layers)))
    return variance * ((1 - shared) * np.eye(layers) + shared * np.exp(-apart / reach))


def fit_run_covariance(
    runs: Sequence[NDArray[np.float64]], sampling: Sequence[NDArray[np.float64]] | None = None
) -> RunSpread | None:
    """Fit the covariance between runs on the releases that have several.

    A few runs cannot determine L(L+1)/2 free numbers: a plain estimate has rank Σ(R - 1), and a diagonal one
    ignores that a run moves neighbouring layers together. Three parameters can be estimated, by restricted maximum
    likelihood of the deviations from each release's mean, with N(0, 1) priors on logit ρ and on log(ℓ/(L/3)), which
    matter only with few runs.

    Args:
        runs: For each release (R, L) float64, the curves of its runs. Releases with one run do not count.
        sampling: For each release (L, L), the mean sampling covariance of its runs, to be added to that between runs;
            None counts sampling as variation between runs.

    Returns:
        None when no release has two runs.

    Source:
        Patterson & Thompson 1971 (restricted likelihood); docs/attribution.md: "The answer" (Σ_b).

    >>> rng = np.random.default_rng(0)
    >>> runs = [rng.multivariate_normal(np.zeros(6), depth_covariance(6, 0.5, 0.8, 3.0), 400)]
    >>> spread = fit_run_covariance(runs)
    >>> round(spread.variance, 1), round(spread.shared, 1), 2 < spread.reach < 5
    (0.5, 0.8, True)
    """
    kept = [i for i, curves in enumerate(runs) if len(curves) > 1]
    if not kept:
        return None
    layers = runs[kept[0]].shape[1]
    degrees = np.array([len(runs[i]) - 1 for i in kept])
    scatters = [_scatter(runs[i]) for i in kept]
    noise = [np.zeros((layers, layers)) if sampling is None else sampling[i] for i in kept]

    def objective(at: NDArray[np.float64]) -> float:
        between = depth_covariance(layers, *_parameters(at, layers))
        total = 0.5 * float(at[1] ** 2 + at[2] ** 2)
        for scatter, own, df in zip(scatters, noise, degrees, strict=True):
            covariance = between + own
            total += 0.5 * (df * np.linalg.slogdet(covariance)[1] + np.trace(np.linalg.solve(covariance, scatter)))
        return total

    typical = sum(float(np.trace(s)) for s in scatters) / (layers * degrees.sum())
    start = np.array([np.clip(np.log(max(typical, 1e-8)), _LOWEST, _HIGHEST), 0.0, 0.0])
    bounds = [(_LOWEST, _HIGHEST), (-6.0, 6.0), (-4.0, 4.0)]
    variance, shared, reach = _parameters(minimize(objective, start, method="L-BFGS-B", bounds=bounds).x, layers)
    return RunSpread(depth_covariance(layers, variance, shared, reach), variance, shared, reach)


def _parameters(at: NDArray[np.float64], layers: int) -> tuple[float, float, float]:
    return float(np.exp(at[0])), float(expit(at[1])), float(np.exp(at[2]) * layers / 3)


def _scatter(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = curves - curves.mean(axis=0)
    scatter: NDArray[np.float64] = centred.T @ centred
    return scatter
