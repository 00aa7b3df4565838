"""The flows: `build_reference` once per reference × encoder, `audit_release` per release, `audit` for a spec.

Flows own when and what; the stages of `actors` do the work. Every step finds its own output in the store, so a
flow that is run again does only what is missing, and a finished audit runs no forward pass.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prefect import flow

from actors.stages import (
    embed as embed_stage,
)
from flows.inputs import check_release, file_facts, open_reference, reference_key
from flows.orchestration.events import announce
from flows.results.audit_rows import FinishedAudit, save_outcome
from flows.results.identity import Reference, audit_identity
from flows.results.input_checks import check_rejects, check_same_files
from flows.results.outcome import AuditOutcome, load_outcome
from flows.results.profile_rows import save_profile
from flows.runtime.runtime import running
from flows.spec.spec import AuditSpec, ReleaseSpec
from flows.tasks import embed_set, finish_reference, profile_set, score_release, search_set
from storage.errors import LayerprintError, StageError

# -- tasks ---------------------------------------------------------------------------------------------------


# -- checks before the work ------------------------------------------------------------------------------------


# -- flows ---------------------------------------------------------------------------------------------------


@flow(name="build_reference", persist_result=False, validate_parameters=False)
def build_reference(spec: AuditSpec) -> Reference:
    """Embed, partition and index a reference; finds everything when it was built before.

    Raises:
        InputError: sets that cannot serve as a reference.
    """
    with running():
        facts, train_images, held_out_images = open_reference(spec)
        check_same_files(
            file_facts(spec, facts, train_images), file_facts(spec, facts, held_out_images), "reference.held_out"
        )
        train = embed_set(spec, facts, train_images, "train")
        held_out = embed_set(spec, facts, held_out_images, "held-out")
        for table, name in ((train, "reference.train"), (held_out, "reference.held_out")):
            check_rejects(table, name, spec.gate.max_rejected)
        return finish_reference(spec, facts, train, held_out)


def known_reference(spec: AuditSpec) -> Reference:
    """The spec's reference, built at most once per command."""
    with running() as runtime:
        return runtime.once("reference", reference_key(spec), lambda: build_reference(spec))


@flow(name="audit_release", persist_result=False, validate_parameters=False)
def audit_release(spec: AuditSpec, release: ReleaseSpec) -> AuditOutcome:
    """Audit one release against the spec's reference, and write its results.

    Raises:
        InputError: the release's images cannot be audited.
    """
    began = time.monotonic()
    with running() as runtime:
        store = runtime.bench(spec).store
        before = runtime.forward_images
        manifest = check_release(spec, release)
        reference = known_reference(spec)
        audit_id = audit_identity(spec, release, reference, embed_stage.table_name(reference.facts, manifest))
        found = load_outcome(store, audit_id)
        if found is not None:
            return found
        table = embed_set(spec, reference.facts, manifest, release.label)
        check_rejects(table, release.label, spec.gate.max_rejected)
        nearest = search_set(spec, reference, table, release.label)
        scored = score_release(spec, reference, table, nearest, release.label)
        profile = profile_set(spec, reference, table, nearest, release.label)
        profile_id = save_profile(store, spec, release, reference, table, profile)
        seconds, forward = time.monotonic() - began, runtime.forward_images - before
        done = FinishedAudit(
            spec=spec,
            release=release,
            reference=reference,
            table=table,
            images_digest=manifest.digest,
            train_digest=open_reference(spec).train.digest,
            nearest=nearest,
            scored=scored,
            profile_id=profile_id,
            seconds=seconds,
            forward_images=forward,
        )
        save_outcome(store, done)
        outcome = load_outcome(store, audit_id)
        if outcome is None:
            raise StageError(f"audit {audit_id} was written but cannot be read back", "run the audit again")
        announce(store, outcome)
        return outcome


@dataclass(frozen=True)
class AuditReport:
    """What came of an `audit`: outcomes in the order of the spec, and why a release could not be audited."""

    outcomes: list[AuditOutcome]
    failures: dict[str, LayerprintError]


@flow(name="audit", persist_result=False, validate_parameters=False)
def audit(spec: AuditSpec, releases: list[ReleaseSpec] | None = None) -> AuditReport:
    """Audit several releases of a spec (None: all), one after the other.

    All releases are looked at before the long work begins. One that cannot be audited does not stop the others.

    Raises:
        LayerprintError: the reference cannot be built, or no release at all can be audited.
    """
    chosen = releases or spec.releases
    outcomes: list[AuditOutcome] = []
    failures: dict[str, LayerprintError] = {}
    with running():
        open_reference(spec)
        for release in chosen:
            with _collected(failures, release):
                check_release(spec, release)
        for release in chosen:
            if release.label not in failures:
                with _collected(failures, release):
                    outcomes.append(audit_release(spec, release))
    if failures and not outcomes:
        raise next(iter(failures.values()))
    return AuditReport(outcomes, failures)


@contextmanager
def _collected(failures: dict[str, LayerprintError], release: ReleaseSpec) -> Iterator[None]:
    """Keep a release's error for the report, so that the others go on."""
    try:
        yield
    except LayerprintError as error:
        failures[release.label] = error
