"""List and check the image sets of a spec before any long work begins."""

from __future__ import annotations

import logging
from typing import NamedTuple

from actors.encoder.config import EncoderFacts
from actors.stages import (
    embed as embed_stage,
)
from flows.results.input_checks import FileFacts, check_counts, check_held_out, check_same_files, sniff
from flows.results.store_owner import claim_store
from flows.runtime.runtime import Runtime, running
from flows.spec.spec import AuditSpec, ReleaseSpec
from flows.tasks import resolve_encoder
from storage.digest import digest
from storage.image_sets.manifest import Manifest
from storage.image_sets.open import USABLE, counted, list_images
from storage.vectors.tables import VectorStore

_log = logging.getLogger(__name__)


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
    claim_store(runtime.context(spec).store, spec, train, held_out)
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
        vectors = VectorStore(runtime.context(spec).store)
        table = vectors.committed(embed_stage.table_name(facts, manifest))
        return FileFacts.of(table) if table else sniff(manifest, spec.encoder.jpeg_quality)
