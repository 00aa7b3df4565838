"""Attribution: which enrolled release made a set of images, if any."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from scipy.stats import chi2, norm

from scoring.attribution.curve import curve_distances, ridged
from scoring.attribution.enrolment import Enrolment, Maker, raw_signature_distances
from scoring.attribution.profile import Profile

Verdict = Literal["attributed", "unknown", "undecided"]

REJECT = 0.05
"""Level at which a maker is rejected."""

UNKNOWN = 0.5
"""Prior probability that the maker is not enrolled."""

CONFIDENT = 0.95
"""Smallest posterior of an attributed set."""

_MOST_IMAGES = 1_000_000
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Candidate:
    """An enrolled release as a possible maker of a set.

    Attributes:
        maker: The release.
        posterior: Probability that it is the maker; all candidates and the unknown maker sum to 1.
        curve_posterior: Probability among the enrolled releases by the memorization curve alone.
        signature_posterior: Probability among the enrolled releases by the moment signature alone.
        p_value: (1 + #{trial sets at least as far from their own maker})/(N + 1): small = not the maker.
        d2: D² of the curve.
        d2_p: P(χ²_L ≥ D²), the curve's own p-value.
        t2: T² of the signature.
    """

    maker: str
    posterior: float
    curve_posterior: float
    signature_posterior: float
    p_value: float
    d2: float
    d2_p: float
    t2: float


@dataclass(frozen=True, slots=True)
class Attribution:
    """The answer.

    Attributes:
        verdict: ``attributed``, ``unknown`` (every release is rejected) or ``undecided``.
        sentence: The verdict in words.
        candidates: All enrolled releases, the most probable first.
        unknown: Probability that none of them is the maker.
        chance: Lower bound of the probability that as many images of the first candidate are nearest to it.
        needed: Fewest images for which that bound is `CONFIDENT`; None: no number of images is enough.
    """

    verdict: Verdict
    sentence: str
    candidates: list[Candidate]
    unknown: float
    chance: float
    needed: int | None


def attribute(
    profile: Profile, enrolment: Enrolment, *, reject: float = REJECT, unknown: float = UNKNOWN
) -> Attribution:
    """Attribute a set of images to one of the enrolled releases, or to none.

    Args:
        profile: Profile of the set, by the reference and encoder of the enrolled releases.
        enrolment: See :func:`scoring.attribution.enrolment.enrol`.
        reject: Level at which a maker is rejected; N trial sets allow levels down to 1/(N + 1).
        unknown: Prior probability that the maker is not enrolled.

    Raises:
        ValueError: Layers that differ from the enrolled ones, or levels outside (0, 1).
    """
    if not (0 < reject < 1 and 0 <= unknown < 1):
        raise ValueError(f"reject must lie in (0, 1) and unknown in [0, 1), got {reject} and {unknown}")
    curve, signature = (part[0] for part in enrolment.distances([profile]))
    fused = enrolment.weights @ np.stack([curve, signature])
    null = enrolment.null
    p_values = (1 + len(null) - np.searchsorted(null, fused, "left")) / (len(null) + 1)
    none = _unknown(enrolment, float(fused.min()), unknown)
    posterior = (1 - none) * softmax(-0.5 * fused)
    by_curve, by_signature = (
        softmax(-0.5 * weight * part) for weight, part in zip(enrolment.alone, (curve, signature), strict=True)
    )
    candidates = [
        Candidate(
            maker=enrolment.makers[k].name,
            posterior=float(posterior[k]),
            curve_posterior=float(by_curve[k]),
            signature_posterior=float(by_signature[k]),
            p_value=float(p_values[k]),
            d2=float(curve[k]),
            d2_p=float(chi2.sf(curve[k], len(profile.curve.x))),
            t2=float(signature[k]),
        )
        for k in np.argsort(fused, kind="stable")
    ]
    power = Power.of(enrolment, int(fused.argmin()))
    chance, needed = power.chance(profile.images), power.needed()
    verdict = _verdict(candidates, reject)
    sentence = _sentence(verdict, candidates, profile.images, none, needed)
    if verdict == "undecided" and 1 / (len(null) + 1) >= reject:
        sentence += (
            f"; nothing can be rejected at {reject:g} with {len(null)} trial sets, {_trials_needed(reject)} are needed"
        )
    return Attribution(verdict, sentence, candidates, none, chance, needed)


@dataclass(frozen=True, eq=False)
class Power:
    """How well images of one maker can be distinguished from those of the others.

    Attributes:
        enrolment: The enrolled releases.
        maker: The maker.
        others: Its K - 1 rivals.
        steps: (K - 1, L) float64, from the rivals' curves to the maker's.
        raw: (K - 1,) float64, squared distances of its mean signature from theirs in units of the variance of an image.
    """

    enrolment: Enrolment
    maker: Maker
    others: tuple[Maker, ...]
    steps: NDArray[np.float64]
    raw: NDArray[np.float64]

    @classmethod
    def of(cls, enrolment: Enrolment, position: int) -> Power:
        """The power for the maker at a position against all others."""
        maker, others = enrolment.makers[position], enrolment.makers[:position] + enrolment.makers[position + 1 :]
        if not others:
            return cls(enrolment, maker, others, np.empty((0, len(maker.profile.curve.x))), np.empty(0))
        steps = maker.profile.curve.x - np.stack([other.profile.curve.x for other in others])
        return cls(enrolment, maker, others, steps, raw_signature_distances([maker.profile], others)[0])

    def chance(self, images: int) -> float:
        """Lower bound of the probability that this many images are nearest to their maker: union bound over rivals.

        Enrolled means are estimates and differ even for identical makers: that alone gives ν of the fused distance δ of
        two makers. A calibrated log-likelihood ratio then has mean (δ - ν)/2 and variance at most δ, so that a rival
        wins with probability Φ(-(δ - ν)/2√δ).

        Source:
            Fujikoshi 2000 (error of linear discriminants with estimated means).
        """
        if not self.others:
            return 1.0
        drift, curve = self.enrolment.drift, self.maker.profile.curve.covariance
        spread = self.enrolment.spread.covariance if self.enrolment.spread is not None else np.zeros_like(curve)
        everyone = (self.maker, *self.others)
        curves = np.stack([maker.profile.curve.covariance + spread / maker.runs for maker in everyone])
        means = np.array([1 / maker.profile.images + drift / maker.runs for maker in everyone])
        covariance = curve * self.maker.profile.images / images + spread + curves[1:]
        variance = 1 / images + drift + means[1:]
        coordinates = sum(len(layer) for layer in self.maker.whiteners)
        delta = np.stack([curve_distances(self.steps, covariance), self.raw / variance])
        solved = np.linalg.solve(ridged(covariance), curves[0] + curves[1:])
        by_noise = np.stack([solved.trace(axis1=1, axis2=2), coordinates * (means[0] + means[1:]) / variance])
        d, nu = self.enrolment.weights @ delta, self.enrolment.weights @ by_noise
        return max(0.0, 1 - float(norm.sf((d - nu) / (2 * np.sqrt(np.maximum(d, _TINY)))).sum()))

    def needed(self) -> int | None:
        """Fewest images with a chance of `CONFIDENT`; None when a million are not enough."""
        if self.chance(_MOST_IMAGES) < CONFIDENT:
            return None
        low, high = 1, _MOST_IMAGES
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.chance(middle) >= CONFIDENT else (middle + 1, high)
        return low


def _unknown(enrolment: Enrolment, nearest: float, prior: float) -> float:
    """Probability that the maker is not enrolled."""
    if prior == 0 or enrolment.unknown is None:
        return prior
    slope, offset = enrolment.unknown
    return float(expit(slope * math.log(max(nearest, 1e-12)) + offset + math.log(prior / (1 - prior))))


def _verdict(candidates: Sequence[Candidate], reject: float) -> Verdict:
    if max(candidate.p_value for candidate in candidates) < reject:
        return "unknown"
    return "attributed" if candidates[0].posterior >= CONFIDENT else "undecided"


def _sentence(
    verdict: Verdict, candidates: Sequence[Candidate], images: int, unknown: float, needed: int | None
) -> str:
    best = candidates[0]
    if verdict == "unknown":
        return (
            f"none of the {len(candidates)} enrolled releases made these {images} images: even {best.maker}, "
            f"the nearest, is rejected (p = {best.p_value:.2g})"
        )
    if verdict == "attributed":
        sure = "over 99.9 %" if best.posterior > 0.999 else f"{best.posterior:.1%}"
        return f"{best.maker} made these {images} images (probability {sure})"
    sentence = f"undecided: {best.maker} is the most probable maker ({best.posterior:.0%}; unknown: {unknown:.0%})"
    if needed is None:
        return f"{sentence}; more images cannot distinguish it from its nearest rival"
    if images < needed:
        return f"{sentence}; {images} images are few: {needed} would distinguish {best.maker} from the others"
    return sentence


def _trials_needed(reject: float) -> int:
    """Fewest trial sets for which the smallest p-value, 1/(N + 1), is below the level.

    >>> _trials_needed(0.05)
    20
    """
    return math.floor(1 / reject + 1e-9)
