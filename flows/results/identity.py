"""What makes two references, or two audits, the same."""

from __future__ import annotations

from dataclasses import dataclass

from actors.encoder.config import EncoderFacts
from actors.stages.reference import ReferenceTables
from flows.spec.spec import AuditSpec, ReleaseSpec
from scoring.checks.check import Check
from storage.digest import digest, short

METHOD_VERSION = 3
"""Raised when a change of the method changes numbers: audits by different methods are different audits."""


@dataclass(frozen=True)
class Reference:
    """A built reference: the encoder, its tables in the store, and whether it can serve."""

    facts: EncoderFacts
    tables: ReferenceTables
    checks: list[Check]

    @property
    def digest(self) -> str:
        """Profiles are comparable when this (and the scoring digest) is equal.

        The name of the partition says for which search it was indexed: distances within cells and among all train
        images are different quantities.
        """
        return reference_digest(self.tables.partition, self.tables.held_out.name)


def reference_digest(partition: str, held_out: str) -> str:
    """The digest of a reference from the prefix of its partitions and the name of its held-out table."""
    return digest(partition=partition, held_out=held_out)


def scoring_digest(spec: AuditSpec) -> str:
    """What decides the scores besides reference and images.

    ``search`` is left out: what it came to is part of the reference, so ``auto`` and what it stands for are the same.
    """
    return digest(method=METHOD_VERSION, **spec.scoring.model_dump(exclude={"search"}))


def audit_identity(spec: AuditSpec, release: ReleaseSpec, reference: Reference, table: str) -> str:
    """The name of an audit: release, images, encoder, reference, scoring and gate decide it."""
    return audit_name(spec, release, reference.digest, table)


def audit_name(spec: AuditSpec, release: ReleaseSpec, reference: str, table: str) -> str:
    """The same from the digest of the reference alone, which can be known before anything is computed."""
    code = digest(
        release=[release.name, release.version, release.run, release.family],
        images=table,
        reference=[spec.reference.name, reference],
        scoring=scoring_digest(spec),
        gate=spec.gate.model_dump(),
    )
    return short(code)


def profile_identity(spec: AuditSpec, release: ReleaseSpec, reference: Reference, table: str) -> str:
    """The name of a profile: as that of an audit, but for the gate."""
    code = digest(
        release=[release.name, release.version, release.run, release.family],
        images=table,
        reference=reference.digest,
        scoring=scoring_digest(spec),
    )
    return short(code)
