"""What makes two references, or two audits, the same."""

from __future__ import annotations

from dataclasses import dataclass

from actors.encoder_config import EncoderFacts
from flows.spec import AuditSpec, ReleaseSpec
from storage.digest import digest, short
from storage.vectors import EmbeddingTable

METHOD_VERSION = 1
"""Raised when a change of the method changes numbers: audits by different methods are different audits."""


@dataclass(frozen=True)
class Reference:
    """A built reference: its tables, its partition and the nearest distances of its held-out images."""

    facts: EncoderFacts
    train: EmbeddingTable
    held_out: EmbeddingTable
    partition: str
    nearest: str

    @property
    def digest(self) -> str:
        """Profiles are comparable when this (and the scoring digest) is equal."""
        return digest(partition=self.partition, held_out=self.held_out.name)

    @property
    def layers(self) -> list[int]:
        """The layer numbers, first layer first."""
        return list(self.facts.dims)


def scoring_digest(spec: AuditSpec) -> str:
    """What decides the scores besides reference and images."""
    return digest(method=METHOD_VERSION, **spec.scoring.model_dump())


def audit_identity(spec: AuditSpec, release: ReleaseSpec, reference: Reference, table: str) -> str:
    """The name of an audit: release, images, encoder, reference, scoring and gate decide it."""
    code = digest(
        release=[release.name, release.version, release.family],
        images=table,
        reference=[spec.reference.name, reference.digest],
        scoring=scoring_digest(spec),
        gate=spec.gate.model_dump(),
    )
    return short(code)
