"""A sweep: audit every release of a spec that is new, changed or stale, once, whoever else sweeps at the time.

Each release is audited under a claim (`storage.claims`), so that two sweeps share the work. One that fails is recorded
(`flows.registry.failures`) and does not stop the others. A release that arrives during a sweep waits for the next.

A release may still be uploading. The convention: ``release.yaml`` is written last, and the images of a version do not
change afterwards. Where nobody keeps to it, two cheap fingerprints of names, sizes and ETags guard the audit: that of
the listing, and one just before the audit, at least ``settle_s`` later. If they agree, the listing was complete and is
the state that is audited, so nothing is listed twice. If not, the release waits for the next sweep.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.audit import audit_release, built_reference
from flows.orchestration.events import announce, announced
from flows.registry.expected_audit import StoredReference, expected_audit
from flows.registry.failures import attempt_digest, forget_failure, release_error, save_failure, work_name
from flows.registry.registry import Entry, registry_of
from flows.report.publish import publish
from flows.results.audit_result import COPYING, NO_COPYING, AuditResult, load_audit_result
from flows.results.identity import Reference, reference_key
from flows.runtime.runtime import Runtime
from flows.spec.live_spec import load_live_spec
from flows.spec.spec import AuditSpec, ReleaseSpec
from storage.claims import Claims
from storage.digest import short
from storage.errors import InputError, LayerprintError
from storage.image_sets.fingerprint import fingerprint
from storage.objects.open import open_store

SETTLE_S = 10.0

_log = logging.getLogger(__name__)


@dataclass
class SweepReport:
    """What a sweep did.

    Attributes:
        audited: The audits that it made.
        failures: Releases that cannot be audited, by label or by the URI of their file.
        left: Releases that were left alone, and why.
        current: Verdict of each release that was audited before as the spec asks.
        unpublished: Pictures and reports of audits that could not be made, and why.
    """

    audited: list[AuditResult] = field(default_factory=list)
    failures: dict[str, LayerprintError] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    current: dict[str, str] = field(default_factory=dict)
    unpublished: dict[str, list[str]] = field(default_factory=dict)

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict of every release that has one."""
        return {**self.current, **{outcome.label: outcome.verdict for outcome in self.audited}}

    @property
    def passed(self) -> bool:
        """Whether every release is judged and free of copying."""
        return not self.failures and not self.left and set(self.verdicts.values()) <= {NO_COPYING}

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "sentence": self.sentence,
            "audits": [outcome.to_json() for outcome in self.audited],
            "current": self.current,
            "failures": [
                {"release": label, "error": error.found, "remedy": error.remedy}
                for label, error in self.failures.items()
            ],
            "left": self.left,
            "unpublished": self.unpublished,
        }

    @property
    def sentence(self) -> str:
        """The result in one line."""
        if self.audited:
            flagged = sum(outcome.verdict == COPYING for outcome in self.audited)
            parts = [f"audited {len(self.audited)}" + (f" ({flagged} flagged)" if flagged else "")]
        else:
            parts = ["audited nothing" if self.failures else "nothing to do"]
        counts = {"current": len(self.current), "cannot be audited": len(self.failures), "left": len(self.left)}
        parts += [f"{count} {what}" for what, count in counts.items() if count]
        return ", ".join(parts)


def sweep(runtime: Runtime, spec_uri: str, settle_s: float = SETTLE_S) -> SweepReport:
    """Audit what is due under a spec.

    Args:
        runtime: The runtime of the command.
        spec_uri: Path or ``s3://`` URI of the spec.
        settle_s: A release that changes within so many seconds is left to the next sweep.

    Raises:
        LayerprintError: the spec cannot be used, or its reference cannot be built.
    """
    report = SweepReport()
    live = load_live_spec(spec_uri)
    spec, entries = live.spec, registry_of(runtime, live)
    listed_at = time.monotonic()
    if not any(entry.state.due for entry in entries):
        _note(spec, entries, report)
        return report
    reference = _reference(runtime, spec)
    if reference is None:
        waiting = [entry.label for entry in entries if entry.state.due]
        report.left.update(dict.fromkeys(waiting, "another process builds the reference now"))
        return report
    entries = registry_of(runtime, live)  # only a built reference says which audits it asks for
    _note(spec, entries, report)
    due = [entry.release for entry in entries if entry.state.due and entry.release is not None]
    if due:
        time.sleep(max(0.0, listed_at + settle_s - time.monotonic()))
    for release in due:
        with _reported(release.label, report):
            _audit_claimed(runtime, spec, reference, release, report)
    return report


@flow(name="sweep_releases", persist_result=False, validate_parameters=False)
def sweep_releases(runtime: Runtime, spec: str, settle_s: float = SETTLE_S) -> State[SweepReport]:
    """`sweep` as a flow, whose final state carries the sentence of the report."""
    report = sweep(runtime, spec, settle_s)
    return Completed(message=report.sentence, data=report)


def _reference(runtime: Runtime, spec: AuditSpec) -> Reference | None:
    """The built reference; None while another process builds it."""
    with Claims(open_store(spec.store)).hold(short(reference_key(spec))) as ours:
        return built_reference(runtime, spec) if ours else None


def _note(spec: AuditSpec, entries: list[Entry], report: SweepReport) -> None:
    """Put what is not due into the report, and announce audits that were not announced yet."""
    store = open_store(spec.store)
    done = announced(store)
    for entry in entries:
        state, reason, due = entry.state
        if due:
            continue
        if state == "failed":
            report.failures[entry.label] = InputError(reason, "fix the release: the next sweep checks it again")
        elif state == "auditing now":
            report.left[entry.label] = f"audited now {reason}"
        elif entry.audit is not None:
            report.current[entry.label] = str(entry.audit["verdict"])
            with _reported(entry.label, report):
                audit_id = entry.audit["audit_id"]
                outcome = load_audit_result(store, audit_id) if audit_id not in done else None
                if outcome is not None:
                    announce(store, outcome)


def _audit_claimed(
    runtime: Runtime, spec: AuditSpec, reference: Reference, release: ReleaseSpec, report: SweepReport
) -> None:
    """Audit a release that no other process audits, if it is still as it was listed."""
    store, name = open_store(spec.store), work_name(spec, release)
    manifest = runtime.listed(release.images)
    with Claims(store).hold(name) as ours:
        if not ours:
            report.left[release.label] = "another process audits it now"
            return
        if fingerprint(release.images) != manifest.fingerprint:
            report.left[release.label] = "it changed since it was listed: it may still be uploading"
            return
        with _recorded(runtime, spec, release):
            stored = StoredReference(reference.facts, reference.digest)
            audit_id = expected_audit(spec, stored, release, manifest).audit_id
            earlier = load_audit_result(store, audit_id) if audit_id else None
            if earlier is not None:  # another sweep was faster
                report.current[release.label] = earlier.verdict
                return
            outcome = audit_release(runtime, spec, release)
            report.audited.append(outcome)
            forget_failure(store, name)
            if missing := publish(spec, release, outcome):
                report.unpublished[release.label] = missing


@contextmanager
def _reported(label: str, report: SweepReport) -> Iterator[None]:
    """Put a release's error into the report, so that the others go on; one that nobody expected is logged."""
    try:
        yield
    except Exception as error:  # a lack of memory, a fault of ours: the other releases can be audited
        if not isinstance(error, LayerprintError):
            _log.exception("%s could not be audited", label)
        report.failures[label] = release_error(error)


@contextmanager
def _recorded(runtime: Runtime, spec: AuditSpec, release: ReleaseSpec) -> Iterator[None]:
    """Record in the store why a release could not be audited, for later sweeps and `layerprint releases`."""
    try:
        yield
    except Exception as error:
        try:
            attempt = attempt_digest(spec, release, runtime.listed(release.images).digest)
            save_failure(open_store(spec.store), work_name(spec, release), release.label, error, attempt, time.time())
        except Exception as unsaved:  # the report still names the first error
            _log.warning("the failure of %s could not be recorded: %s", release.label, release_error(unsaved).found)
        raise
