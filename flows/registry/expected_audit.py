"""Which audit a spec asks for now, told from listings and the store alone: nothing is embedded, no cluster starts."""

from __future__ import annotations

from typing import Any, NamedTuple

from actors.encoder.config import EncoderFacts
from actors.stages import embed as embed_stage
from actors.stages.reference import PartitionSettings, partition_prefix, settled_search
from flows.inputs import list_set
from flows.results.identity import audit_name, reference_digest
from flows.runtime.runtime import running
from flows.spec.spec import AuditSpec, ReleaseSpec
from storage.image_sets.manifest import Manifest
from storage.objects.open import open_store
from storage.vectors.tables import VectorStore


class KnownReference(NamedTuple):
    """What is known of a spec's reference: the encoder once it was loaded, the digest once train is embedded."""

    facts: EncoderFacts | None
    digest: str | None


class WantedAudit(NamedTuple):
    """The audit of a release that a spec asks for.

    Attributes:
        audit_id: Its name; None before the reference is embedded.
        images_digest: Of the release's images as they are now.
        reference: See `KnownReference`.
        settings: The spec's fields as JSON, without its releases.
    """

    audit_id: str | None
    images_digest: str
    reference: KnownReference
    settings: dict[str, Any]


def known_reference(spec: AuditSpec) -> KnownReference:
    """What the store knows of a spec's reference; its sets are listed once per command.

    Raises:
        InputError: the sets or the encoder's weights are not there.
    """
    store = open_store(spec.store)
    facts = embed_stage.known_encoder(store, spec.encoder.config())
    if facts is None:
        return KnownReference(None, None)
    with running() as runtime:
        names = [
            embed_stage.table_name(facts, list_set(runtime, uri))
            for uri in (spec.reference.train, spec.reference.held_out)
        ]
    train, held_out = map(VectorStore(store).committed, names)
    if train is None or held_out is None:
        return KnownReference(facts, None)
    scoring = spec.scoring
    mode = settled_search(store, train, held_out, scoring.search, scoring.preset, scoring.components, scoring.cells)
    partition = partition_prefix(train, PartitionSettings(scoring.components, scoring.cells, scoring.seed, mode))
    return KnownReference(facts, reference_digest(partition, names[1]))


def wanted_audit(spec: AuditSpec, reference: KnownReference, release: ReleaseSpec, manifest: Manifest) -> WantedAudit:
    """The audit of a release with these images that the spec asks for."""
    audit_id = None
    if reference.facts is not None and reference.digest is not None:
        table = embed_stage.table_name(reference.facts, manifest)
        audit_id = audit_name(spec, release, reference.digest, table)
    settings = spec.model_dump(mode="json", exclude={"releases", "store"})
    return WantedAudit(audit_id, manifest.digest, reference, settings)
