"""List and check the image sets of a spec before any long work begins."""

from __future__ import annotations

import logging

from actors.encoder.config import EncoderFacts
from actors.stages import embed as embed_stage
from flows.results.identity import OpenedReference, reference_key
from flows.results.input_checks import FileFacts, check_counts, check_held_out, check_same_files, sniff
from flows.results.store_owner import claim_store
from flows.runtime.repairs import repairing
from flows.runtime.runtime import Runtime
from flows.spec.spec import AuditSpec, ReleaseSpec
from flows.tasks import resolve_encoder
from storage.image_sets.file_names import USABLE, counted
from storage.image_sets.manifest import Manifest
from storage.vectors.tables import VectorStore

_log = logging.getLogger(__name__)


@repairing
def open_reference(runtime: Runtime, spec: AuditSpec) -> OpenedReference:
    """List and check the reference's sets and load the encoder once, before anything is embedded.

    Raises:
        InputError: sets that cannot serve as a reference, a store of another reference, an unusable encoder.
    """
    return runtime.opened.get(reference_key(spec), lambda: _open_reference(runtime, spec))


def _open_reference(runtime: Runtime, spec: AuditSpec) -> OpenedReference:
    train = list_set(runtime, spec.reference.train)
    held_out = list_set(runtime, spec.reference.held_out)
    check_counts({"reference.train": train, "reference.held_out": held_out}, spec.scoring.cells)
    check_held_out(train, held_out)
    claim_store(runtime.context(spec).store, spec, train, held_out)
    return OpenedReference(resolve_encoder(runtime, spec), train, held_out)


@repairing
def check_release(runtime: Runtime, spec: AuditSpec, release: ReleaseSpec) -> Manifest:
    """List a release's images and check that they can be compared with the reference.

    Raises:
        InputError: too few images, or files of another kind than the training images.
    """
    return check_images(runtime, spec, release.images, release.label)


def check_images(runtime: Runtime, spec: AuditSpec, uri: str, label: str) -> Manifest:
    """The same for any set of images, called ``label`` in messages."""
    opened = open_reference(runtime, spec)
    manifest = list_set(runtime, uri)
    check_counts({label: manifest}, spec.scoring.cells)
    train, images = (file_facts(runtime, spec, opened.facts, listed) for listed in (opened.train, manifest))
    check_same_files(train, images, label)
    return manifest


def list_set(runtime: Runtime, uri: str) -> Manifest:
    """The manifest of an image set, listed once per command; logs once which files of it are left out."""
    manifest = runtime.listed(uri)
    if manifest.left_out and uri not in runtime.warned:
        runtime.warned.add(uri)
        _log.warning("%s: %s left out; images are %s", uri, counted(manifest.left_out), USABLE)
    return manifest


def file_facts(runtime: Runtime, spec: AuditSpec, facts: EncoderFacts, manifest: Manifest) -> FileFacts:
    """How a set's files are stored: all of them once they are embedded, until then a few that are read now."""
    table = VectorStore(runtime.context(spec).store).committed(embed_stage.table_name(facts, manifest))
    return FileFacts.of(table) if table else sniff(manifest, spec.encoder.jpeg_quality)
