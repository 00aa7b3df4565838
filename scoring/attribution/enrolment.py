"""Enrolment: learn how far sets of images are from their own maker and from others.

Both parts of a profile are compared by Mahalanobis distances, a set x against a maker k::

    D²(x, k) = (x - x_k)ᵀ [S_k (1 + m_k/m) + Σ_b (1 + 1/R_k)]⁻¹ (x - x_k)      curve: logit Â per layer
    T²(x, k) = Σ_l |V_kl (m_l - m_kl)|² / (1/m + 1/m_k + b (1 + 1/R_k))        signature: mean embedding per layer

S_k is the sampling covariance of the maker's curve, so that S_k m_k/m is that of m images of this maker: 25 images
cannot estimate a covariance over 13 layers, and near Â = 0 or 1 understate it. Σ_b and b are the variation between runs
of one model; V_kl whitens by the maker's own covariance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from scoring.attribution.curve import curve_distances
from scoring.attribution.profile import Profile, Run, merged
from scoring.attribution.run_covariance import RunSpread, fit_run_covariance
from scoring.attribution.signature import maker_covariance, shared_shape, whitener

Floats = NDArray[np.float64]

MOST_TRIALS = 1000
"""Most trial sets; evenly drawn when there are more."""

PRIOR_WIDTH = 2.0
"""Width of the prior of a weight, as a factor."""

_STEEPEST = math.log(50.0)
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Maker:
    """An enrolled release.

    Attributes:
        name: The release.
        runs: R, its number of runs.
        profile: All its images.
        whiteners: For each layer (k, k) float64, see :func:`scoring.attribution.signature.whitener`.
    """

    name: str
    runs: int
    profile: Profile
    whiteners: tuple[Floats, ...]


class Distances(NamedTuple):
    """Distances of N sets from K makers.

    Attributes:
        curve: (N, K) float64, D².
        signature: (N, K) float64, T².
    """

    curve: Floats
    signature: Floats


@dataclass(frozen=True, eq=False)
class Enrolment:
    """The enrolled releases, and the parameters learnt from their sets; see `enrol`.

    Attributes:
        makers: The releases by name.
        spread: Variation of curves between runs; None: no release has two runs.
        drift: b, variation of signatures between runs, in units of the variance within a maker.
        trials: Number of trial sets.
        right: Number of trial sets nearest to their own maker.
        weights: (2,) float64, of D² and of T² in the fused distance.
        alone: (2,) float64, of D² alone, and of T² alone.
        null: (N,) float64 ascending, fused distances of the trial sets from their own maker.
        best_layer: Position of the layer whose signature alone is nearest to the own maker for most trial sets.
        unknown: Slope and offset of the log odds of an unknown maker on the log of the nearest fused distance, at
            equal prior odds; None with a single maker.
    """

    makers: tuple[Maker, ...]
    spread: RunSpread | None
    drift: float
    trials: int
    right: int
    weights: Floats
    alone: Floats
    null: Floats
    best_layer: int
    unknown: tuple[float, float] | None

    def distances(self, profiles: Sequence[Profile]) -> Distances:
        """Distances of sets from every maker.

        Raises:
            ValueError: Layers or components that differ from the enrolled ones.
        """
        if {_shape(profile) for profile in profiles} - {_shape(self.makers[0].profile)}:
            raise ValueError("a profile has other layers or components than the enrolled releases")
        return _distances(profiles, self.makers, self.spread, self.drift)


def enrol(runs: Sequence[Run]) -> Enrolment:
    """Learn from the sets of the enrolled releases, each tried against all makers, its own maker without the set.

    The trial sets of a release with several runs are its runs, otherwise the parts of its single run; parts do not show
    how training runs differ.

    * Between runs: :func:`.run_covariance.fit_run_covariance` for curves; for signatures b is the excess of T² over
      sampling alone, at least 0.
    * Weights of D² and T²: they maximise the probability of the true makers with the likelihood exp(-½ weighted sum)
      (temperature scaling), under log-normal priors around 1/L, a factor of 2 wide, because the L layers largely repeat
      each other. Trials alone mislead when all are easy, or when each has far fewer images than its rivals. Adding the
      volume term ½log|S| made no set right more often.
    * Rejection: the distances of the trial sets from their own makers are the reference of a conformal p-value.
    * Unknown: logistic regression on the log of the nearest distance, with trial sets with and without their own maker;
      labels are softened to (N + 1)/(N + 2), so that N sets never give more certainty than N allows.

    Args:
        runs: All runs, with the same layers and components.

    Raises:
        ValueError: No run, or runs with different layers or components.

    Source:
        Guo et al. 2017 (temperature scaling); Bates et al. 2023 (conformal p-values); Platt 1999;
        docs/attribution.md: "The answer".
    """
    if len({_shape(run.whole) for run in runs}) != 1:
        raise ValueError("enrolment needs at least one run, and all with the same layers and components")
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.maker, run.name)):
        groups.setdefault(run.maker, []).append(run)
    shapes = _shapes(runs)
    makers = tuple(_maker(name, [run.whole for run in group], shapes) for name, group in groups.items())
    several = [group for group in groups.values() if len(group) > 1]
    spread = fit_run_covariance(
        [np.stack([run.whole.curve.x for run in group]) for group in several],
        [np.mean([run.whole.curve.covariance for run in group], axis=0) for group in several],
    )
    drift = _drift(several, shapes)
    trials = _trials(list(groups.values()), shapes)
    own = np.array([trial.maker for trial in trials], np.intp)
    distances = _trial_distances(trials, makers, spread, drift)
    centre = np.full(2, 1 / len(shapes))
    weights = _weights(np.stack(distances), own, centre)
    fused = np.tensordot(weights, np.stack(distances), 1)
    return Enrolment(
        makers=makers,
        spread=spread,
        drift=drift,
        trials=len(trials),
        right=int((fused.argmin(axis=1) == own).sum()),
        weights=weights,
        alone=np.concatenate([_weights(distances[i][None], own, centre[[i]]) for i in (0, 1)]),
        null=np.sort(fused[np.arange(len(own)), own]),
        best_layer=_best_layer(trials, makers, own),
        unknown=_unknown(fused, own),
    )


# -- makers and distances --------------------------------------------------------------------------------------


def _shape(profile: Profile) -> tuple[int, ...]:
    return (len(profile.placed.mean), *(len(layer.mean) for layer in profile.signature))


def _shapes(runs: Sequence[Run]) -> list[Floats]:
    layers = range(len(runs[0].whole.signature))
    degrees = [run.whole.images - 1 for run in runs]
    return [shared_shape([run.whole.signature[i].scatter for run in runs], degrees) for i in layers]


def _maker(name: str, sets: Sequence[Profile], shapes: Sequence[Floats], runs: int | None = None) -> Maker:
    """Make a maker from sets of its images; its covariance is about the mean of each set."""
    profile = merged(sets)
    scatters = [np.sum([part.signature[i].scatter for part in sets], axis=0) for i in range(len(shapes))]
    degrees = profile.images - len(sets)
    covariances = [maker_covariance(*pair) for pair in zip(scatters, [degrees] * len(shapes), shapes, strict=True)]
    return Maker(name, runs or len(sets), profile, tuple(map(whitener, covariances)))


def _distances(
    profiles: Sequence[Profile], makers: Sequence[Maker], spread: RunSpread | None, drift: float
) -> Distances:
    x = np.stack([profile.curve.x for profile in profiles])
    images = np.array([profile.images for profile in profiles], np.float64)
    curve, signature = np.empty((len(profiles), len(makers))), np.empty((len(profiles), len(makers)))
    raw = raw_signature_distances(profiles, makers)
    for k, maker in enumerate(makers):
        between = 1 + 1 / maker.runs
        curve[:, k] = curve_distances(x - maker.profile.curve.x, curve_covariance(maker, spread, images))
        signature[:, k] = raw[:, k] / (1 / images + 1 / maker.profile.images + drift * between)
    return Distances(curve, signature)


def curve_covariance(maker: Maker, spread: RunSpread | None, images: Floats) -> Floats:
    """(N, L, L) float64: covariance of x - x_k for N sets of the maker, with ``images`` (N,) images."""
    covariance: Floats = maker.profile.curve.covariance * (1 + maker.profile.images / images)[:, None, None]
    return covariance if spread is None else covariance + spread.covariance * (1 + 1 / maker.runs)


def raw_signature_distances(profiles: Sequence[Profile], makers: Sequence[Maker]) -> Floats:
    """(N, K) float64, ``Σ_l |V_kl (m_l - m_kl)|²``: squared distances of means, in variances of one image."""
    layers = range(len(makers[0].whiteners))
    total: Floats = np.sum([_layer_distances(profiles, makers, layer) for layer in layers], axis=0)
    return total


def _layer_distances(profiles: Sequence[Profile], makers: Sequence[Maker], layer: int) -> Floats:
    means = np.stack([profile.signature[layer].mean for profile in profiles])
    steps = [(means - maker.profile.signature[layer].mean) @ maker.whiteners[layer].T for maker in makers]
    return np.stack([np.square(step).sum(axis=1) for step in steps], axis=1)


def _drift(several: Sequence[Sequence[Run]], shapes: Sequence[Floats]) -> float:
    excess = weight = 0.0
    for group in several:
        for i, run in enumerate(group):
            rest = [other.whole for j, other in enumerate(group) if j != i]
            others = _maker(run.maker, rest, shapes)
            raw = float(raw_signature_distances([run.whole], [others])[0, 0])
            excess += raw / sum(map(len, shapes)) - 1 / run.whole.images - 1 / others.profile.images
            weight += 1 + 1 / len(rest)
    return max(0.0, excess / weight) if weight else 0.0


# -- trials ----------------------------------------------------------------------------------------------------


class _Trial(NamedTuple):
    """A set with the position of its maker, and that maker without the set."""

    maker: int
    profile: Profile
    rest: Maker


def _trials(groups: Sequence[Sequence[Run]], shapes: Sequence[Floats]) -> list[_Trial]:
    sets_of: list[tuple[int, Profile, list[Profile], int]] = []
    for k, group in enumerate(groups):
        sets = [run.whole for run in group] if len(group) > 1 else list(group[0].parts)
        if len(sets) > 1:
            runs = max(1, len(group) - 1)
            sets_of += [(k, profile, sets[:i] + sets[i + 1 :], runs) for i, profile in enumerate(sets)]
    chosen = np.unique(np.linspace(0, len(sets_of) - 1, min(MOST_TRIALS, len(sets_of))).astype(int))
    drawn = [sets_of[i] for i in chosen]
    return [_Trial(k, profile, _maker(groups[k][0].maker, rest, shapes, runs)) for k, profile, rest, runs in drawn]


def _trial_distances(
    trials: Sequence[_Trial], makers: Sequence[Maker], spread: RunSpread | None, drift: float
) -> Distances:
    if not trials:
        return Distances(np.empty((0, len(makers))), np.empty((0, len(makers))))
    distances = _distances([trial.profile for trial in trials], makers, spread, drift)
    for i, trial in enumerate(trials):
        own = _distances([trial.profile], [trial.rest], spread, drift)
        distances.curve[i, trial.maker] = own.curve[0, 0]
        distances.signature[i, trial.maker] = own.signature[0, 0]
    return distances


def _best_layer(trials: Sequence[_Trial], makers: Sequence[Maker], own: NDArray[np.intp]) -> int:
    """Position of the best single layer by trials; the middle one without trials."""
    layers = len(makers[0].whiteners)
    if not trials:
        return layers // 2
    right = []
    for layer in range(layers):
        raw = _layer_distances([trial.profile for trial in trials], makers, layer)
        for i, trial in enumerate(trials):
            raw[i, trial.maker] = _layer_distances([trial.profile], [trial.rest], layer)[0, 0]
        right.append(int((raw.argmin(axis=1) == own).sum()))
    return int(np.argmax(right))


def _weights(distances: Floats, own: NDArray[np.intp], centre: Floats) -> Floats:
    """Weights (P,) of the distances (P, N, K) that make the own makers (N,) most probable."""
    if not len(own):
        return centre

    def loss(logs: Floats) -> float:
        chances = log_softmax(-0.5 * np.tensordot(centre * np.exp(logs), distances, 1), axis=1)
        return float(-chances[np.arange(len(own)), own].sum() + 0.5 * np.square(logs / math.log(PRIOR_WIDTH)).sum())

    bounds = [(-_STEEPEST, _STEEPEST)] * len(centre)
    logs: Floats = minimize(loss, np.zeros(len(centre)), method="L-BFGS-B", bounds=bounds).x
    return centre * np.exp(logs)


def _unknown(fused: Floats, own: NDArray[np.intp]) -> tuple[float, float] | None:
    if not len(own) or fused.shape[1] < 2:
        return None
    rows = np.arange(len(own))
    without = fused.copy()
    without[rows, own] = np.inf
    nearest = np.log(np.maximum(np.concatenate([fused.min(axis=1), without.min(axis=1)]), _TINY))
    middle, width = float(nearest.mean()), max(float(nearest.std()), _TINY)
    x = np.tile(((nearest - middle) / width)[:, None], (2, 1))
    y = np.repeat([0, 1], 2 * len(own))
    sure, doubt = (len(own) + 1) / (len(own) + 2), 1 / (len(own) + 2)
    weight = np.repeat([sure, doubt, doubt, sure], len(own))
    fitted = LogisticRegression(C=np.inf).fit(x, y, sample_weight=weight)
    slope = max(0.0, float(fitted.coef_[0, 0])) / width
    return slope, float(fitted.intercept_[0]) - slope * middle
