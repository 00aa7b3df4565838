"""The result of an audit: written as Parquet rows, read back as one record."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from actors.scorer import LayerResult
from actors.stages import Scored
from flows.identity import Reference, audit_identity, scoring_digest
from flows.spec import AuditSpec, ReleaseSpec
from scoring.tail import CopyRate
from scoring.verdict import copying_verdict, smallest_detectable_rate
from storage.digest import digest
from storage.objects import ObjectStore
from storage.results import read_result, write_result
from storage.vectors import EmbeddingTable, VectorStore

COPYING, NO_COPYING, NOT_JUDGED = "copying", "no copying seen", "not judged"


@dataclass(frozen=True)
class AuditOutcome:
    """One audit as its Parquet rows say it: the row of `audits`, and the rows of `scores` by layer."""

    audit: dict[str, Any]
    scores: list[dict[str, Any]]

    @property
    def audit_id(self) -> str:
        """The audit's name in all result tables."""
        return str(self.audit["audit_id"])

    @property
    def label(self) -> str:
        """Release and version."""
        return f"{self.audit['release']}@{self.audit['version']}"

    @property
    def verdict(self) -> str:
        """``copying``, ``no copying seen`` or ``not judged``."""
        return str(self.audit["verdict"])

    @property
    def informative(self) -> list[dict[str, Any]]:
        """The score rows that carry information, first layer first."""
        return [row for row in self.scores if row["informative"]]


@dataclass(frozen=True)
class FinishedAudit:
    """Everything that the result rows of one audit are made from."""

    spec: AuditSpec
    release: ReleaseSpec
    reference: Reference
    table: EmbeddingTable
    images_digest: str
    scored: Scored
    seconds: float
    forward_images: int

    @property
    def audit_id(self) -> str:
        """See `audit_identity`."""
        return audit_identity(self.spec, self.release, self.reference, self.table.name)

    @property
    def who(self) -> dict[str, Any]:
        """The columns that every result table begins with."""
        return {"audit_id": self.audit_id, "release": self.release.name, "version": self.release.version}


def load_outcome(store: ObjectStore, audit_id: str) -> AuditOutcome | None:
    """A finished audit, or None. The `audits` row is written last, so what it names is complete."""
    audits = read_result(store, "audits", audit_id).to_pylist()
    if not audits:
        return None
    scores = sorted(read_result(store, "scores", audit_id).to_pylist(), key=lambda row: row["layer"])
    return AuditOutcome(audits[0], scores)


def save_outcome(store: ObjectStore, done: FinishedAudit) -> None:
    """Write all result tables of one audit; `audits` last."""
    tables = {
        "scores": [_score_row(done, result) for result in done.scored.layers.values()],
        "profiles": _profile_rows(done),
        "evidence": _evidence_rows(store, done),
        "rejects": _reject_rows(done),
        "audits": [_audit_row(done)],
    }
    for name, rows in tables.items():
        write_result(store, name, done.audit_id, rows)


def _audit_row(done: FinishedAudit) -> dict[str, Any]:
    spec, reference = done.spec, done.reference
    scores = [result.score for result in done.scored.layers.values()]
    verdict = copying_verdict(scores, spec.gate.max_copy_rate)
    measured = sum(score.copy is not None for score in scores)
    n, m = reference.held_out.rows, done.table.rows
    detectable = smallest_detectable_rate(n, m, measured, spec.gate.max_copy_rate) if measured else None
    judged = COPYING if verdict.copying else NO_COPYING
    settings = spec.model_copy(update={"releases": [done.release]})
    return {
        **done.who,
        "family": done.release.family or "",
        "reference": spec.reference.name,
        "images_uri": done.release.images,
        "encoder_model": spec.encoder.model,
        "encoder_digest": reference.facts.digest,
        "reference_digest": reference.digest,
        "images_digest": done.images_digest,
        "spec_digest": digest(spec=settings.model_dump(mode="json")),
        "preset": spec.scoring.preset,
        "components": spec.scoring.components,
        "cells": spec.scoring.cells,
        "seed": spec.scoring.seed,
        "train_images": reference.train.rows,
        "held_out_images": n,
        "images": m,
        "rejected": len(done.table.rejects),
        "verdict": judged if verdict.layer is not None else NOT_JUDGED,
        "copying_layer": verdict.layer,
        "copy_rate": verdict.rate,
        "copy_rate_low": verdict.low,
        "copy_rate_high": verdict.high,
        "max_copy_rate": spec.gate.max_copy_rate,
        "smallest_detectable_rate": detectable,
        "sentence": verdict.sentence,
        "settings": settings.model_dump_json(),
        "layerprint_version": version("layerprint"),
        "created_at": dt.datetime.now(dt.UTC),
        "seconds": done.seconds,
        "forward_images": done.forward_images,
    }


def _score_row(done: FinishedAudit, result: LayerResult) -> dict[str, Any]:
    score = result.score
    names = ("layer", "informative", "n", "m", "cells", "cells_kept", "c_t", "z_s", "a_hat", "delta", "se",
             "a_low", "a_high", "p_value", "coverage")  # fmt: skip
    return {
        **done.who,
        "layer_name": done.reference.facts.names[score.layer],
        "preset": done.spec.scoring.preset,
        **{name: getattr(score, name) for name in names},
        **_tail_columns(score.copy, score.copy_001),
    }


def _tail_columns(at_01: CopyRate | None, at_001: CopyRate | None) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if at_01 is not None:
        columns |= {"copy_rate": at_01.rate, "copy_rate_low": at_01.low, "copy_rate_high": at_01.high}
        columns |= {"copy_rate_p": at_01.p_value, "copies_below": at_01.k, "tail_alpha": at_01.alpha}
    if at_001 is not None:
        columns |= {
            "copy_rate_001": at_001.rate,
            "copy_rate_001_low": at_001.low,
            "copy_rate_001_high": at_001.high,
        }
    return columns


def _profile_rows(done: FinishedAudit) -> list[dict[str, Any]]:
    profile = done.scored.profile
    if profile is None:
        return []
    return [
        {
            **done.who,
            "family": done.release.family or "",
            "layer": layer,
            "logit_a": float(profile.x[i]),
            "variance": float(profile.covariance[i, i]),
            "covariance": profile.covariance[i].tolist(),
            "m": done.table.rows,
            "n": done.reference.held_out.rows,
            "reference_digest": done.reference.digest,
            "encoder_digest": done.reference.facts.digest,
            "scoring_digest": scoring_digest(done.spec),
        }
        for i, layer in enumerate(done.scored.profile_layers)
    ]


def _evidence_rows(store: ObjectStore, done: FinishedAudit) -> list[dict[str, Any]]:
    vectors = VectorStore(store)
    pairs = [(result.score.layer, pair) for result in done.scored.layers.values() for pair in result.pairs]
    images = vectors.identities(done.table, {pair.image_row for _, pair in pairs})
    train = vectors.identities(done.reference.train, {pair.train_row for _, pair in pairs})
    return [
        {
            **done.who,
            "layer": layer,
            "rank": pair.rank,
            "image_key": images[pair.image_row].key,
            "train_key": train[pair.train_row].key,
            "distance": pair.distance,
            "p_value": pair.p_value,
            "identical": images[pair.image_row].sha256 == train[pair.train_row].sha256,
        }
        for layer, pair in pairs
    ]


def _reject_rows(done: FinishedAudit) -> list[dict[str, Any]]:
    reference = done.spec.reference
    sets = [
        ("train", reference.train, done.reference.train),
        ("held_out", reference.held_out, done.reference.held_out),
        ("release", done.release.images, done.table),
    ]
    return [
        {**done.who, "set_uri": uri, "role": role, **reject} for role, uri, table in sets for reject in table.rejects
    ]
