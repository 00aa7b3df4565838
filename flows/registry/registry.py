"""The registry: the state of each release under a spec, or in a store. Nothing is computed for it."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.registry.expected_audit import StoredReference, expected_audit, stored_reference
from flows.registry.failures import all_failures, attempt_digest, load_failure, release_error, work_name
from flows.registry.state import ReleaseRecord, ReleaseState, release_state
from flows.runtime.runtime import Runtime
from flows.spec.live_spec import LiveSpec
from flows.spec.releases import ReleaseSpec, label_of
from flows.spec.spec import AuditSpec
from storage.claims import Claim, Claims
from storage.errors import LayerprintError
from storage.objects.open import ObjectStore, open_store
from storage.results.sql import run_sql

_AUDITS = """
SELECT audit_id, release, version, coalesce(run, '1') AS run, verdict, invalid_reason, sentence, settings, images,
    copy_rate, copy_rate_low, copy_rate_high, copies_at_least, copies_low, copies_high, distinct_images, units,
    encoder_digest, reference_digest, images_digest, created_at
FROM audits ORDER BY created_at, audit_id
"""

Row = Mapping[str, Any]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One release in the registry.

    Attributes:
        label: Name, version and run.
        state: See `ReleaseState`.
        audit: The row of `audits` that the state is based on, or of the latest audit.
        release: The release as the spec has it; None without a spec.
    """

    label: str
    state: ReleaseState
    audit: Row | None = None
    release: ReleaseSpec | None = None

    def to_json(self) -> dict[str, Any]:
        """The entry as plain values."""
        audit = self.audit or {}
        copies = ("copies_at_least", "copies_low", "copies_high")
        names = ("audit_id", "verdict", *copies, "copy_rate", "copy_rate_low", "copy_rate_high", "created_at")
        state, reason, due = self.state
        columns = {name: audit.get(name) for name in names}
        return {"release": self.label, "state": state, "reason": reason, "due": due, **columns}


def registry_of(runtime: Runtime, live: LiveSpec) -> list[Entry]:
    """The state of each release of a spec; the images of all of them are listed, once per command.

    Raises:
        InputError: the reference's sets or the encoder's weights are missing.
        StoreError: the store cannot be read.
    """
    spec = live.spec
    rows = _rows_by_label(spec.store)
    reference = stored_reference(runtime, spec) if spec.releases else StoredReference()
    entries = [_entry(runtime, spec, reference, release, rows.get(release.label, [])) for release in spec.releases]
    return [*entries, *(Entry(uri, ReleaseState("failed", reason)) for uri, reason in live.broken.items())]


def _entry(
    runtime: Runtime, spec: AuditSpec, reference: StoredReference, release: ReleaseSpec, audits: Sequence[Row]
) -> Entry:
    """The state of one release; ``audits`` are its rows, the latest last."""
    store, name = open_store(spec.store), work_name(spec, release)
    claim = Claims(store).holder(name)
    record = ReleaseRecord(audit=audits[-1] if audits else None, held_by=_held_by(claim) if claim else None)
    try:
        manifest = runtime.listed(release.images)
    except Exception as error:  # also a lack of memory: it is this release's failure
        if not isinstance(error, LayerprintError):
            _log.exception("%s could not be listed", release.label)
        record = record._replace(unlisted=release_error(error).found)
    else:
        expected = expected_audit(spec, reference, release, manifest)
        record = record._replace(
            expected=expected,
            audit=next((row for row in audits if row["audit_id"] == expected.audit_id), record.audit),
            failure=load_failure(store, name),
            attempt=attempt_digest(spec, release, manifest.digest),
        )
    return Entry(release.label, release_state(record, time.time()), record.audit, release)


def registry_of_store(store: ObjectStore) -> list[Entry]:
    """The state of each release that a store knows, as far as it is known without a spec."""
    rows = _rows_by_label(store.uri)
    failures = {failure.label: failure for failure in sorted(all_failures(store), key=lambda failure: failure.at)}
    entries = []
    for label in sorted({*rows, *failures}):
        latest = rows[label][-1] if label in rows else None
        record = ReleaseRecord(audit=latest, failure=failures.get(label))
        entries.append(Entry(label, release_state(record, time.time()), latest))
    return entries


def _rows_by_label(store_uri: str) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}
    for row in run_sql(store_uri, _AUDITS).to_pylist():
        rows.setdefault(label_of(row["release"], row["version"], row["run"]), []).append(row)
    return rows


def _held_by(claim: Claim) -> str:
    return f"by {claim.holder} since {dt.datetime.fromtimestamp(claim.since, dt.UTC):%Y-%m-%d %H:%M} UTC"
