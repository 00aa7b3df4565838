"""The fit verdict: whether a release is as far from the training images as unseen real images are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scoring.score.effect import Effect
from scoring.score.frechet import FrechetFit
from scoring.score.layer_score import LayerScore
from scoring.score.permutation import PermutationResult

CLOSER: Literal["closer than unseen"] = "closer than unseen"
FARTHER: Literal["farther than unseen (underfit)"] = "farther than unseen (underfit)"
MIXED: Literal["mixed over layers"] = "mixed over layers"
ALIKE: Literal["no difference seen"] = "no difference seen"
NOT_JUDGED: Literal["cannot be judged"] = "cannot be judged"

Fit = Literal[
    "closer than unseen",
    "farther than unseen (underfit)",
    "mixed over layers",
    "no difference seen",
    "cannot be judged",
]

FAMILY_ERROR = 0.05
"""Probability that a release exchangeable with held-out images is called different in any layer."""


@dataclass(frozen=True, slots=True)
class FitVerdict:
    """Comparison of a release with unseen real images in distance to the training images.

    Attributes:
        verdict: The verdict.
        layer: The layer with the strongest evidence (largest |Z_S|); None when no layer is informative.
        effect: Its Â with an interval for this layer alone; below ½ = closer to the training images than unseen ones.
        p: Its p-value, adjusted for all layers.
        sentence: The verdict in words, with its numbers.
    """

    verdict: Fit
    layer: int | None
    effect: Effect | None
    p: float | None
    sentence: str


def fit_verdict(
    scores: Sequence[LayerScore],
    permutation: PermutationResult | None,
    frechet: FrechetFit | None = None,
    *,
    error: float = FAMILY_ERROR,
) -> FitVerdict:
    """Judge the fit by the layers that differ in the step-down maximum test, and their direction.

    Args:
        scores: The release's layers; uninformative ones are skipped.
        permutation: The test of the informative layers, in the same order; None when there are none.
        frechet: Fréchet distance of one layer, to append to the sentence.
        error: Family error.

    Raises:
        ValueError: The test is of other layers.

    >>> fit_verdict([LayerScore(0, 500, 500)], None).verdict
    'cannot be judged'
    """
    informative = [(score.layer, score.effect) for score in scores if score.effect is not None]
    if not informative:
        return FitVerdict(NOT_JUDGED, None, None, None, "fit cannot be judged: no layer is informative")
    if permutation is None or len(permutation.z) != len(informative):
        tested = 0 if permutation is None else len(permutation.z)
        raise ValueError(f"{len(informative)} informative layers, but the test is of {tested}")
    different = permutation.p_adjusted <= error
    signs = set(np.sign(permutation.z[different]).tolist())
    verdict: Fit = ALIKE if not signs else MIXED if len(signs) > 1 else CLOSER if signs == {-1.0} else FARTHER
    strongest = int(np.abs(permutation.z).argmax())
    (layer, effect), p = informative[strongest], float(permutation.p_adjusted[strongest])
    facts = (
        f"at layer {layer} a generated image is farther from the training images than an unseen real one with "
        f"probability {effect.a_hat:.3f} (95 % interval {effect.low:.3f}–{effect.high:.3f}; 0.5 = alike), p = {p:.2g} "
        f"over {len(informative)} layers"
    )
    z_of = {informative[i][0]: float(permutation.z[i]) for i in np.flatnonzero(different)}
    sentence = f"{_where(verdict, layer, z_of, len(informative))}; {facts}{_beside(frechet)}"
    return FitVerdict(verdict, layer, effect, p, sentence)


def _where(verdict: Fit, layer: int, different: Mapping[int, float], layers: int) -> str:
    """The verdict and its layers; ``different`` gives Z_S of the layers that differ."""
    if verdict == ALIKE:
        return f"{ALIKE}: most at layer {layer}"
    if verdict == MIXED:
        closer = ", ".join(str(number) for number, z in different.items() if z < 0)
        farther = ", ".join(str(number) for number, z in different.items() if z > 0)
        return f"{MIXED}: closer to the training images than unseen ones in {closer}, farther in {farther}"
    return f"{verdict} in {len(different)} of {layers} layers"


def _beside(frechet: FrechetFit | None) -> str:
    if frechet is None:
        return ""
    return (
        f"; Fréchet distance to held-out images {max(0.0, frechet.distance):.3g} (95 % interval {frechet.low:.3g}–"
        f"{frechet.high:.3g}), of training to held-out images {max(0.0, frechet.baseline):.3g}"
    )
