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
from typing import Any, NamedTuple

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from actors import reference_stages, score_stages, search_stages, stages
from actors.encoder_config import EncoderFacts
from actors.profile_stage import profile as make_profile
from actors.profiler import SetProfile
from flows.checks import (
    FileFacts,
    check_counts,
    check_held_out,
    check_rejects,
    check_same_files,
    claim_store,
    sniff,
)
from flows.events import announce
from flows.identity import Reference, audit_identity
from flows.outcome import AuditOutcome, load_outcome
from flows.profiles import save_profile
from flows.result_rows import FinishedAudit, save_outcome
from flows.runtime import Runtime, running
from flows.spec import AuditSpec, ReleaseSpec
from scoring.cells import MIN_HELD_OUT
from scoring.layer_score import PRESETS
from storage.digest import digest
from storage.errors import InputError, LayerprintError, StageError, may_pass
from storage.image_sets import USABLE, counted, list_images
from storage.manifest import Manifest
from storage.vectors import EmbeddingTable, VectorStore

_log = logging.getLogger(__name__)


def is_retried(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a task that failed is tried again by Prefect."""
    return may_pass(state.result(raise_on_failure=False))


EMBED_TAG = "layerprint-embed"
"""Tag of the tasks that embed, for a concurrency limit of Prefect."""

RETRIED: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "retries": 2,
    "retry_delay_seconds": [2, 10],
    "retry_condition_fn": is_retried,
}
_stage = task(**RETRIED)
_embedding_stage = task(**RETRIED, tags={EMBED_TAG})


# -- tasks ---------------------------------------------------------------------------------------------------


@_stage
def resolve_encoder(spec: AuditSpec) -> EncoderFacts:
    """Load the encoder once to know what it is."""
    with running() as runtime:
        return stages.resolve_encoder(runtime.bench(spec), spec.encoder.config())


@_embedding_stage
def embed_set(spec: AuditSpec, facts: EncoderFacts, manifest: Manifest, label: str) -> EmbeddingTable:
    """Embed one image set."""
    with running() as runtime:
        done = stages.embed(
            runtime.bench(spec),
            spec.encoder.config(),
            facts,
            manifest,
            runtime.embed_settings(spec),
            label,
        )
        runtime.forward_images += done.forward_images
        return done.table


@_stage
def finish_reference(
    spec: AuditSpec, facts: EncoderFacts, train: EmbeddingTable, held_out: EmbeddingTable
) -> Reference:
    """Partition and index train, search the held-out images, list contaminated ones, check the rest."""
    scoring = spec.scoring
    metric = PRESETS[scoring.preset].metric
    with running() as runtime:
        bench = runtime.bench(spec)
        mode = reference_stages.settled_search(
            bench.store, train, held_out, scoring.search, scoring.preset, scoring.components, scoring.cells
        )
        settings = reference_stages.PartitionSettings(scoring.components, scoring.cells, scoring.seed, mode)
        tables = reference_stages.finish_reference(bench, (train, held_out), list(facts.dims), settings, metric)
        if tables.held_out_images < MIN_HELD_OUT:
            raise InputError(
                f"reference.held_out: {tables.contaminated_images} of {held_out.rows} images are (nearly) train "
                f"images, {tables.held_out_images} are left, at least {MIN_HELD_OUT} are needed",
                "give held-out images that were never trained on",
            )
        return Reference(facts, tables, reference_stages.check_reference(bench, tables))


@_stage
def search_set(spec: AuditSpec, reference: Reference, table: EmbeddingTable, label: str) -> str:
    """Find each image's nearest train images per layer."""
    built = reference.tables
    with running() as runtime:
        bench = runtime.bench(spec)
        return search_stages.search(bench, table, built.layers, built.partition, built.metric, built.search, label)


@_stage
def score_release(
    spec: AuditSpec, reference: Reference, table: EmbeddingTable, nearest: str, label: str
) -> score_stages.Scored:
    """Score a release in every layer and join the layers."""
    with running() as runtime:
        return score_stages.score(runtime.bench(spec), reference.tables, table, nearest, label)


@_stage
def profile_set(
    spec: AuditSpec, reference: Reference, table: EmbeddingTable, nearest: str, label: str
) -> SetProfile | None:
    """Make the profile of an image set."""
    with running() as runtime:
        return make_profile(runtime.bench(spec), reference.tables, table, nearest, label)


# -- checks before the work ------------------------------------------------------------------------------------


class OpenedReference(NamedTuple):
    """A reference that passed its checks: what the encoder is, and both sets as listed."""

    facts: EncoderFacts
    train: Manifest
    held_out: Manifest


def open_reference(spec: AuditSpec) -> OpenedReference:
    """List and check the reference's sets and load the encoder once, before anything is embedded.

    Raises:
        InputError: sets that cannot serve as a reference, a store of another reference, an unusable encoder.
    """
    with running() as runtime:
        return runtime.once("opened reference", reference_key(spec), lambda: _open_reference(runtime, spec))


def _open_reference(runtime: Runtime, spec: AuditSpec) -> OpenedReference:
    train = list_set(runtime, spec.reference.train)
    held_out = list_set(runtime, spec.reference.held_out)
    check_counts({"reference.train": train, "reference.held_out": held_out}, spec.scoring.cells)
    check_held_out(train, held_out)
    claim_store(runtime.bench(spec).store, spec, train, held_out)
    return OpenedReference(resolve_encoder(spec), train, held_out)


def reference_key(spec: AuditSpec) -> str:
    """The part of a spec that its reference depends on."""
    return digest(**spec.model_dump(mode="json", include={"store", "encoder", "reference", "scoring", "gate"}))


def check_release(spec: AuditSpec, release: ReleaseSpec) -> Manifest:
    """List a release's images and check that they can be compared with the reference.

    Raises:
        InputError: too few images, or files of another kind than the train images.
    """
    with running() as runtime:
        opened = open_reference(spec)
        manifest = list_set(runtime, release.images)
        check_counts({release.label: manifest}, spec.scoring.cells)
        check_same_files(
            file_facts(spec, opened.facts, opened.train), file_facts(spec, opened.facts, manifest), release.label
        )
        return manifest


def list_set(runtime: Runtime, uri: str) -> Manifest:
    """The manifest of an image set, listed once per command; says which files beside the images are left out."""

    def listed() -> Manifest:
        manifest = list_images(uri)
        if manifest.left_out:
            _log.warning("%s: %s left out; images are %s", uri, counted(manifest.left_out), USABLE)
        return manifest

    return runtime.once("manifest", uri, listed)


def file_facts(spec: AuditSpec, facts: EncoderFacts, manifest: Manifest) -> FileFacts:
    """How a set's files are stored: of all images once they are embedded, else of a few that are looked at now."""
    with running() as runtime:
        vectors = VectorStore(runtime.bench(spec).store)
        table = vectors.committed(stages.table_name(facts, manifest))
        return FileFacts.of(table) if table else sniff(manifest, spec.encoder.jpeg_quality)


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
        audit_id = audit_identity(spec, release, reference, stages.table_name(reference.facts, manifest))
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
        done = FinishedAudit(spec, release, reference, table, manifest.digest, scored, profile_id, seconds, forward)
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
