"""How a release stands: the decision, as a pure function of what the store says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from flows.registry.expected_audit import WantedAudit
from flows.registry.failures import Failure
from flows.results.outcome import COPYING, INVALID

State = Literal["never audited", "current", "stale", "flagged", "invalid", "failed", "auditing now"]


class ReleaseFacts(NamedTuple):
    """What is known of one release.

    Attributes:
        wanted: The audit that the spec asks for; None without a spec, or when the images cannot be listed.
        found: The row of `audits`: of the wanted audit, else of the release's latest; None when there is none.
        held_by: Who is auditing it now.
        failure: Why it could not be audited last.
        saw: Digest of what an attempt would work on now, see `failures.seen`.
        unlisted: Why its images cannot be listed.
    """

    wanted: WantedAudit | None = None
    found: Mapping[str, Any] | None = None
    held_by: str | None = None
    failure: Failure | None = None
    saw: str | None = None
    unlisted: str | None = None


class Standing(NamedTuple):
    """How a release stands, why, and whether the next sweep audits it."""

    state: State
    reason: str = ""
    due: bool = False


def decide(facts: ReleaseFacts, now: float) -> Standing:
    """How a release stands.

    Args:
        facts: What is known of it.
        now: Seconds since 1970.
    """
    if facts.held_by:
        return Standing("auditing now", facts.held_by)
    if facts.unlisted:
        return Standing("failed", facts.unlisted)
    if facts.wanted is None:
        return _without_spec(facts)
    if facts.found is not None and facts.found["audit_id"] == facts.wanted.audit_id:
        return _audited(facts.found)
    failure = facts.failure
    if failure is not None and failure.saw == facts.saw:
        due = failure.retry_at is not None and now >= failure.retry_at
        return Standing("failed", f"{failure.found} ({failure.when})", due)
    if facts.found is None:
        return Standing("never audited", due=True)
    return Standing("stale", stale_reason(facts.found, facts.wanted), due=True)


def _without_spec(facts: ReleaseFacts) -> Standing:
    """The latest of what happened, an audit or a failure."""
    failed, found = facts.failure, facts.found
    if failed is not None and (found is None or failed.at > found["created_at"].timestamp()):
        return Standing("failed", failed.found)
    return Standing("never audited") if found is None else _audited(found)


def _audited(row: Mapping[str, Any]) -> Standing:
    verdict = str(row["verdict"])
    if verdict == COPYING:
        return Standing("flagged", str(row["sentence"]))
    if verdict == INVALID:
        return Standing("invalid", str(row["invalid_reason"]))
    return Standing("current", verdict)


def stale_reason(row: Mapping[str, Any], wanted: WantedAudit) -> str:
    """What has changed since an audit, the first of: encoder, reference, images, scoring, gate, method.

    Args:
        row: The audit's row of `audits`.
        wanted: What is asked for now.
    """
    before, now, reference = json.loads(row["settings"]), wanted.settings, wanted.reference
    facts = reference.facts
    changed = {
        "the encoder": before["encoder"] != now["encoder"],
        "the encoder's weights": facts is not None and row["encoder_digest"] != facts.digest,
        "the reference": _of_reference(before, now),
        "the release's images": row["images_digest"] != wanted.images_digest,
        "scoring": before["scoring"] != now["scoring"],
        "the gate": before["gate"] != now["gate"],
        "the reference's images": reference.digest is None or row["reference_digest"] != reference.digest,
    }
    what = next((name for name, is_so in changed.items() if is_so), "layerprint's method or the release's family")
    return f"{what} changed since {row['created_at']:%Y-%m-%d}"


def _of_reference(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether another reference is named; that its sets were moved does not matter."""
    return bool(before["reference"]["name"] != now["reference"]["name"])
