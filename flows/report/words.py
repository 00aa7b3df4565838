"""What all parts of a report say: its tones, its limits, and how numbers are written."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from flows.report.facts import Row
from flows.results.audit_result import COPYING, NO_COPYING, judged_by_copies

Tone = Literal["bad", "good", "open"]

TONES: dict[str, Tone] = {COPYING: "bad", NO_COPYING: "good"}
"""Tones of the verdicts that are an answer; all others are "open"."""

MARKS: dict[Tone, str] = {"bad": "✕", "good": "✓", "open": "?"}

EARLY_LATE = "Early layers capture pixels and texture, late layers capture meaning."

MEANING = (
    "Â is the probability that a generated image lies farther from the training images than an unseen real image does: "
    "0.5 means like unseen images, below 0.5 closer to the training images, above 0.5 farther."
)

_OTHERS = (
    "The audit compares a release with the training images it was given. It does not detect copies of other images."
)

_INTERVALS = (
    "The intervals cover the sampling of generated and held-out images, not the choice of another training set."
)

_ATTRIBUTION = "Attribution compares only with enrolled releases, on images of the same subject matter."

_COPY_LIMITS = (
    _OTHERS,
    "Here an image is a copy when it is more like one training image than like any other, whole or in part, to a "
    "degree that unseen images do not reach.",
    "On CIFAR-10 (ViT-S/14 at 112 pixels, 1 of 100 unseen images above the line) 97 % of copies of 18 kinds were "
    "found: re-encoded, mirrored, cropped, shifted, blurred, recoloured, written over, pasted in part and others.",
    "It is weak on some kinds. Found there: upside down 6.5 %, quarter turns 6 %, inside a frame 3.5 %, half size 2 %, "
    "a half or a quarter of an image moved elsewhere 32 and 1.5 %, even blends of two images 35 %.",
    "Unseen images that happen to be near-duplicates of training images hide copies, since they raise the line. Images "
    "of one motif can look like copies of one another: review the pictures.",
    "Single copies among very many images are below any detectable rate.",
    _INTERVALS,
    _ATTRIBUTION,
)

_LAYER_LIMITS = (
    _OTHERS,
    "The audit sees only what the encoder sees: a copy that is mirrored or cropped at another scale can look new.",
    "The copy rate counts images that lie closer than unseen images usually do. Smooth or blurred images can lie close "
    "without being copies: review the pairs.",
    "Single copies among very many images are below any detectable rate. The closest pairs can show them.",
    _INTERVALS,
    _ATTRIBUTION,
)


class Answer(NamedTuple):
    """The first screen: the finding, how certain it is, and what to do."""

    tone: Tone
    headline: str
    sure: list[str]
    todo: list[str]


def limits(audit: Row) -> tuple[str, ...]:
    """What an audit cannot show, by what it was judged by."""
    return _COPY_LIMITS if judged_by_copies(audit) else _LAYER_LIMITS


def tone(verdict: str) -> Tone:
    """The tone of a verdict, which is also its CSS class.

    >>> tone("copying"), tone("invalid")
    ('bad', 'open')
    """
    return TONES.get(verdict, "open")


def colour(verdict: str) -> str:
    """The colour of a verdict, a CSS variable of the page."""
    return f"var(--{tone(verdict)})"


def percent(share: float | None) -> str:
    """A share in per cent, with two significant digits when it is below 10 %.

    >>> percent(0.0404), percent(0.994), percent(0.0), percent(None), percent(1.0)
    ('4 %', '99.4 %', '0 %', 'unknown', '100 %')
    """
    if share is None:
        return "unknown"
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.3g} %"


def digits(value: float | None) -> str:
    """A number with two significant digits.

    >>> digits(0.00173), digits(None), digits(float("nan"))
    ('0.0017', '–', '–')
    """
    return "–" if value is None or math.isnan(value) else f"{value:.2g}"


def certainty(probability: float | None) -> str:
    """A probability in per cent, never rounded to 0 or 100 %.

    >>> certainty(0.9647), certainty(0.99999), certainty(1e-9)
    ('96 %', 'over 99.9 %', 'under 0.1 %')
    """
    if probability is None:
        return "unknown"
    if probability > 0.999:
        return "over 99.9 %"
    if probability < 0.001:
        return "under 0.1 %"
    digits = 1 if probability > 0.99 or probability < 0.01 else 0
    return f"{100 * probability:.{digits}f} %"


def interval(low: float | None, high: float | None) -> str:
    """Two shares as an interval in per cent.

    >>> interval(0.0208, 0.0646), interval(None, 0.1)
    ('2.1–6.5 %', 'unknown')
    """
    if low is None or high is None:
        return "unknown"
    return f"{percent(low).removesuffix(' %')}–{percent(high)}"
