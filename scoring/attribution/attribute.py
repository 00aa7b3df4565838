"""Attribution: which enrolled release made a set of images, if any."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import chi2

from scoring.attribution.enrolment import ORIGINAL, Enrolment
from scoring.attribution.needed import Needed
from scoring.attribution.profile import Profile

Verdict = Literal["attributed", "one of", "unknown", "undecided"]

REJECT = 0.05
"""Level at which a maker is rejected."""

UNKNOWN = 0.5
"""Prior probability that the maker is not enrolled."""

CONFIDENT = 0.95
"""Probability among the enrolled makers that the named ones must have together."""

STRANGE = 0.2
"""Largest probability of an unknown maker at which enrolled ones are named."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An enrolled release as a possible maker of a set.

    Attributes:
        maker: The release.
        named: Whether the answer names it.
        posterior: Probability that it is the maker; all candidates and the unknown maker sum to 1.
        closed: Probability if the maker is enrolled; all candidates sum to 1.
        curve_posterior: The same by the memorization curve alone.
        signature_posterior: The same by the moment signature alone.
        p_value: (1 + #{trial sets at least as far from their own maker})/(N + 1): small = not the maker.
        processing: How images of this maker must have been processed to be nearest to the set.
        d2: D² of the curve.
        d2_p: P(χ²_L ≥ D²), the curve's own p-value.
        t2: T² of the signature.
    """

    maker: str
    named: bool
    posterior: float
    closed: float
    curve_posterior: float
    signature_posterior: float
    p_value: float
    processing: str
    d2: float
    d2_p: float
    t2: float


@dataclass(frozen=True, slots=True)
class Attribution:
    """The answer.

    Attributes:
        verdict: ``attributed`` (one release is named), ``one of`` (several are), ``unknown`` (every release is
            rejected, or the maker is very probably another) or ``undecided``.
        sentence: The verdict in words.
        candidates: All enrolled releases, the most probable first.
        unknown: Probability that none of them is the maker.
        curve_weight: Weight of the memorization curve relative to the signature; 0: it adds nothing.
        chance: Probability that as many images of the first candidate are attributed to it.
        needed: Fewest images for which that is `scoring.attribution.needed.LIKELY`; None: no number is enough.
    """

    verdict: Verdict
    sentence: str
    candidates: list[Candidate]
    unknown: float
    curve_weight: float
    chance: float
    needed: int | None

    @property
    def short(self) -> str:
        """The named releases, with "or" between them; the verdict where none is named."""
        return " or ".join(candidate.maker for candidate in self.candidates if candidate.named) or self.verdict


def attribute(
    profile: Profile, enrolment: Enrolment, *, reject: float = REJECT, unknown: float = UNKNOWN
) -> Attribution:
    """Attribute a set of images to one of the enrolled releases, to a few of them, or to none.

    Releases whose p-value is not above ``reject`` are out. Of the others the fewest that hold `CONFIDENT` of the
    probability among them are named, unless the maker is unknown with a probability above `STRANGE`.

    Args:
        profile: Profile of the set, by the reference and encoder of the enrolled releases.
        enrolment: See :func:`scoring.attribution.enrolment.enrol`.
        reject: Level at which a maker is rejected; N trial sets allow levels down to 1/(N + 1).
        unknown: Prior probability that the maker is not enrolled; 0: it is.

    Raises:
        ValueError: Layers that differ from the enrolled ones, or levels outside (0, 1).
    """
    if not (0 < reject < 1 and 0 <= unknown < 1):
        raise ValueError(f"reject must lie in (0, 1) and unknown in [0, 1), got {reject} and {unknown}")
    found = enrolment.distances([profile])
    fused, signature, curve = found.fused[0], found.signature[0], found.curve[0]
    p_values = enrolment.p_values(fused)
    none = enrolment.unknown.probability(fused, unknown)
    closed = softmax(enrolment.log_likelihood(fused))
    by_curve = softmax(-0.5 * enrolment.curve_alone * curve)
    by_signature = softmax(enrolment.log_likelihood(signature))
    names = set(named(enrolment, fused, reject).tolist())
    candidates = [
        Candidate(
            maker=enrolment.makers[k].name,
            named=k in names and none <= STRANGE,
            posterior=float((1 - none) * closed[k]),
            closed=float(closed[k]),
            curve_posterior=float(by_curve[k]),
            signature_posterior=float(by_signature[k]),
            p_value=float(p_values[k]),
            processing=enrolment.rule.versions[found.version[0, k]],
            d2=float(curve[k]),
            d2_p=float(chi2.sf(curve[k], len(profile.curve.x))),
            t2=float(signature[k]),
        )
        for k in np.argsort(-closed, kind="stable")
    ]
    power = Needed(enrolment, int(closed.argmax()), lambda fused: sole(enrolment, fused, reject, unknown))
    chance, needed = power.chance(profile.images), power.images()
    verdict = _verdict(candidates, len(names), none)
    sentence = _sentence(verdict, candidates, profile.images, none, needed)
    if verdict == "undecided" and len(enrolment.null) < _trials_needed(reject):
        sentence += (
            f"; nothing can be rejected at {reject:g} with {len(enrolment.null)} trial sets, "
            f"{_trials_needed(reject)} are needed"
        )
    return Attribution(verdict, sentence, candidates, none, enrolment.curve_weight, chance, needed)


def named(enrolment: Enrolment, fused: NDArray[np.float64], reject: float) -> NDArray[np.intp]:
    """The fewest makers that hold `CONFIDENT` of the probability among those that are not rejected.

    Args:
        enrolment: The enrolled releases.
        fused: (K,) float64, fused distances.
        reject: Level at which a maker is rejected.
    """
    possible = np.flatnonzero(enrolment.p_values(fused) > reject)
    if not len(possible):
        return possible
    probability = softmax(enrolment.log_likelihood(fused)[possible])
    order = np.argsort(-probability, kind="stable")
    count = int(np.searchsorted(np.cumsum(probability[order]), CONFIDENT)) + 1
    return possible[order[:count]]


def sole(enrolment: Enrolment, fused: NDArray[np.float64], reject: float, unknown: float) -> int | None:
    """The maker that `attribute` would name alone; None: it would name none or several."""
    names = named(enrolment, fused, reject)
    if len(names) != 1 or enrolment.unknown.probability(fused, unknown) > STRANGE:
        return None
    return int(names[0])


def _verdict(candidates: Sequence[Candidate], possible: int, unknown: float) -> Verdict:
    if not possible or unknown >= CONFIDENT:
        return "unknown"
    count = sum(candidate.named for candidate in candidates)
    if count == 1:
        return "attributed"
    return "one of" if 1 < count < len(candidates) else "undecided"


def _sentence(
    verdict: Verdict, candidates: Sequence[Candidate], images: int, unknown: float, needed: int | None
) -> str:
    best = candidates[0]
    names = [candidate for candidate in candidates if candidate.named]
    processed = {candidate.processing for candidate in names or [best]}
    after = f", best explained by {processed.pop()}" if len(processed) == 1 and ORIGINAL not in processed else ""
    strange = f"another maker: {_percent(unknown)}"
    if verdict == "unknown":
        nearest = max(candidates, key=lambda candidate: candidate.p_value)
        why = (
            f"that another maker made them is {_percent(unknown)} probable"
            if unknown >= CONFIDENT
            else f"even {nearest.maker}, the most alike, is rejected (p = {nearest.p_value:.2g})"
        )
        return (
            f"none of the {len(candidates)} enrolled releases made these {images} images, or they were processed in a "
            f"way, or are of content, that was not enrolled: {why}"
        )
    if verdict == "attributed":
        return (
            f"{best.maker} made these {images} images{after} "
            f"({_percent(best.closed)} among the enrolled releases; {strange})"
        )
    more = (
        "; no number of images would tell"
        if needed is None
        else f"; {needed} images would probably tell"
        if images < needed
        else ""
    )
    if verdict == "one of":
        listed = " or ".join(candidate.maker for candidate in names)
        return f"{listed} made these {images} images{after}, which are not told apart ({strange}){more}"
    return (
        f"undecided: {best.maker} is the most probable of the enrolled releases "
        f"({_percent(best.closed)} among them; {strange}){more}"
    )


def _percent(probability: float) -> str:
    """A probability in words.

    >>> _percent(0.9999), _percent(0.123), _percent(1e-6)
    ('over 99.9 %', '12.3 %', 'under 0.1 %')
    """
    if probability > 0.999:
        return "over 99.9 %"
    return "under 0.1 %" if probability < 0.001 else f"{100 * probability:.1f} %"


def _trials_needed(reject: float) -> int:
    """Fewest trial sets for which the smallest p-value, 1/(N + 1), is not above the level.

    >>> _trials_needed(0.05)
    19
    """
    return math.ceil(1 / reject - 1 - 1e-9)
