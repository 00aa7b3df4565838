"""The answer of a report: the finding, how certain it is, and what to do.

An audit is judged by its copies, or, without a copy score, by the layer whose distances show copying most.
"""

from __future__ import annotations

from flows.report.facts import Row
from flows.report.words import Answer, digits, interval, percent
from flows.results.audit_result import COPYING, INCONCLUSIVE, INVALID, NO_COPYING, AuditResult, judged_by_copies
from scoring.verdict.fit import CLOSER


def answer(outcome: AuditResult) -> Answer:
    """The answer that an audit gives."""
    if outcome.by_copies:
        answers = {COPYING: _copies, NO_COPYING: _no_copies, INCONCLUSIVE: _copies_open, INVALID: _invalid}
    else:
        answers = {COPYING: _copying, NO_COPYING: _no_copying, INCONCLUSIVE: _inconclusive, INVALID: _invalid}
    result = answers.get(outcome.verdict, _not_judged)(outcome)
    return result._replace(sure=[*result.sure, _checked(outcome)], todo=[*result.todo, *_warnings(outcome)])


def rate(audit: Row) -> str:
    """The copy rate of an audit with its interval."""
    if judged_by_copies(audit):
        return f"{interval(audit.get('copies_low'), audit.get('copies_high'))} (95 % bounds)"
    ends = interval(audit["copy_rate_low"], audit["copy_rate_high"])
    return f"{percent(audit['copy_rate'])} (95 % interval {ends})"


# -- judged by copies --------------------------------------------------------------------------------------------


def _copies(outcome: AuditResult) -> Answer:
    audit = outcome.audit
    return Answer(
        "bad",
        _at_least(outcome),
        [_chance(audit), _bounds(audit), *_listed(audit), *_sets(audit)],
        [
            "Do not publish this version as free of copies.",
            "Review the copies below: do they matter?",
            "Remove duplicates from the training set or filter the output, then audit the new version.",
        ],
    )


def _no_copies(outcome: AuditResult) -> Answer:
    audit = outcome.audit
    seen = _at_least(outcome, f"within the limit of {percent(audit['max_copy_rate'])}") if _some(audit) else None
    return Answer(
        "good",
        seen or f"No copies were seen in {outcome.label}; {_below(audit)}.",
        [_bounds(audit), _copy_power(audit), *_kinds(outcome), *_listed(audit), *_sets(audit)],
        [
            "This audit found nothing that speaks against the release.",
            "Review the pictures below before you sign: single copies are below any detectable rate.",
        ],
    )


def _copies_open(outcome: AuditResult) -> Answer:
    audit = outcome.audit
    detail = [_bounds(audit), _copy_power(audit), *_kinds(outcome), *_listed(audit), *_sets(audit)]
    if _some(audit) and not audit["copies_listed"]:
        headline = (
            f"More images of {outcome.label} look like training images than unseen ones do, but none can be listed."
        )
    elif _some(audit):
        headline = _at_least(outcome, "but the audit is too small to say whether more than the limit are")
    elif audit["fit_verdict"] == CLOSER:
        headline = (
            f"No copies were seen in {outcome.label}, but it lies closer to the training images than unseen ones."
        )
        return Answer(
            "open",
            headline,
            [f"{_capital(str(audit['fit_sentence'])).rstrip('.')}.", *detail],
            ["Find out why: review the closest pairs below, and compare the sets' sharpness and sources."],
        )
    else:
        headline = f"No copies were seen in {outcome.label}, but this audit is too small to rule them out."
    return Answer(
        "open",
        headline,
        detail,
        ["Audit again with more generated and more held-out images.", *_remedies(outcome)],
    )


def _some(audit: Row) -> bool:
    return bool(audit["copies_at_least"])


def _at_least(outcome: AuditResult, but: str = "") -> str:
    count, judged = outcome.audit["copies_at_least"], _judged(outcome.audit)
    are = "is a copy of a training image" if count == 1 else "are copies of training images"
    return f"At least {count:,} of {judged} images of {outcome.label} {are}{f', {but}' if but else ''}."


def _judged(audit: Row) -> str:
    """The number of images that were judged; repeated ones, and those of one group, count once."""
    distinct, units = audit.get("distinct_images"), audit.get("units")
    if units is not None and units != distinct:
        return f"{units:,} groups of"
    if distinct is None or distinct == audit["images"]:
        return f"{audit['images']:,}"
    return f"{distinct:,} distinct"


def _below(audit: Row) -> str:
    high = audit.get("copies_high")
    return "no upper bound of the rate is stored" if high is None else f"the rate is below {percent(high)}"


def _bounds(audit: Row) -> str:
    ends, limit = interval(audit.get("copies_low"), audit.get("copies_high")), percent(audit["max_copy_rate"])
    return f"Rate of copies: {ends} (each end is a 95 % bound); allowed: {limit}."


def _chance(audit: Row) -> str:
    p = audit.get("copies_p")
    value = "" if p is None else f" Here p = {digits(p)}."
    return f"A release without copies is called copying in at most 5 of 100 audits.{value}"


def _copy_power(audit: Row) -> str:
    seen = audit["smallest_detectable_rate"]
    if seen is None:
        return "With so few images, no rate of copies would have been called copying."
    return (
        f"A rate of {percent(seen)} is called copying in 80 of 100 cases, if the copies are stronger than all chance."
    )


def _kinds(outcome: AuditResult) -> list[str]:
    """Which copies it would find, where that was measured."""
    return [f"{_capital(outcome.power_by_kind)}."] if outcome.power_by_kind else []


def _listed(audit: Row) -> list[str]:
    listed = audit.get("copies_listed")
    if not listed:
        return []
    images = "1 image is" if listed == 1 else f"{listed:,} images are"
    return [f"{images} listed below as copies; on average at most 10 % of such a list are false."]


def _sets(audit: Row) -> list[str]:
    """What was counted once, and what may hide copies."""
    said = []
    repeated = audit["images"] - (audit.get("distinct_images") or audit["images"])
    if repeated:
        said.append(f"{repeated:,} of its {audit['images']:,} images repeat others of the release and count once.")
    units, distinct = audit.get("units"), audit.get("distinct_images") or audit["images"]
    if units is not None and units < distinct:
        said.append(f"Its {distinct:,} distinct images are {units:,} groups, of each of which one is judged.")
    if leaks := audit.get("held_out_leaks"):
        look = "1 held-out image looks" if leaks == 1 else f"{leaks:,} held-out images look"
        said.append(f"{look} like training images: they stay in, and can hide copies.")
    return said


def _capital(text: str) -> str:
    """The text with a capital letter.

    >>> _capital("closer, p = 0.01")
    'Closer, p = 0.01'
    """
    return text[:1].upper() + text[1:]


# -- judged by layers --------------------------------------------------------------------------------------------


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


def _power(audit: Row) -> str:
    seen = audit["smallest_detectable_rate"]
    if seen is None:
        return "With so few images, no copy rate would have been called copying."
    return f"An audit of this size detects a copy rate of {percent(seen)} in 80 of 100 cases."


# -- both ---------------------------------------------------------------------------------------------------------


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
