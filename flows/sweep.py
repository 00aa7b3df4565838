"""A sweep: audit every release of a spec that is new, changed or stale, once, whoever else sweeps at the time.

Each release is audited under a claim (`storage.claims`), so that two sweeps share the work. One that fails is recorded
(`flows.registry.failures`)
and does not stop the others. A release that arrives while the sweep runs is taken by the next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flows.audit import audit_release, known_reference
from flows.inputs import reference_key
from flows.orchestration.events import announce, announced
from flows.registry import expected_audit
from flows.registry.failures import forget_failure, save_failure, seen, work_name
from flows.registry.registry import Entry, registry_of
from flows.registry.upload import look, settled
from flows.report.publish import publish
from flows.results.outcome import COPYING, NO_COPYING, AuditOutcome, load_outcome
from flows.runtime.runtime import running
from flows.spec.live_spec import load_catalogue
from flows.spec.spec import AuditSpec, ReleaseSpec
from storage.claims import Claims
from storage.digest import short
from storage.errors import InputError, LayerprintError
from storage.image_sets.manifest import Manifest
from storage.image_sets.open import list_images
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
        standing: Verdict of each release that was audited before, under the spec as it is.
        unpublished: What could not be made for people of an audit (a picture, the report), and why.
    """

    audited: list[AuditOutcome] = field(default_factory=list)
    failures: dict[str, LayerprintError] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    standing: dict[str, str] = field(default_factory=dict)
    unpublished: dict[str, list[str]] = field(default_factory=dict)

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict of every release that has one."""
        return {**self.standing, **{outcome.label: outcome.verdict for outcome in self.audited}}

    @property
    def passed(self) -> bool:
        """Whether every release is judged and free of copying."""
        return not self.failures and not self.left and set(self.verdicts.values()) <= {NO_COPYING}

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "sentence": self.sentence,
            "audits": [outcome.to_json() for outcome in self.audited],
            "current": self.standing,
            "failures": [
                {"release": label, "error": error.found, "remedy": error.remedy}
                for label, error in self.failures.items()
            ],
            "left": self.left,
            "unpublished": self.unpublished,
        }

    @property
    def sentence(self) -> str:
        """What came of it, in one line."""
        if self.audited:
            flagged = sum(outcome.verdict == COPYING for outcome in self.audited)
            said = [f"audited {len(self.audited)}" + (f" ({flagged} flagged)" if flagged else "")]
        else:
            said = ["audited nothing" if self.failures else "nothing to do"]
        counts = {"current": len(self.standing), "cannot be audited": len(self.failures), "left": len(self.left)}
        said += [f"{count} {what}" for what, count in counts.items() if count]
        return ", ".join(said)


def sweep(spec_uri: str, settle_s: float = SETTLE_S) -> SweepReport:
    """Audit what is due under a spec.

    Args:
        spec_uri: Path or ``s3://`` URI of the spec.
        settle_s: A release must not change for so long before it is audited.

    Raises:
        LayerprintError: the spec cannot be used, or its reference cannot be built.
    """
    report = SweepReport()
    with running():
        catalogue = load_catalogue(spec_uri)
        spec, entries = catalogue.spec, registry_of(catalogue)
        if any(entry.standing.due for entry in entries):
            if not _reference_built(spec, entries, report):
                return report
            entries = registry_of(catalogue)  # only a built reference says which audits it asks for
        _note(spec, entries, report)
        due = [entry.release for entry in entries if entry.standing.due and entry.release is not None]
        calm = settled([release.images for release in due], settle_s)
        for release in due:
            if release.images in calm:
                _audit_claimed(spec, release, calm[release.images], report)
            else:
                report.left[release.label] = f"it changed within {settle_s:g} s: it is still being uploaded"
    return report


def _reference_built(spec: AuditSpec, entries: list[Entry], report: SweepReport) -> bool:
    """Build the reference, unless another process is at it; then all that is due is left alone."""
    with Claims(open_store(spec.store)).hold(short(reference_key(spec))) as mine:
        if mine:
            known_reference(spec)
            return True
    due = [entry.label for entry in entries if entry.standing.due]
    report.left.update(dict.fromkeys(due, "another process builds the reference now"))
    return False


def _note(spec: AuditSpec, entries: list[Entry], report: SweepReport) -> None:
    """Put what is not due into the report, and announce audits of which nobody was told."""
    store = open_store(spec.store)
    told = announced(store)
    for entry in entries:
        state, reason = entry.standing.state, entry.standing.reason
        if entry.standing.due:
            continue
        if state == "failed":
            report.failures[entry.label] = InputError(reason, "mend the release: the next sweep looks at it again")
        elif state == "auditing now":
            report.left[entry.label] = f"audited now {reason}"
        elif entry.audit is not None:
            report.standing[entry.label] = str(entry.audit["verdict"])
            outcome = load_outcome(store, entry.audit["audit_id"]) if entry.audit["audit_id"] not in told else None
            if outcome is not None:
                announce(store, outcome)


def _audit_claimed(spec: AuditSpec, release: ReleaseSpec, calm: str, report: SweepReport) -> None:
    """Audit a release that no other process audits, if it is as it was seen."""
    store, name = open_store(spec.store), work_name(spec, release)
    with Claims(store).hold(name) as mine:
        if not mine:
            report.left[release.label] = "another process audits it now"
            return
        if look(release.images) != calm:
            report.left[release.label] = "it changed during the sweep"
            return
        try:
            manifest = list_images(release.images)
        except LayerprintError as error:
            report.failures[release.label] = error
            return
        with _recorded(spec, release, manifest, report):
            asked = expected_audit.wanted_audit(spec, expected_audit.known_reference(spec), release, manifest).audit_id
            found = load_outcome(store, asked) if asked else None
            if found is not None:  # another sweep was faster
                report.standing[release.label] = found.verdict
                return
            outcome = audit_release(spec, release)
            report.audited.append(outcome)
            forget_failure(store, name)
            if missing := publish(spec, release, outcome):
                report.unpublished[release.label] = missing


@contextmanager
def _recorded(spec: AuditSpec, release: ReleaseSpec, manifest: Manifest, report: SweepReport) -> Iterator[None]:
    """Record why a release could not be audited, so that the others go on."""
    try:
        yield
    except Exception as error:  # a fault of ours must not stop the other releases either
        if not isinstance(error, LayerprintError):
            _log.exception("%s could not be audited", release.label)
        store, name = open_store(spec.store), work_name(spec, release)
        saw = seen(spec, release, manifest.digest)
        report.failures[release.label] = save_failure(store, name, release.label, error, saw, time.time()).error()
