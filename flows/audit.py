"""The flows: `build_reference` once per reference × encoder, `audit_release` per release, `audit` for a spec.

Flows own when and what; the stages of `actors` do the work. Every step finds its own output in the store, so a
flow that is run again does only what is missing, and a finished audit runs no forward pass.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prefect import flow

from actors.stages import embed as embed_stage
from actors.stages.copies import CopyReference
from actors.workers.copy_region import CopyRegion
from flows.inputs import check_release, file_facts, open_reference
from flows.orchestration.events import announce
from flows.registry.failures import release_error
from flows.results.audit_result import AuditResult, load_audit_result, load_whole_audit
from flows.results.audit_rows import FinishedAudit, save_audit_result
from flows.results.identity import Reference, audit_identity, reference_key
from flows.results.input_checks import check_rejects, check_same_files
from flows.results.profile_rows import save_profile
from flows.runtime.repairs import repairing
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec, ReleaseSpec
from flows.tasks import (
    copy_reference,
    embed_set,
    find_copies,
    find_regions,
    finish_reference,
    profile_set,
    score_release,
    search_set,
)
from storage.errors import LayerprintError, StageError

_log = logging.getLogger(__name__)


@flow(name="build_reference", persist_result=False, validate_parameters=False)
@repairing
def build_reference(runtime: Runtime, spec: AuditSpec) -> Reference:
    """Embed, partition and index a reference; what was built before is found.

    Raises:
        InputError: sets that cannot serve as a reference.
    """
    facts, train_images, held_out_images = open_reference(runtime, spec)
    of_train, of_held_out = (file_facts(runtime, spec, facts, images) for images in (train_images, held_out_images))
    check_same_files(of_train, of_held_out, "reference.held_out")
    train = embed_set(runtime, spec, facts, train_images, "train")
    held_out = embed_set(runtime, spec, facts, held_out_images, "held-out")
    for table, name in ((train, "reference.train"), (held_out, "reference.held_out")):
        check_rejects(table, name, spec.gate.max_rejected)
    return finish_reference(runtime, spec, facts, train, held_out)


def built_reference(runtime: Runtime, spec: AuditSpec) -> Reference:
    """The spec's reference, built at most once per command."""
    return runtime.references.get(reference_key(spec), lambda: build_reference(runtime, spec))


@flow(name="prepare_reference", persist_result=False, validate_parameters=False)
def prepare_reference(runtime: Runtime, spec: AuditSpec) -> Reference:
    """Build all that audits compare releases with.

    Raises:
        InputError: sets that cannot serve as a reference.
    """
    reference = built_reference(runtime, spec)
    built_copy_reference(runtime, spec)
    return reference


def built_copy_reference(runtime: Runtime, spec: AuditSpec) -> CopyReference | None:
    """What releases are compared with for copies, built at most once per command; None where the copy score is off."""
    settings = spec.copy_settings
    if settings is None:
        return None
    key = f"{reference_key(spec)} {settings}"
    return runtime.copy_references.get(
        key, lambda: copy_reference(runtime, spec, open_reference(runtime, spec), settings)
    )


@flow(name="audit_release", persist_result=False, validate_parameters=False)
@repairing
def audit_release(runtime: Runtime, spec: AuditSpec, release: ReleaseSpec) -> AuditResult:
    """Audit one release against the spec's reference, and write its results.

    Raises:
        InputError: the release's images cannot be audited.
    """
    began, before = time.monotonic(), runtime.forward_images
    store = runtime.context(spec).store
    manifest = check_release(runtime, spec, release)
    reference = built_reference(runtime, spec)
    audit_id = audit_identity(spec, release, reference, embed_stage.table_name(reference.facts, manifest))
    earlier = load_whole_audit(store, audit_id)
    if earlier is not None:
        return earlier
    table = embed_set(runtime, spec, reference.facts, manifest, release.label)
    check_rejects(table, release.label, spec.gate.max_rejected)
    nearest = search_set(runtime, spec, reference, table, release.label)
    scored = score_release(runtime, spec, reference, table, nearest, release.label)
    compared = built_copy_reference(runtime, spec)
    copies = None
    if compared is not None:
        copies = find_copies(runtime, spec, reference.facts, compared, manifest, release.label, release.groups)
    profile = profile_set(runtime, spec, reference, table, nearest, release.label)
    profile_id = save_profile(store, spec, release, reference, table, profile)
    seconds, forward = time.monotonic() - began, runtime.forward_images - before
    done = FinishedAudit(
        spec=spec,
        release=release,
        reference=reference,
        table=table,
        images_digest=manifest.digest,
        train_digest=open_reference(runtime, spec).train.digest,
        nearest=nearest,
        scored=scored,
        copies=copies,
        profile_id=profile_id,
        seconds=seconds,
        forward_images=forward,
    )
    regions: list[CopyRegion] = []
    if compared is not None and copies is not None:
        regions = find_regions(runtime, spec, compared, copies, done.shown, release.label)
    save_audit_result(store, done, regions)
    outcome = load_audit_result(store, audit_id)
    if outcome is None:
        raise StageError(f"audit {audit_id} was written but cannot be read back", "run the audit again")
    announce(store, outcome)
    return outcome


@dataclass(frozen=True)
class AuditReport:
    """The result of an `audit`: outcomes in the order of the spec, and why a release could not be audited."""

    outcomes: list[AuditResult]
    failures: dict[str, LayerprintError]


@flow(name="audit", persist_result=False, validate_parameters=False)
def audit(runtime: Runtime, spec: AuditSpec, releases: list[ReleaseSpec] | None = None) -> AuditReport:
    """Audit several releases of a spec (None: all), one after the other.

    All releases are checked before the long work begins. One that cannot be audited does not stop the others.

    Raises:
        LayerprintError: the reference cannot be built, or no release at all can be audited.
    """
    chosen = releases or spec.releases
    outcomes: list[AuditResult] = []
    failures: dict[str, LayerprintError] = {}
    open_reference(runtime, spec)
    for release in chosen:
        with _collected(failures, release):
            check_release(runtime, spec, release)
    for release in chosen:
        if release.label not in failures:
            with _collected(failures, release):
                outcomes.append(audit_release(runtime, spec, release))
    if failures and not outcomes:
        raise next(iter(failures.values()))
    return AuditReport(outcomes, failures)


@contextmanager
def _collected(failures: dict[str, LayerprintError], release: ReleaseSpec) -> Iterator[None]:
    """Keep a release's error for the report, so that the others go on; one that nobody expected is logged."""
    try:
        yield
    except Exception as error:  # a lack of memory, a fault of ours: the other releases can be audited
        if not isinstance(error, LayerprintError):
            _log.exception("%s could not be audited", release.label)
        failures[release.label] = release_error(error)
