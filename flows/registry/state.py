"""The state of a release, as a pure function of what the store says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from flows.registry.expected_audit import ExpectedAudit
from flows.registry.failures import Failure
from flows.results.audit_result import COPYING, INVALID

StateName = Literal["never audited", "current", "stale", "flagged", "invalid", "failed", "auditing now"]


class ReleaseRecord(NamedTuple):
    """What is known of one release.

    Attributes:
        expected: The audit that the spec asks for; None without a spec, or when the images cannot be listed.
        audit: The row of `audits`: of the expected audit, else of the release's latest; None when there is none.
        held_by: Who is auditing it now.
        failure: Why its last audit failed.
        attempt: Digest of what an attempt would work on now, see `failures.attempt_digest`.
        unlisted: Why its images cannot be listed.
    """

    expected: ExpectedAudit | None = None
    audit: Mapping[str, Any] | None = None
    held_by: str | None = None
    failure: Failure | None = None
    attempt: str | None = None
    unlisted: str | None = None


class ReleaseState(NamedTuple):
    """The state of a release, the reason for it, and whether the next sweep audits the release."""

    name: StateName
    reason: str = ""
    due: bool = False


def release_state(record: ReleaseRecord, now: float) -> ReleaseState:
    """The state of a release.

    Args:
        record: What is known of it.
        now: Seconds since 1970.
    """
    if record.held_by:
        return ReleaseState("auditing now", record.held_by)
    if record.unlisted:
        return ReleaseState("failed", record.unlisted)
    if record.expected is None:
        return _without_spec(record)
    if record.audit is not None and record.audit["audit_id"] == record.expected.audit_id:
        return _audited(record.audit)
    failure = record.failure
    if failure is not None and failure.saw == record.attempt:
        due = failure.retry_at is not None and now >= failure.retry_at
        return ReleaseState("failed", f"{failure.found} ({failure.when})", due)
    if record.audit is None:
        return ReleaseState("never audited", due=True)
    return ReleaseState("stale", stale_reason(record.audit, record.expected), due=True)


def _without_spec(record: ReleaseRecord) -> ReleaseState:
    """The state by what happened last, an audit or a failure."""
    failure, audit = record.failure, record.audit
    if failure is not None and (audit is None or failure.at > audit["created_at"].timestamp()):
        return ReleaseState("failed", failure.found)
    return ReleaseState("never audited") if audit is None else _audited(audit)


def _audited(row: Mapping[str, Any]) -> ReleaseState:
    verdict = str(row["verdict"])
    if verdict == COPYING:
        return ReleaseState("flagged", str(row["sentence"]))
    if verdict == INVALID:
        return ReleaseState("invalid", str(row["invalid_reason"]))
    return ReleaseState("current", verdict)


def stale_reason(row: Mapping[str, Any], expected: ExpectedAudit) -> str:
    """What has changed since an audit; the first of encoder, reference, images, scoring, gate, method.

    Args:
        row: The audit's row of `audits`.
        expected: What the spec asks for now.
    """
    before, now, reference = json.loads(row["settings"]), expected.settings, expected.reference
    facts = reference.facts
    changed = {
        "the encoder": before["encoder"] != now["encoder"],
        "the encoder's weights": facts is not None and row["encoder_digest"] != facts.digest,
        "the reference": before["reference"]["name"] != now["reference"]["name"],  # its sets may move
        "the release's images": row["images_digest"] != expected.images_digest,
        "scoring": before["scoring"] != now["scoring"],
        "the gate": before["gate"] != now["gate"],
        "the reference's images": reference.digest is None or row["reference_digest"] != reference.digest,
    }
    what = next((name for name, is_so in changed.items() if is_so), "layerprint's method or the release's family")
    return f"{what} changed since {row['created_at']:%Y-%m-%d}"
