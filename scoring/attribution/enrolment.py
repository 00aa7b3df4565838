"""Enrolment: learn how far sets of images are from their own maker and from others.

A set of m images x against a maker k, of n_k images and R_k runs, after a processing v, and in the original::

    T²(x, k, v) = mean over layers l and coordinates j of  [(z_l - z_kl - Δ_klv) W_l]²_j / (a_kl + .1 λ_lj)
                  a_kl = c_kl (1/m + 1/n_k + b (1 + 1/R_k))                                         signature
    D²(x, k)    = (x - x_k)ᵀ [S_k (1 + n_k/m) + Σ_b (1 + 1/R_k)]⁻¹ (x - x_k)                         curve

z are mean embeddings and Δ_klv the shift that processing v gives the maker's mean; W_l whitens by the covariance that
all makers share, c_kl is the maker's scale, λ_l what content alone moves. S_k is the sampling covariance of the maker's
curve; Σ_b and b are the variation between runs of one model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from scoring.attribution.background import Background, Shift
from scoring.attribution.curve import curve_distances
from scoring.attribution.profile import Profile, Run, merged
from scoring.attribution.run_covariance import RunSpread, fit_run_covariance
from scoring.attribution.signature import LayerRule, layer_rule
from scoring.attribution.unknown import UnknownRule, fit_unknown

Floats = NDArray[np.float64]

ORIGINAL = "original"
"""The version of a maker's images that was not processed."""

MOST_FOLDS = 20
"""Most runs of one maker that are left out one by one."""

WEIGHT, WEIGHT_WIDTH = 0.5, 4.0
"""Centre, per coordinate of a layer, and width, as a factor, of the prior of the weight of T²."""

MOVED = 1.0
"""How far a processing may move logit Â, in standard deviation: half of its square for all layers alike."""

WORTH = 2.0
"""Gain in log-likelihood from which the curve is used."""

_STEEPEST = math.log(1000.0)


@dataclass(frozen=True, eq=False)
class Maker:
    """An enrolled release.

    Attributes:
        name: The release.
        runs: R, its number of runs.
        profile: All its images.
        scatter: For each layer (k, k) float64, of its images about the mean of their run.
        shifts: Processing → how it moved a sample of its images.
    """

    name: str
    runs: int
    profile: Profile
    scatter: tuple[Floats, ...]
    shifts: Mapping[str, Shift]


class Distances(NamedTuple):
    """Distances of N sets from K makers.

    Attributes:
        fused: (N, K) float64, what decides: T², and D² with its weight where it adds anything.
        signature: (N, K) float64, T² of the version that explains the set best.
        curve: (N, K) float64, D².
        version: (N, K) integer, that version, see `SignatureRule.versions`.
    """

    fused: Floats
    signature: Floats
    curve: Floats
    version: NDArray[np.intp]


class SignatureRule:
    """T² of sets from makers, in every version of the makers.

    Attributes:
        versions: `ORIGINAL`, then the processings.
        layers: The rule of each layer.
        scale: (K, L) float64, c.
        drift: b.
    """

    def __init__(self, makers: Sequence[Maker], background: Background | None, drift: float) -> None:
        self.makers, self.drift = makers, drift
        self.versions = (ORIGINAL, *(background.processings if background else ()))
        degrees = [maker.profile.images - maker.runs for maker in makers]
        width = range(len(makers[0].scatter))
        self.layers: list[LayerRule] = [
            layer_rule([maker.scatter[i] for maker in makers], degrees, background.layers[i] if background else None)
            for i in width
        ]
        self.scale = np.array(
            [
                [rule.scale(maker.scatter[i], count) for i, rule in enumerate(self.layers)]
                for maker, count in zip(makers, degrees, strict=True)
            ]
        )
        self._means = [self._versions(i, background) for i in width]
        self._doubt = self._disagreement(background)

    def distances(self, profiles: Sequence[Profile]) -> Floats:
        """(N, K, V) float64, T²."""
        images = np.array([profile.images for profile in profiles], np.float64)[:, None]
        spread = 1 / images + self.drift + self.errors  # (N, K)
        total = np.zeros((len(profiles), *self._doubt.shape))
        for i, rule in enumerate(self.layers):
            means = np.stack([profile.signature[i].mean for profile in profiles])
            variance = (self.scale[:, i] * spread)[:, :, None] + self._doubt
            total += rule.squares(means[:, None, None] - self._means[i], variance)
        return total / len(self.layers)

    @cached_property
    def errors(self) -> Floats:
        """(K,) float64, variance of the makers' means in variances of one image."""
        return np.array([1 / maker.profile.images + self.drift / maker.runs for maker in self.makers])

    @cached_property
    def penalty(self) -> Floats:
        """(K,) float64, log of the scales: a wide maker is near to everything, which its likelihood pays for."""
        penalty: Floats = np.log(self.scale).mean(axis=1)
        return penalty

    def _versions(self, i: int, background: Background | None) -> Floats:
        """(K, V, k) float64, the makers' means in every version."""
        found = [
            [maker.profile.signature[i].mean, *(self._shift(maker, name, i, background) for name in self.versions[1:])]
            for maker in self.makers
        ]
        stacked = np.array(found)
        stacked[:, 1:] += stacked[:, :1]
        return stacked

    @staticmethod
    def _shift(maker: Maker, name: str, i: int, background: Background | None) -> Floats:
        """The maker's own shift; that of real images where it was never tried."""
        if name in maker.shifts:
            return maker.shifts[name].mean[i]
        assert background is not None  # without one there is no processing
        return background.layers[i].shifts[name]

    def _disagreement(self, background: Background | None) -> Floats:
        """(K, V) float64, variance added where the shift of real images stands for the maker's own.

        It is the mean square by which the shifts of the makers that were tried differ from those of real images.
        """
        doubt = np.zeros((len(self.makers), len(self.versions)))
        for v, name in enumerate(self.versions[1:], start=1):
            assert background is not None
            tried = [maker.shifts[name] for maker in self.makers if name in maker.shifts]
            off = [
                float(np.square((shift.mean[i] - background.layers[i].shifts[name]) @ rule.whiten).mean())
                for shift in tried
                for i, rule in enumerate(self.layers)
            ]
            untried = [name not in maker.shifts for maker in self.makers]
            doubt[untried, v] = np.mean(off) if off else 0.0
        return doubt


@dataclass(frozen=True, eq=False)
class Enrolment:
    """The enrolled releases, and the parameters learnt from their sets; see `enrol`.

    Attributes:
        makers: The releases by name.
        rule: T² in every version.
        spread: Variation of curves between runs; None: no release has two runs.
        trials: Number of trial sets.
        right: Number of trial sets nearest to their own maker.
        weight: Of the fused distance in the log-likelihood, -½ of which it is.
        curve_weight: Of D² in the fused distance, relative to T²; 0: the curve adds nothing.
        curve_alone: Of D² alone.
        curve_typical: Mean D² of trial sets from their own maker: the least that a processed version is given.
        null: (N,) float64 ascending, fused distances of the trial sets from their own maker.
        best_layer: Position of the layer whose signature alone is nearest to the own maker for most trial sets.
        unknown: The probability of an unknown maker.
    """

    makers: tuple[Maker, ...]
    rule: SignatureRule
    spread: RunSpread | None
    trials: int
    right: int
    weight: float
    curve_weight: float
    curve_alone: float
    curve_typical: float
    null: Floats
    best_layer: int
    unknown: UnknownRule

    def distances(self, profiles: Sequence[Profile]) -> Distances:
        """Distances of sets from every maker.

        Raises:
            ValueError: Layers or components that differ from the enrolled ones.
        """
        if {_shape(profile) for profile in profiles} - {_shape(self.makers[0].profile)}:
            raise ValueError("a profile has other layers or components than the enrolled releases")
        found = _distances(profiles, self.makers, self.rule, self.spread)
        return _fused(found, self.curve_weight, self.curve_typical)

    def log_likelihood(self, fused: Floats) -> Floats:
        """(..., K) float64, of each maker, up to a constant."""
        likelihood: Floats = -0.5 * self.weight * (fused + self.rule.penalty)
        return likelihood

    def p_values(self, fused: Floats) -> Floats:
        """Share of trial sets at least as far from their own maker, the set counted with them."""
        p: Floats = (1 + len(self.null) - np.searchsorted(self.null, fused, "left")) / (len(self.null) + 1)
        return p


def enrol(runs: Sequence[Run], background: Background | None = None) -> Enrolment:
    """Learn from the sets of the enrolled releases, each tried against all makers, learnt without it.

    Trial sets are the parts of a release's only run; of a release with several, the runs and their parts, against the
    other runs: what a new run of it looks like. Each is compared by a rule that has not seen it, nor the sets of the
    other releases that it was left out with.

    * Between runs: :func:`.run_covariance.fit_run_covariance` for curves; for signatures b is the excess of T² over
      sampling alone, at least 0.
    * The weight of T² maximises the probability of the true makers with the likelihood exp(-½ w T²), under a
      log-normal prior: layers and coordinates repeat each other, so that w is far below their number.
    * The curve is added where it raises the log-likelihood of the trials by `WORTH`, otherwise its weight is 0.
    * Rejection: the distances of the trial sets from their own makers are the reference of a conformal p-value.
    * Unknown: see :func:`scoring.attribution.unknown.fit_unknown`, trial sets with their own maker, and without
      it and its relatives.

    Args:
        runs: All runs, with the same layers and components.
        background: What real images say; None: no processing is tried, and content moves nothing.

    Raises:
        ValueError: No run, or runs with different layers or components.

    Source:
        Guo et al. 2017 (temperature scaling); Bates et al. 2023 (conformal p-values);
        docs/attribution.md: "The answer".
    """
    if len({_shape(run.whole) for run in runs}) != 1:
        raise ValueError("enrolment needs at least one run, and all with the same layers and components")
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.maker, run.name)):
        groups.setdefault(run.maker, []).append(run)
    makers = tuple(_maker(name, group) for name, group in groups.items())
    several = [group for group in groups.values() if len(group) > 1]
    spread = fit_run_covariance(
        [np.stack([run.whole.curve.x for run in group]) for group in several],
        [np.mean([run.whole.curve.covariance for run in group], axis=0) for group in several],
    )
    rule = SignatureRule(makers, background, 0.0)
    if drift := _drift(several, rule):
        rule = SignatureRule(makers, background, drift)
    tried = _tried(list(groups.values()), background, spread, rule.drift)
    own, rows = tried.own, np.arange(len(tried.own))
    typical = float(tried.raw.curve[rows, own].mean()) if len(own) else 0.0
    centre = WEIGHT * float(np.mean([len(layer.content) for layer in rule.layers]))
    weight, curve_weight, curve_alone = _weights(tried, rule.penalty, typical, centre)
    fused = tried.fused(curve_weight, typical)
    return Enrolment(
        makers=makers,
        rule=rule,
        spread=spread,
        trials=len(own),
        right=int(((fused + rule.penalty).argmin(axis=1) == own).sum()),
        weight=weight,
        curve_weight=curve_weight,
        curve_alone=curve_alone,
        curve_typical=typical,
        null=np.sort(fused[rows, own]),
        best_layer=tried.best_layer if len(own) else len(rule.layers) // 2,
        unknown=fit_unknown(fused, own, softmax(-0.5 * weight * (fused + rule.penalty), axis=1)),
    )


# -- makers and distances --------------------------------------------------------------------------------------


class _Raw(NamedTuple):
    """T² (N, K, V), D² (N, K), and D² (N, K) where a processing may have moved the curve."""

    signature: Floats
    curve: Floats
    moved: Floats

    def fused(self, curve_weight: float, typical: float) -> Floats:
        """(N, K, V) float64. No processed version is nearer by its curve than sets usually are to their own maker."""
        extra = np.repeat((typical + self.moved)[:, :, None], self.signature.shape[2], axis=2)
        extra[:, :, 0] = self.curve
        fused: Floats = self.signature + curve_weight * extra
        return fused


def _shape(profile: Profile) -> tuple[int, ...]:
    return (len(profile.placed.mean), *(len(layer.mean) for layer in profile.signature))


def _maker(name: str, runs: Sequence[Run]) -> Maker:
    wholes = [run.whole for run in runs]
    layers = range(len(wholes[0].signature))
    shifts: dict[str, Shift] = {}
    for of_part in (of_part for run in runs for of_part in run.shifts):
        for processing, shift in of_part.items():
            shifts[processing] = shifts[processing].merge(shift) if processing in shifts else shift
    return Maker(
        name=name,
        runs=len(runs),
        profile=merged(wholes),
        scatter=tuple(np.sum([whole.signature[i].scatter for whole in wholes], axis=0) for i in layers),
        shifts=shifts,
    )


def _distances(
    profiles: Sequence[Profile], makers: Sequence[Maker], rule: SignatureRule, spread: RunSpread | None
) -> _Raw:
    x = np.stack([profile.curve.x for profile in profiles])
    images = np.array([profile.images for profile in profiles], np.float64)
    curve, moved = np.empty((2, len(profiles), len(makers)))
    layers = x.shape[1]
    by_processing = MOVED**2 * (np.eye(layers) + np.ones((layers, layers))) / 2
    for k, maker in enumerate(makers):
        covariance = maker.profile.curve.covariance * (1 + maker.profile.images / images)[:, None, None]
        if spread is not None:
            covariance = covariance + spread.covariance * (1 + 1 / maker.runs)
        steps = x - maker.profile.curve.x
        curve[:, k] = curve_distances(steps, covariance)
        moved[:, k] = curve_distances(steps, covariance + by_processing)
    return _Raw(rule.distances(profiles), curve, moved)


def _fused(raw: _Raw, curve_weight: float, typical: float) -> Distances:
    """The version that explains each set best."""
    total = raw.fused(curve_weight, typical)
    version = total.argmin(axis=2)
    chosen = version[:, :, None]
    signature = np.take_along_axis(raw.signature, chosen, 2)[:, :, 0]
    return Distances(np.take_along_axis(total, chosen, 2)[:, :, 0], signature, raw.curve, version)


def _drift(several: Sequence[Sequence[Run]], rule: SignatureRule) -> float:
    """b, variation of signatures between runs, in units of the variance of an image."""
    excess = weight = 0.0
    for group in several:
        k = [maker.name for maker in rule.makers].index(group[0].maker)
        for i, run in enumerate(group):
            others = merged([other.whole for j, other in enumerate(group) if j != i])
            squares = [
                float(np.square((run.whole.signature[i].mean - others.signature[i].mean) @ layer.whiten).mean())
                / rule.scale[k, i]
                for i, layer in enumerate(rule.layers)
            ]
            excess += float(np.mean(squares)) - 1 / run.whole.images - 1 / others.images
            weight += 1 + 1 / (len(group) - 1)
    return max(0.0, excess / weight) if weight else 0.0


# -- trials ----------------------------------------------------------------------------------------------------


class _Fold(NamedTuple):
    """Trial sets with the positions of their makers, and all runs without them.

    ``new_runs`` says whether they are of other runs than those enrolled meanwhile.
    """

    suspects: list[tuple[int, Profile]]
    rest: list[list[Run]]
    new_runs: bool


@dataclass(frozen=True, eq=False)
class _Tried:
    """N trial sets against K makers.

    Attributes:
        own: (N,) integer, their makers.
        raw: Their distances.
        by_layer: (N, K, L) float64, T² of each layer in the original version.
    """

    own: NDArray[np.intp]
    raw: _Raw
    by_layer: Floats

    def fused(self, curve_weight: float, typical: float) -> Floats:
        """(N, K) float64."""
        found: Floats = self.raw.fused(curve_weight, typical).min(axis=2)
        return found

    @property
    def best_layer(self) -> int:
        """Position of the best single layer."""
        return int((self.by_layer.argmin(axis=1) == self.own[:, None]).sum(axis=0).argmax())


def _folds(groups: Sequence[Sequence[Run]]) -> Iterator[_Fold]:
    """Leave out the runs of releases with several, one by one of all together; then the parts of the other releases.

    A part whose own run stays enrolled lies nearer than a new run does: of releases with several it is no trial.
    """
    for r in range(min(MOST_FOLDS, max(len(group) for group in groups))):
        left = [k for k, group in enumerate(groups) if len(group) > max(1, r)]
        if left:
            yield _Fold(
                [(k, one) for k in left for one in _sets(groups[k][r])],
                [[run for i, run in enumerate(g) if i != r or k not in left] for k, g in enumerate(groups)],
                new_runs=True,
            )
    cut = [k for k, group in enumerate(groups) if len(group) == 1 and len(group[0].parts) > 1]
    for part in range(max((len(groups[k][0].parts) for k in cut), default=0)):
        out = [k for k in cut if part < len(groups[k][0].parts)]
        yield _Fold(
            [(k, groups[k][0].parts[part]) for k in out],
            [[_without(g[0], part)] if k in out else list(g) for k, g in enumerate(groups)],
            new_runs=False,
        )


def _sets(run: Run) -> tuple[Profile, ...]:
    """A run and, where there are several, its parts."""
    return (run.whole, *run.parts) if len(run.parts) > 1 else (run.whole,)


def _without(run: Run, part: int) -> Run:
    """A run without one of its parts."""
    kept = [i for i in range(len(run.parts)) if i != part]
    shifts = tuple(run.shifts[i] for i in kept) if run.shifts else ()
    return Run(run.maker, run.name, merged([run.parts[i] for i in kept]), tuple(run.parts[i] for i in kept), shifts)


def _tried(
    groups: Sequence[Sequence[Run]], background: Background | None, spread: RunSpread | None, drift: float
) -> _Tried:
    own: list[int] = []
    parts: list[_Raw] = []
    by_layer = []
    for suspects, rest, new_runs in _folds(groups):
        makers = [_maker(group[0].maker, group) for group in rest]
        rule = SignatureRule(makers, background, drift if new_runs else 0.0)
        profiles = [profile for _, profile in suspects]
        raw = _distances(profiles, makers, rule, spread if new_runs else None)
        own += [k for k, _ in suspects]
        parts.append(raw)
        by_layer.append(_by_layer(profiles, makers, rule))
    if not own:
        versions = 1 + (len(background.processings) if background else 0)
        layers = len(groups[0][0].whole.signature)
        nothing = np.empty((0, len(groups)))
        untried = _Raw(np.empty((*nothing.shape, versions)), nothing, nothing)
        return _Tried(np.empty(0, np.intp), untried, np.empty((*nothing.shape, layers)))
    raw = _Raw(*(np.concatenate(found) for found in zip(*parts, strict=True)))
    return _Tried(np.array(own, np.intp), raw, np.concatenate(by_layer))


def _by_layer(profiles: Sequence[Profile], makers: Sequence[Maker], rule: SignatureRule) -> Floats:
    """(N, K, L) float64, squared distances of originals, layer by layer."""
    found = []
    for i, layer in enumerate(rule.layers):
        steps = np.stack([profile.signature[i].mean for profile in profiles])[:, None] - np.stack(
            [maker.profile.signature[i].mean for maker in makers]
        )
        found.append(np.square(steps @ layer.whiten).mean(axis=-1) / rule.scale[:, i])
    return np.stack(found, axis=2)


def _weights(tried: _Tried, penalty: Floats, typical: float, centre: float) -> tuple[float, float, float]:
    """The weight of the fused distance, that of the curve within it, and that of the curve alone."""
    own, rows = tried.own, np.arange(len(tried.own))
    layers = tried.by_layer.shape[2]
    if not len(own):
        return centre, 0.0, 1 / layers

    def log_likelihood(distances: Floats, log_weight: float, start: float) -> float:
        chances = log_softmax(-0.5 * start * math.exp(log_weight) * distances, axis=1)
        return float(chances[rows, own].sum() - 0.5 * (log_weight / math.log(WEIGHT_WIDTH)) ** 2)

    def best(distances: Floats, start: float) -> tuple[float, float]:
        found = minimize(
            lambda logs: -log_likelihood(distances, float(logs[0]), start),
            np.zeros(1),
            method="L-BFGS-B",
            bounds=[(-_STEEPEST, _STEEPEST)],
        )
        return start * math.exp(float(found.x[0])), -float(found.fun)

    weight, plain = best(tried.fused(0.0, typical) + penalty, centre)
    curve_weight = 0.0
    for share in (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4):
        with_curve, gained = best(tried.fused(share / layers, typical) + penalty, centre)
        if gained > plain + (WORTH if curve_weight == 0 else 0):
            weight, plain, curve_weight = with_curve, gained, share / layers
    return weight, curve_weight, best(tried.raw.curve, 1 / layers)[0]
