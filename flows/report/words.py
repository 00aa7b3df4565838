"""What a report says in plain words: the answer first, then how sure it is and what to do about it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from flows.results.audit_result import COPYING, INCONCLUSIVE, INVALID, NO_COPYING, AuditResult

Tone = Literal["bad", "good", "open"]

TONES: dict[str, Tone] = {COPYING: "bad", NO_COPYING: "good"}
"""Tone of a verdict; of all others "open": the audit gives no answer."""

MARKS: dict[Tone, str] = {"bad": "✕", "good": "✓", "open": "?"}

EARLY_LATE = "Early layers see pixels and texture, late layers see what an image means."

MEANING = (
    "Â is the chance that a generated image lies farther from the training images than an unseen real image does: "
    "0.5 is like unseen images, below 0.5 is closer to the training images, above is farther."
)

LIMITS = (
    "A release is judged against the training images that the audit was given. Copies of others are not seen.",
    "A layer sees what its encoder sees: a copy that is mirrored or cropped at another scale can look new.",
    "The copy rate counts images closer than unseen ones usually come. Smooth or blurred images can come close without "
    "being copies: look at the pairs.",
    "Single copies among very many images are below any rate. The closest pairs are there for these.",
    "The intervals cover the draw of the generated and the held-out images, not another training set.",
    "Attribution compares with enrolled releases only, on images of the same subject matter.",
)


class Answer(NamedTuple):
    """The first screen: what was found, how sure that is, what to do."""

    tone: Tone
    headline: str
    sure: list[str]
    todo: list[str]


def percent(share: float | None) -> str:
    """A share in per cent; two digits where it is small.

    >>> percent(0.0404), percent(0.994), percent(0.0), percent(None), percent(1.0)
    ('4 %', '99.4 %', '0 %', 'unknown', '100 %')
    """
    if share is None:
        return "unknown"
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.3g} %"


def certainty(probability: float | None) -> str:
    """A probability in per cent, which is never called 0 or 100 %.

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
    says = {COPYING: _copying, NO_COPYING: _no_copying, INCONCLUSIVE: _inconclusive, INVALID: _invalid}
    found = says.get(outcome.verdict, _not_judged)(outcome)
    return found._replace(sure=[*found.sure, _checked(outcome)], todo=[*found.todo, *_warnings(outcome)])


def _rate(audit: dict[str, Any]) -> str:
    rate, ends = percent(audit["copy_rate"]), interval(audit["copy_rate_low"], audit["copy_rate_high"])
    return f"{rate} (95 % interval {ends})"


def _copying(outcome: AuditResult) -> Answer:
    audit = outcome.audit
    limit = percent(audit["max_copy_rate"])
    return Answer(
        "bad",
        f"{outcome.label} copies its training images.",
        [
            f"Estimated share of copies: {_rate(audit)}, seen at layer {audit['copying_layer']}; allowed are {limit}.",
            "A release that keeps to the limit is called copying in at most 5 of 100 audits.",
        ],
        [
            "Do not publish this version as free of copies.",
            "Look at the closest pairs below: are these copies that matter?",
            "Remove duplicates from the training set or filter the output, then audit the new version.",
        ],
    )


def _no_copying(outcome: AuditResult) -> Answer:
    audit = outcome.audit
    return Answer(
        "good",
        f"No copying above {percent(audit['max_copy_rate'])} was seen in {outcome.label}.",
        [
            f"Highest estimate of all layers: {_rate(audit)}, at layer {audit['copying_layer']}.",
            f"{_power(audit)} Fewer copies can go unseen.",
        ],
        [
            "Nothing stands against this release as far as copying goes.",
            "Look through the closest pairs below before you sign: single copies are below any rate.",
        ],
    )


def _inconclusive(outcome: AuditResult) -> Answer:
    return Answer(
        "open",
        f"Nothing was found in {outcome.label}, but this audit is too small to say that there is nothing.",
        [f"Highest estimate of all layers: {_rate(outcome.audit)}.", _power(outcome.audit)],
        ["Audit again with more generated and more held-out images.", *_remedies(outcome)],
    )


def _invalid(outcome: AuditResult) -> Answer:
    reason = str(outcome.audit["invalid_reason"]).rstrip(".")
    return Answer(
        "open",
        f"This audit of {outcome.label} is not valid: its numbers do not count.",
        [f"Reason: {reason}." if reason else "A validity check failed; see the table of checks."],
        _remedies(outcome) or ["Mend what the failed checks below name, and audit again."],
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
        return "With so few images no copy rate could have been called copying."
    return f"An audit of this size finds a copy rate of {percent(seen)} in 80 of 100 cases."


def _remedies(outcome: AuditResult) -> list[str]:
    failed = [row for row in outcome.checks if not row["passed"] and row["severity"] != "note" and row["remedy"]]
    return [f"{row['name']}: {row['remedy']}." for row in failed]


def _checked(outcome: AuditResult) -> str:
    if not outcome.checks:
        return "No validity checks are stored with this audit."
    failed = [row["name"] for row in outcome.checks if not row["passed"]]
    passed = f"{len(outcome.checks) - len(failed)} of {len(outcome.checks)} validity checks passed"
    return f"{passed}; not: {', '.join(failed)}." if failed else f"{passed}."


def _warnings(outcome: AuditResult) -> list[str]:
    rejected, notes = outcome.audit["rejected"], []
    if rejected:
        what = "1 image of the release" if rejected == 1 else f"{rejected:,} images of the release"
        notes.append(f"{what} could not be read; see the list below.")
    failed = [row for row in outcome.checks if not row["passed"] and row["severity"] == "note"]
    return notes + [f"Worth knowing: {row['sentence']}." for row in failed]
