"""The sentences of a report: the answer first, then how certain it is and what to do."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from flows.results.audit_result import COPYING, INCONCLUSIVE, INVALID, NO_COPYING, AuditResult

Tone = Literal["bad", "good", "open"]

TONES: dict[str, Tone] = {COPYING: "bad", NO_COPYING: "good"}
"""Tones of the verdicts that are an answer; all others are "open"."""

MARKS: dict[Tone, str] = {"bad": "✕", "good": "✓", "open": "?"}

EARLY_LATE = "Early layers capture pixels and texture, late layers capture meaning."

MEANING = (
    "Â is the probability that a generated image lies farther from the training images than an unseen real image does: "
    "0.5 means like unseen images, below 0.5 closer to the training images, above 0.5 farther."
)

LIMITS = (
    "The audit compares a release with the training images it was given. It does not detect copies of other images.",
    "The audit sees only what the encoder sees: a copy that is mirrored or cropped at another scale can look new.",
    "The copy rate counts images that lie closer than unseen images usually do. Smooth or blurred images can lie close "
    "without being copies: review the pairs.",
    "Single copies among very many images are below any detectable rate. The closest pairs can show them.",
    "The intervals cover the sampling of generated and held-out images, not the choice of another training set.",
    "Attribution compares only with enrolled releases, on images of the same subject matter.",
)


class Answer(NamedTuple):
    """The first screen: the finding, how certain it is, and what to do."""

    tone: Tone
    headline: str
    sure: list[str]
    todo: list[str]


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


def answer(outcome: AuditResult) -> Answer:
    """The answer that an audit gives."""
    answers = {COPYING: _copying, NO_COPYING: _no_copying, INCONCLUSIVE: _inconclusive, INVALID: _invalid}
    result = answers.get(outcome.verdict, _not_judged)(outcome)
    return result._replace(sure=[*result.sure, _checked(outcome)], todo=[*result.todo, *_warnings(outcome)])


def rate(audit: dict[str, Any]) -> str:
    """The copy rate of an audit with its interval."""
    ends = interval(audit["copy_rate_low"], audit["copy_rate_high"])
    return f"{percent(audit['copy_rate'])} (95 % interval {ends})"


def _copying(outcome: AuditResult) -> Answer:
    audit = outcome.audit
    limit = percent(audit["max_copy_rate"])
    return Answer(
        "bad",
        f"{outcome.label} copies its training images.",
        [
            f"Estimated copy rate: {rate(audit)}, at layer {audit['copying_layer']}; the limit is {limit}.",
            "A release within the limit is called copying in at most 5 of 100 audits.",
        ],
        [
            "Do not publish this version as free of copies.",
            "Review the closest pairs below: do these copies matter?",
            "Remove duplicates from the training set or filter the output, then audit the new version.",
        ],
    )


def _no_copying(outcome: AuditResult) -> Answer:
    audit = outcome.audit
    return Answer(
        "good",
        f"No copying above {percent(audit['max_copy_rate'])} was seen in {outcome.label}.",
        [
            f"Highest estimate over all layers: {rate(audit)}, at layer {audit['copying_layer']}.",
            f"{_power(audit)} A lower rate can go undetected.",
        ],
        [
            "This audit found no copying that speaks against the release.",
            "Review the closest pairs below before you sign: single copies are below any detectable rate.",
        ],
    )


def _inconclusive(outcome: AuditResult) -> Answer:
    return Answer(
        "open",
        f"No copying was found in {outcome.label}, but this audit is too small to rule it out.",
        [f"Highest estimate over all layers: {rate(outcome.audit)}.", _power(outcome.audit)],
        ["Audit again with more generated and more held-out images.", *_remedies(outcome)],
    )


def _invalid(outcome: AuditResult) -> Answer:
    reason = str(outcome.audit["invalid_reason"]).rstrip(".")
    return Answer(
        "open",
        f"This audit of {outcome.label} is not valid: do not rely on its numbers.",
        [f"Reason: {reason}." if reason else "A validity check failed; see the table of checks."],
        _remedies(outcome) or ["Fix what the failed checks below name, then audit again."],
    )


def _not_judged(outcome: AuditResult) -> Answer:
    return Answer(
        "open",
        f"Whether {outcome.label} copies cannot be judged from this audit.",
        [str(outcome.audit["sentence"])],
        ["Audit again with at least 99 held-out images and an encoder whose layers carry information."],
    )


def _power(audit: dict[str, Any]) -> str:
    seen = audit["smallest_detectable_rate"]
    if seen is None:
        return "With so few images, no copy rate would have been called copying."
    return f"An audit of this size detects a copy rate of {percent(seen)} in 80 of 100 cases."


def _remedies(outcome: AuditResult) -> list[str]:
    failed = [row for row in outcome.checks if not row["passed"] and row["severity"] != "note" and row["remedy"]]
    return [f"{row['name']}: {row['remedy']}." for row in failed]


def _checked(outcome: AuditResult) -> str:
    if not outcome.checks:
        return "No validity checks are stored with this audit."
    failed = [row["name"] for row in outcome.checks if not row["passed"]]
    passed = f"{len(outcome.checks) - len(failed)} of {len(outcome.checks)} validity checks passed"
    return f"{passed}; failed: {', '.join(failed)}." if failed else f"{passed}."


def _warnings(outcome: AuditResult) -> list[str]:
    rejected, notes = outcome.audit["rejected"], []
    if rejected:
        images = "1 image" if rejected == 1 else f"{rejected:,} images"
        notes.append(f"{images} of the release could not be read; see the list below.")
    failed = [row for row in outcome.checks if not row["passed"] and row["severity"] == "note"]
    return notes + [f"Note: {row['sentence']}." for row in failed]
