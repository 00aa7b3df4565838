"""The registry of releases: how each stands under a spec, or in a store, told without any work."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flows.registry.expected_audit import KnownReference, known_reference, wanted_audit
from flows.registry.failures import all_failures, load_failure, seen, work_name
from flows.registry.state import ReleaseFacts, Standing, decide
from flows.runtime.runtime import running
from flows.spec.live_spec import Catalogue
from flows.spec.releases import ReleaseSpec, label_of
from flows.spec.spec import AuditSpec
from storage.claims import Claim, Claims
from storage.errors import LayerprintError
from storage.image_sets.open import list_images
from storage.objects.open import ObjectStore, open_store
from storage.results.sql import run_sql

_AUDITS = """
SELECT audit_id, release, version, coalesce(run, '1') AS run, verdict, invalid_reason, sentence, settings, images,
    copy_rate, copy_rate_low, copy_rate_high, encoder_digest, reference_digest, images_digest, created_at
FROM audits ORDER BY created_at, audit_id
"""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """One release in the registry.

    Attributes:
        label: Name, version and run.
        standing: See `Standing`.
        audit: The row of `audits` that the standing rests on, or of the latest audit.
        release: The release as the spec has it; None without a spec.
    """

    label: str
    standing: Standing
    audit: Row | None = None
    release: ReleaseSpec | None = None

    def to_json(self) -> dict[str, Any]:
        """The entry as plain values."""
        audit = self.audit or {}
        names = ("audit_id", "verdict", "copy_rate", "copy_rate_low", "copy_rate_high", "created_at")
        return {"release": self.label, **self.standing._asdict(), **{name: audit.get(name) for name in names}}


def registry_of(catalogue: Catalogue) -> list[Entry]:
    """How each release of a spec stands; the images of all of them are listed.

    Raises:
        InputError: the reference's sets or the encoder's weights are not there.
        StoreError: the store cannot be read.
    """
    spec = catalogue.spec
    rows = _rows_by_label(spec.store)
    with running():
        known = known_reference(spec) if spec.releases else KnownReference(None, None)
        entries = [entry_of(spec, known, release, rows.get(release.label, [])) for release in spec.releases]
    return [*entries, *(Entry(uri, Standing("failed", reason)) for uri, reason in catalogue.broken.items())]


def entry_of(spec: AuditSpec, known: KnownReference, release: ReleaseSpec, rows: Iterable[Row]) -> Entry:
    """How one release stands; ``rows`` are its audits, the latest last."""
    store, name, audits = open_store(spec.store), work_name(spec, release), list(rows)
    claim = Claims(store).holder(name)
    held_by = _held_by(claim) if claim else None
    latest = audits[-1] if audits else None
    try:
        manifest = list_images(release.images)
    except LayerprintError as error:
        facts = ReleaseFacts(found=latest, held_by=held_by, unlisted=error.found)
        return Entry(release.label, decide(facts, time.time()), latest, release)
    wanted = wanted_audit(spec, known, release, manifest)
    found = next((row for row in audits if row["audit_id"] == wanted.audit_id), latest)
    facts = ReleaseFacts(
        wanted=wanted,
        found=found,
        held_by=held_by,
        failure=load_failure(store, name),
        saw=seen(spec, release, manifest.digest),
    )
    return Entry(release.label, decide(facts, time.time()), found, release)


def registry_of_store(store: ObjectStore) -> list[Entry]:
    """How each release that a store knows stands, as far as that can be said without a spec."""
    rows = _rows_by_label(store.uri)
    failures = {failure.label: failure for failure in sorted(all_failures(store), key=lambda one: one.at)}
    entries = []
    for label in sorted({*rows, *failures}):
        latest = rows[label][-1] if label in rows else None
        facts = ReleaseFacts(found=latest, failure=failures.get(label))
        entries.append(Entry(label, decide(facts, time.time()), latest))
    return entries


def _rows_by_label(store_uri: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in run_sql(store_uri, _AUDITS).to_pylist():
        found.setdefault(label_of(row["release"], row["version"], row["run"]), []).append(row)
    return found


def _held_by(claim: Claim) -> str:
    return f"by {claim.holder} since {dt.datetime.fromtimestamp(claim.since, dt.UTC):%Y-%m-%d %H:%M} UTC"
