"""Identity of references, audits and profiles, by digest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from actors.encoder.config import EncoderFacts
from actors.stages.copies import METHOD as COPY_METHOD
from actors.stages.reference import ReferenceTables
from flows.spec.spec import AuditSpec, ReleaseSpec
from scoring.checks.check import Check
from storage.digest import digest, short
from storage.image_sets.manifest import Manifest

METHOD_VERSION = 3
"""Increased when a change of the method changes numbers: audits by different methods are different audits."""


class OpenedReference(NamedTuple):
    """A reference that passed its checks: what the encoder is, and both sets as listed."""

    facts: EncoderFacts
    train: Manifest
    held_out: Manifest


@dataclass(frozen=True)
class Reference:
    """A built reference: the encoder, its tables in the store, and the checks of its held-out images."""

    facts: EncoderFacts
    tables: ReferenceTables
    checks: list[Check]

    @property
    def digest(self) -> str:
        """Profiles are comparable when this (and the scoring digest) is equal.

        The name of the partition includes the search that it was indexed for: distances within cells and among all
        training images are different quantities.
        """
        return reference_digest(self.tables.partition, self.tables.held_out.name)


def reference_key(spec: AuditSpec) -> str:
    """Digest of the fields of a spec that its reference depends on."""
    return digest(**spec.model_dump(mode="json", include={"store", "encoder", "reference", "scoring", "gate"}))


def reference_digest(partition: str, held_out: str) -> str:
    """The digest of a reference from the prefix of its partitions and the name of its held-out table."""
    return digest(partition=partition, held_out=held_out)


def scoring_digest(spec: AuditSpec) -> str:
    """Digest of what decides the scores besides reference and images.

    ``search`` is left out: the search that was used is part of the reference, so ``auto`` equals what it resolved to.
    """
    return digest(method=METHOD_VERSION, **spec.scoring.model_dump(exclude={"search"}))


def audit_identity(spec: AuditSpec, release: ReleaseSpec, reference: Reference, table: str) -> str:
    """The name of an audit: release, images, encoder, reference, scoring and gate decide it."""
    return audit_name(spec, release, reference.digest, table)


def audit_name(spec: AuditSpec, release: ReleaseSpec, reference: str, table: str) -> str:
    """`audit_identity` from the digest of the reference, which is known before anything is computed."""
    settings = spec.copy_settings
    judged_by = {}
    if settings is not None:
        groups = [spec.reference.held_out_groups, release.groups]
        judged_by = {"copies": [COPY_METHOD, settings.layer, *settings.views], "groups": groups}
    code = digest(
        **judged_by,
        release=[release.name, release.version, release.run, release.family],
        images=table,
        reference=[spec.reference.name, reference],
        scoring=scoring_digest(spec),
        gate=spec.gate.model_dump(),
    )
    return short(code)


def profile_identity(spec: AuditSpec, release: ReleaseSpec, reference: Reference, table: str) -> str:
    """The name of a profile: like that of an audit, without the gate."""
    code = digest(
        release=[release.name, release.version, release.run, release.family],
        images=table,
        reference=reference.digest,
        scoring=scoring_digest(spec),
    )
    return short(code)
