"""The copying verdict. The fit verdict is in :mod:`scoring.verdict.fit`; the two are never one number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scoring.checks.power import FAMILY_ERROR, smallest_detectable_rate
from scoring.score.copy_rate import CopyRate, copy_rate_bounds
from scoring.score.layer_score import LayerScore
from scoring.verdict.fit import Fit, FitVerdict, fit_verdict

__all__ = [
    "FAMILY_ERROR",
    "CopyingVerdict",
    "Fit",
    "FitVerdict",
    "copying_verdict",
    "fit_verdict",
    "smallest_detectable_rate",
]

_PRINTED_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class CopyingVerdict:
    """Whether a release copies its training images.

    Attributes:
        copying: True when some layer's simultaneous lower bound exceeds the allowed copy rate.
        layer: The layer with the strongest evidence; None when no layer can measure the tail.
        rate: Its copy rate.
        low: Lower end of its own 95 % interval.
        high: Upper end.
        sentence: The verdict in words, with its numbers.
    """

    copying: bool
    layer: int | None
    rate: float | None
    low: float | None
    high: float | None
    sentence: str


def copying_verdict(scores: Sequence[LayerScore], max_copy_rate: float) -> CopyingVerdict:
    """Judge copying: at least one of the L layers that measure the 1 % tail exceeds the limit.

    Bonferroni: a layer's lower bound is one-sided at level 1 - 0.05/L. The verdict reports the layer with the largest
    bound; among equal bounds the larger rate, then the lowest layer. A layer whose threshold is 0 measures nothing:
    held-out images that are training images hide every copy.

    Args:
        scores: The release's layers.
        max_copy_rate: Largest copy rate allowed.

    >>> copying_verdict([LayerScore(0, 500, 500)], 0.01).sentence
    'copying cannot be judged: no layer can measure the 1 % tail (it needs an informative layer and ...'
    """
    if not 0 <= max_copy_rate < 1:
        raise ValueError(f"max_copy_rate must lie in [0, 1), got {max_copy_rate}")
    measured = [(score.layer, score.copy) for score in scores if score.copy is not None and score.copy.threshold > 0]
    if not measured:
        return CopyingVerdict(False, None, None, None, None, _cannot_judge(scores))

    def strength(entry: tuple[int, CopyRate]) -> tuple[float, float, int]:
        layer, copy = entry
        return (_simultaneous_low(copy, len(measured)), copy.rate, -layer)

    layer, copy = max(measured, key=strength)
    copying = _simultaneous_low(copy, len(measured)) > max_copy_rate
    low, high = copy_rate_bounds(copy.k, copy.m, copy.r, copy.n, _PRINTED_LEVEL, tied=copy.tied)
    nearer_than = 100 * (1 - copy.r / (copy.n + 1))
    facts = (
        f"{copy.k} of {copy.m} images lie closer to a training image than {nearer_than:.3g} % "
        f"of unseen real images do; copy rate {percent(copy.rate)} % "
        f"(95 % interval {percent(low)}–{percent(high)} %)"
    )
    if copying:
        sentence = f"copying: at layer {layer}, {facts}, above the allowed {percent(max_copy_rate)} %"
    else:
        seen = smallest_detectable_rate(copy.n, copy.m, len(measured), max_copy_rate)
        sentence = (
            f"no copying above the allowed {percent(max_copy_rate)} % seen: "
            f"highest at layer {layer}, where {facts}; {_power(seen)}"
        )
    return CopyingVerdict(copying, layer, copy.rate, low, high, sentence)


def _simultaneous_low(copy: CopyRate, layers: int) -> float:
    return copy_rate_bounds(copy.k, copy.m, copy.r, copy.n, 1 - 2 * FAMILY_ERROR / layers).low


def percent(share: float) -> str:
    """Format a share in per cent, with more decimals where it is small.

    >>> percent(0.0481), percent(0.00042), percent(0.01), percent(0.0)
    ('4.8', '0.042', '1', '0')
    """
    return f"{100 * share:.2g}" if share < 0.1 else f"{100 * share:.3g}"


def _power(seen: float | None) -> str:
    if seen is None:
        return "with so few images no copy rate could have been called copying"
    return f"a copy rate of {percent(seen)} % would have been called copying with 80 % probability"


def _cannot_judge(scores: Sequence[LayerScore]) -> str:
    hidden = [score.copy for score in scores if score.copy is not None]
    if hidden:
        return (
            f"copying cannot be judged: at least {hidden[0].r} of {hidden[0].n} held-out images are "
            "identical to training images, which hides copies; remove them from the held-out set"
        )
    informative = sum(score.informative for score in scores)
    n = max((score.n for score in scores), default=0)
    return (
        "copying cannot be judged: no layer can measure the 1 % tail (it needs an informative layer and "
        f"99 held-out images; there are {informative} informative layers and {n} held-out images)"
    )
