"""Events of finished audits for Prefect's automations: ``layerprint.audit.completed``, ``.flagged``, ``.invalid``.

The release is the resource, ``layerprint.release.<name>.<version>.<run>``; the reference and the store are related, and
Prefect adds the flow run. Events go to the configured Prefect server; without one none are sent. A marker in the store
says which audits were announced, so that a sweep announces the others: audits made before there was a server, or by a
process that died. An event's id is derived from its audit: one that is sent twice counts once.
"""

from __future__ import annotations

import uuid
from typing import Any

from prefect.events import emit_event

from flows.orchestration.settings import configured_url
from flows.results.audit_result import COPYING, INVALID, AuditResult
from storage.layout import ANNOUNCED, announced_key
from storage.objects.open import ObjectStore
from storage.results.tables import result_key

PREFIX = "layerprint.audit"
_MOST_TEXT = 500


def announce(store: ObjectStore, outcome: AuditResult) -> None:
    """Emit the events of an audit in the background; a server out of reach stops nothing."""
    if configured_url() is None:
        return
    for kind in kinds(outcome.verdict):
        name = f"{PREFIX}.{kind}"
        emit_event(
            name,
            resource=release_resource(outcome),
            related=_related(store, outcome),
            payload=_payload(store, outcome),
            id=uuid.uuid5(uuid.NAMESPACE_URL, f"{name}/{outcome.audit_id}"),
        )
    store.put_if_absent(announced_key(outcome.audit_id), b"")


def announced(store: ObjectStore) -> set[str]:
    """The audits that were announced."""
    return {info.key.removeprefix(ANNOUNCED) for info in store.list(ANNOUNCED)}


def kinds(verdict: str) -> list[str]:
    """The events of an audit with this verdict.

    >>> kinds("copying"), kinds("no copying seen")
    (['completed', 'flagged'], ['completed'])
    """
    special = {COPYING: "flagged", INVALID: "invalid"}
    return ["completed", *([special[verdict]] if verdict in special else [])]


def release_resource(outcome: AuditResult) -> dict[str, str]:
    """The release as a Prefect resource."""
    audit = outcome.audit
    resource_id = f"layerprint.release.{audit['release']}.{audit['version']}.{audit['run'] or '1'}"
    return {"prefect.resource.id": resource_id[:_MOST_TEXT], "prefect.resource.name": outcome.label[:_MOST_TEXT]}


def _related(store: ObjectStore, outcome: AuditResult) -> list[dict[str, str]]:
    reference = {
        "prefect.resource.id": f"layerprint.reference.{outcome.audit['reference_digest']}",
        "prefect.resource.name": str(outcome.audit["reference"]),
        "prefect.resource.role": "reference",
    }
    return [reference, {"prefect.resource.id": f"layerprint.store.{store.uri}", "prefect.resource.role": "store"}]


def _payload(store: ObjectStore, outcome: AuditResult) -> dict[str, Any]:
    audit = outcome.audit
    numbers: tuple[str, ...] = ("copy_rate", "copy_rate_low", "copy_rate_high", "images")
    if outcome.by_copies:
        numbers = ("copies_at_least", "copies_low", "copies_high", "copies_listed", "distinct_images", *numbers)
    return {
        "release": outcome.label[:_MOST_TEXT],
        "audit_id": outcome.audit_id,
        "verdict": outcome.verdict,
        **{name: audit[name] for name in numbers},
        "sentence": str(audit["invalid_reason"] or audit["sentence"])[:_MOST_TEXT],
        "outcome": store.child_uri(result_key("audits", outcome.audit_id)),
    }
