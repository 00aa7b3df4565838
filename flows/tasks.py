"""The Prefect tasks: each runs one stage of an audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from actors.encoder.config import CopySettings, EncoderFacts
from actors.stages import (
    copies as copy_stage,
    copy_regions as regions_stage,
    embed as embed_stage,
    reference as reference_stage,
    score as score_stage,
    search as search_stage,
)
from actors.stages.processed import Sampler
from actors.stages.profile import profile as make_profile
from actors.workers.copy_region import CopyRegion
from actors.workers.profile import SetProfile
from flows.results.identity import OpenedReference, Reference
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec
from scoring.attribution.background import Background, Shift
from scoring.presets import PRESETS
from scoring.score.cells import MIN_HELD_OUT
from storage.errors import InputError, may_pass
from storage.image_sets.manifest import Manifest
from storage.vectors.tables import EmbeddingTable


def is_retried(_task: Any, _run: Any, state: Any) -> bool:
    """Whether Prefect runs a failed task again."""
    return may_pass(state.result(raise_on_failure=False))


EMBED_TAG = "layerprint-embed"
"""Tag of the tasks that embed, for a concurrency limit of Prefect."""


RETRIED: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 2,
    "retry_delay_seconds": [2, 10],
    "retry_condition_fn": is_retried,
}


_stage = task(**RETRIED)


_embedding_stage = task(**RETRIED, tags={EMBED_TAG})


@_stage
def resolve_encoder(runtime: Runtime, spec: AuditSpec) -> EncoderFacts:
    """Load the encoder once to know what it is."""
    return embed_stage.resolve_encoder(runtime.context(spec), spec.encoder.config())


@_embedding_stage
def embed_set(runtime: Runtime, spec: AuditSpec, facts: EncoderFacts, manifest: Manifest, label: str) -> EmbeddingTable:
    """Embed one image set."""
    done = embed_stage.embed(
        runtime.context(spec),
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
    runtime: Runtime, spec: AuditSpec, facts: EncoderFacts, train: EmbeddingTable, held_out: EmbeddingTable
) -> Reference:
    """Partition and index train, search the held-out images, leave out contaminated ones, check the rest."""
    scoring = spec.scoring
    metric = PRESETS[scoring.preset].metric
    context = runtime.context(spec)
    mode = reference_stage.settled_search(
        context.store, train, held_out, scoring.search, scoring.preset, scoring.components, scoring.cells
    )
    settings = reference_stage.PartitionSettings(scoring.components, scoring.cells, scoring.seed, mode)
    tables = reference_stage.finish_reference(context, (train, held_out), list(facts.dims), settings, metric)
    if tables.held_out_images < MIN_HELD_OUT:
        raise InputError(
            f"reference.held_out: {tables.contaminated_images} of {held_out.rows} images are (nearly) training "
            f"images, {tables.held_out_images} are left, at least {MIN_HELD_OUT} are needed",
            "give held-out images that were never trained on",
        )
    return Reference(facts, tables, reference_stage.check_reference(context, tables))


@_embedding_stage
def copy_reference(
    runtime: Runtime, spec: AuditSpec, opened: OpenedReference, settings: CopySettings
) -> copy_stage.CopyReference:
    """Prepare the copy score: patch tokens of the reference, and the evidence for its images."""
    facts, train, held_out = opened
    encoder = _copy_encoder(runtime, spec, facts)
    groups, seed = spec.reference.held_out_groups, spec.scoring.seed
    return copy_stage.copy_reference(runtime.context(spec), encoder, train, held_out, settings, seed, groups)


@_embedding_stage
def find_copies(
    runtime: Runtime,
    spec: AuditSpec,
    facts: EncoderFacts,
    reference: copy_stage.CopyReference,
    manifest: Manifest,
    label: str,
    groups: str | None = None,
) -> copy_stage.CopiesFound:
    """Score a release's images for copies."""
    encoder = _copy_encoder(runtime, spec, facts)
    return copy_stage.find_release_copies(runtime.context(spec), encoder, reference, manifest, label, groups)


@_stage
def find_regions(
    runtime: Runtime,
    spec: AuditSpec,
    reference: copy_stage.CopyReference,
    copies: copy_stage.CopiesFound,
    places: NDArray[np.int64],
    label: str,
) -> list[CopyRegion]:
    """Find the copied regions of some of a release's images."""
    return regions_stage.copy_regions(runtime.context(spec), reference, copies, places, label)


def _copy_encoder(runtime: Runtime, spec: AuditSpec, facts: EncoderFacts) -> copy_stage.CopyEncoder:
    return copy_stage.CopyEncoder(spec.encoder.config(), facts, runtime.embed_settings(spec))


@_stage
def search_set(runtime: Runtime, spec: AuditSpec, reference: Reference, table: EmbeddingTable, label: str) -> str:
    """Find each image's nearest training images per layer."""
    built = reference.tables
    context = runtime.context(spec)
    return search_stage.search(context, table, built.layers, built.partition, built.metric, built.search, label)


@_stage
def score_release(
    runtime: Runtime, spec: AuditSpec, reference: Reference, table: EmbeddingTable, nearest: str, label: str
) -> score_stage.Scored:
    """Score a release in every layer and join the layers."""
    return score_stage.score(runtime.context(spec), reference.tables, table, nearest, label)


@_embedding_stage
def process_release(
    runtime: Runtime,
    spec: AuditSpec,
    reference: Reference,
    table: EmbeddingTable,
    nearest: str,
    images: Callable[[], Manifest | None],
    label: str,
) -> tuple[Mapping[str, Shift], ...]:
    """Learn how common processings move the embeddings of a release."""
    sampler = _sampler(runtime, spec, reference)
    found = sampler.shifts(table, nearest, images, label)
    runtime.forward_images += sampler.forward_images
    return found


@_embedding_stage
def process_reference(runtime: Runtime, spec: AuditSpec, reference: Reference, held_out: Manifest) -> Background:
    """Learn how content and common processings move the embeddings of real images."""
    sampler = _sampler(runtime, spec, reference)
    found = sampler.background(held_out)
    runtime.forward_images += sampler.forward_images
    return found


def _sampler(runtime: Runtime, spec: AuditSpec, reference: Reference) -> Sampler:
    return Sampler(
        runtime.context(spec), spec.encoder.config(), reference.facts, runtime.embed_settings(spec), reference.tables
    )


@_stage
def profile_set(
    runtime: Runtime, spec: AuditSpec, reference: Reference, table: EmbeddingTable, nearest: str, label: str
) -> SetProfile | None:
    """Make the profile of an image set."""
    return make_profile(runtime.context(spec), reference.tables, table, nearest, label)
