"""The audit that a spec asks for now, derived from listings and the store: nothing is embedded, no cluster starts."""

from __future__ import annotations

from typing import Any, NamedTuple

from actors.encoder.config import EncoderFacts
from actors.stages import embed as embed_stage
from actors.stages.reference import PartitionSettings, partition_prefix, settled_search
from flows.results.identity import audit_name, reference_digest
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec, ReleaseSpec
from storage.image_sets.manifest import Manifest
from storage.objects.open import open_store
from storage.seal import unless_broken
from storage.vectors.tables import VectorStore


class StoredReference(NamedTuple):
    """What a store knows of a spec's reference.

    Attributes:
        facts: The encoder, once it was loaded.
        digest: Of the reference, once its sets are embedded.
    """

    facts: EncoderFacts | None = None
    digest: str | None = None


class ExpectedAudit(NamedTuple):
    """The audit of a release that a spec asks for.

    Attributes:
        audit_id: Its name; None before the reference is embedded.
        images_digest: Of the release's images as they are now.
        reference: See `StoredReference`.
        settings: The spec's fields as JSON, without its releases.
    """

    audit_id: str | None
    images_digest: str
    reference: StoredReference
    settings: dict[str, Any]


def stored_reference(runtime: Runtime, spec: AuditSpec) -> StoredReference:
    """What the store knows of a spec's reference; its sets are listed once per command.

    A reference of which a file is broken counts as one that is not built: building it makes the file again.

    Raises:
        InputError: the sets or the encoder's weights are missing.
    """
    known = unless_broken(lambda: _stored_reference(runtime, spec), "the next audit makes it again")
    return StoredReference() if known is None else known


def _stored_reference(runtime: Runtime, spec: AuditSpec) -> StoredReference:
    store = open_store(spec.store)
    facts = embed_stage.known_encoder(store, spec.encoder.config())
    if facts is None:
        return StoredReference()
    sets = (spec.reference.train, spec.reference.held_out)
    names = [embed_stage.table_name(facts, runtime.listed(uri)) for uri in sets]
    train, held_out = map(VectorStore(store).committed, names)
    if train is None or held_out is None:
        return StoredReference(facts)
    scoring = spec.scoring
    mode = settled_search(store, train, held_out, scoring.search, scoring.preset, scoring.components, scoring.cells)
    partition = partition_prefix(train, PartitionSettings(scoring.components, scoring.cells, scoring.seed, mode))
    return StoredReference(facts, reference_digest(partition, names[1]))


def expected_audit(
    spec: AuditSpec, reference: StoredReference, release: ReleaseSpec, manifest: Manifest
) -> ExpectedAudit:
    """The audit of a release with these images that the spec asks for."""
    audit_id = None
    if reference.facts is not None and reference.digest is not None:
        table = embed_stage.table_name(reference.facts, manifest)
        audit_id = audit_name(spec, release, reference.digest, table)
    settings = spec.model_dump(mode="json", exclude={"releases", "store"})
    return ExpectedAudit(audit_id, manifest.digest, reference, settings)
