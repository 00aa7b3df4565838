"""The flows: `build_reference` once per reference × encoder, `audit_release` per release, `audit` for a spec.

Flows own when and what; the stages of `actors` do the work. Every step finds its own output in the store, so a
flow that is run again does only what is missing, and a finished audit runs no forward pass.
"""

from __future__ import annotations

import time
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from actors import stages
from actors.encoder_config import EncoderFacts
from flows.checks import (
    FileFacts,
    check_counts,
    check_held_out,
    check_rejects,
    check_same_files,
    claim_store,
    sniff,
)
from flows.identity import Reference, audit_identity
from flows.outcome import AuditOutcome, FinishedAudit, load_outcome, save_outcome
from flows.runtime import Runtime, running
from flows.spec import AuditSpec, ReleaseSpec
from scoring.layer_score import PRESETS
from storage.errors import StageError
from storage.image_sets import Manifest, list_images
from storage.vectors import EmbeddingTable


def is_infrastructure_error(_task: Any, _run: Any, state: Any) -> bool:
    """Retry what may pass by itself; never the user's input."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, (StageError, OSError, ConnectionError))


_stage = task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=[2, 10], retry_condition_fn=is_infrastructure_error)


# -- tasks ---------------------------------------------------------------------------------------------------


@_stage
def list_sets(uris: dict[str, str]) -> dict[str, Manifest]:
    """List image sets by name."""
    return {name: list_images(uri) for name, uri in uris.items()}


@_stage
def resolve_encoder(spec: AuditSpec) -> EncoderFacts:
    """Load the encoder once to know what it is."""
    with running() as runtime:
        return stages.resolve_encoder(runtime.bench(spec.store), spec.encoder.config())


@_stage
def embed_set(spec: AuditSpec, facts: EncoderFacts, manifest: Manifest, label: str) -> EmbeddingTable:
    """Embed one image set."""
    with running() as runtime:
        done = stages.embed(
            runtime.bench(spec.store),
            spec.encoder.config(),
            facts,
            manifest,
            runtime.settings.embed_settings(),
            label,
        )
        runtime.forward_images += done.forward_images
        return done.table


@_stage
def partition_train(spec: AuditSpec, facts: EncoderFacts, train: EmbeddingTable) -> str:
    """Fit PCA, cells and index per layer."""
    scoring = spec.scoring
    settings = stages.PartitionSettings(scoring.components, scoring.cells, scoring.seed)
    with running() as runtime:
        return stages.fit_partitions(runtime.bench(spec.store), train, list(facts.dims), settings)


@_stage
def search_set(spec: AuditSpec, facts: EncoderFacts, table: EmbeddingTable, partition: str, label: str) -> str:
    """Find each image's nearest train image per layer."""
    metric = PRESETS[spec.scoring.preset].metric
    with running() as runtime:
        return stages.search(runtime.bench(spec.store), table, list(facts.dims), partition, metric, label)


@_stage
def score_release(
    spec: AuditSpec, reference: Reference, table: EmbeddingTable, nearest: str, label: str
) -> stages.Scored:
    """Score a release in every layer and join its profile."""
    with running() as runtime:
        return stages.score(
            runtime.bench(spec.store),
            reference.layers,
            reference.partition,
            {"held_out": reference.nearest, "release": nearest},
            {"held_out": reference.held_out.rows, "release": table.rows},
            label,
        )


# -- flows ---------------------------------------------------------------------------------------------------


@flow(name="build_reference", persist_result=False, validate_parameters=False)
def build_reference(spec: AuditSpec) -> Reference:
    """Embed, partition and index a reference; finds everything when it was built before.

    Raises:
        InputError: sets that cannot serve as a reference.
    """
    with running() as runtime:
        claim_store(runtime.bench(spec.store).store, spec)
        sets = list_sets({"reference.train": spec.reference.train, "reference.held_out": spec.reference.held_out})
        train_images, held_out_images = sets.values()
        check_counts(sets, spec.scoring.cells)
        check_held_out(train_images, held_out_images)
        facts = resolve_encoder(spec)
        if not _finished(runtime, spec, facts, [train_images, held_out_images]):
            check_same_files(sniff(train_images), sniff(held_out_images), "reference.held_out", tolerance=0.99)
        train = embed_set(spec, facts, train_images, "train")
        held_out = embed_set(spec, facts, held_out_images, "held-out")
        for table, name in ((train, "reference.train"), (held_out, "reference.held_out")):
            check_rejects(table, name, spec.gate.max_rejected)
        check_same_files(FileFacts.of(train), FileFacts.of(held_out), "reference.held_out")
        partition = partition_train(spec, facts, train)
        nearest = search_set(spec, facts, held_out, partition, "held-out")
        return Reference(facts, train, held_out, partition, nearest)


@flow(name="audit_release", persist_result=False, validate_parameters=False)
def audit_release(spec: AuditSpec, release: ReleaseSpec) -> AuditOutcome:
    """Audit one release against the spec's reference, and write its results.

    Raises:
        InputError: the release's images cannot be audited.
    """
    began = time.monotonic()
    with running() as runtime:
        store = runtime.bench(spec.store).store
        before = runtime.forward_images
        reference = build_reference(spec)
        manifest = list_sets({release.label: release.images})[release.label]
        check_counts({release.label: manifest}, spec.scoring.cells)
        name = stages.table_name(reference.facts, manifest)
        audit_id = audit_identity(spec, release, reference, name)
        found = load_outcome(store, audit_id)
        if found is not None:
            return found
        if not _finished(runtime, spec, reference.facts, [manifest]):
            check_same_files(FileFacts.of(reference.train), sniff(manifest), release.label, tolerance=0.99)
        table = embed_set(spec, reference.facts, manifest, release.label)
        check_rejects(table, release.label, spec.gate.max_rejected)
        check_same_files(FileFacts.of(reference.train), FileFacts.of(table), release.label)
        nearest = search_set(spec, reference.facts, table, reference.partition, release.label)
        scored = score_release(spec, reference, table, nearest, release.label)
        seconds, forward = time.monotonic() - began, runtime.forward_images - before
        save_outcome(store, FinishedAudit(spec, release, reference, table, manifest.digest, scored, seconds, forward))
        outcome = load_outcome(store, audit_id)
        if outcome is None:
            raise StageError(f"audit {audit_id} was written but cannot be read back", "run the audit again")
        return outcome


@flow(name="audit", persist_result=False, validate_parameters=False)
def audit(spec: AuditSpec, releases: list[ReleaseSpec] | None = None) -> list[AuditOutcome]:
    """Audit several releases of a spec (None: all), one after the other."""
    with running():
        return [audit_release(spec, release) for release in releases or spec.releases]


def _finished(runtime: Runtime, spec: AuditSpec, facts: EncoderFacts, manifests: list[Manifest]) -> bool:
    """True when all these sets are embedded, so that no file needs to be looked at again."""
    store = runtime.bench(spec.store).store
    return all(store.exists(f"tables/{stages.table_name(facts, manifest)}.json") for manifest in manifests)
