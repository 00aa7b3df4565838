"""The Parquet rows of a finished audit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.stages.copies import CopiesFound
from actors.stages.score import Scored
from actors.workers.copy_region import CopyRegion
from actors.workers.release_tests import Joined
from actors.workers.score import IndexSearch, LayerResult
from flows.results.audit_result import COPYING, INCONCLUSIVE, INVALID, NO_COPYING, NOT_JUDGED
from flows.results.copies_rows import copies_columns, copies_rows, judge_copies, repetition, shown_copies
from flows.results.identity import Reference, audit_identity
from flows.results.input_checks import FileFacts, parity_checks
from flows.results.region_columns import region_columns
from flows.spec.spec import AuditSpec, ReleaseSpec
from scoring.checks.check import Check, failed, invalidity
from scoring.checks.contamination import contamination_check
from scoring.checks.copies_power import copies_power_check
from scoring.checks.power import power_check
from scoring.checks.repetition import repetition_check
from scoring.checks.search_error import search_check
from scoring.score.authenticity import Authenticity
from scoring.score.copy_rate import CopyRate
from scoring.score.effect import Effect
from scoring.verdict.copies import CopiesVerdict, copies_verdict
from scoring.verdict.copying import CopyingVerdict, FitVerdict, copying_verdict, fit_verdict
from storage.digest import digest
from storage.objects.open import ObjectStore
from storage.results.tables import write_result
from storage.vectors.tables import EmbeddingTable, VectorStore


@dataclass(frozen=True)
class FinishedAudit:
    """Everything that the result rows of one audit are made from."""

    spec: AuditSpec
    release: ReleaseSpec
    reference: Reference
    table: EmbeddingTable
    images_digest: str
    train_digest: str
    nearest: str
    scored: Scored
    profile_id: str | None
    seconds: float
    forward_images: int
    copies: CopiesFound | None = None

    @cached_property
    def audit_id(self) -> str:
        """See `audit_identity`."""
        return audit_identity(self.spec, self.release, self.reference, self.table.name)

    @cached_property
    def p_adjusted(self) -> dict[int, float]:
        """P of each informative layer, adjusted for all layers (step-down maximum test)."""
        joined = self.scored.joined
        return {} if joined is None else dict(zip(self.scored.informative, joined.permutation.p_adjusted, strict=True))

    @cached_property
    def checks(self) -> list[Check]:
        """What must hold for the audit to be valid, each a named row of the result."""
        tables = self.reference.tables
        train = FileFacts.of(tables.train)
        leaks = None if self.copies is None else int(self.copies.leaks.sum())
        return [
            *self.reference.checks,
            contamination_check(tables.contaminated_images, tables.held_out.rows, leaks),
            *parity_checks(train, FileFacts.of(tables.held_out), "held-out"),
            *parity_checks(train, FileFacts.of(self.table), "release"),
            *([] if self.copies is None else [repetition_check(*repetition(self.copies))]),
            search_check({k: one.search.error for k, one in self.scored.layers.items() if one.search}),
            self._power,
        ]

    @property
    def _power(self) -> Check:
        gate = self.spec.gate
        if self.copies_verdict is not None:
            n, m = self.copies_verdict.counts.n, self.copies_verdict.counts.m
            return copies_power_check(n, m, gate.max_copy_rate, wanted=gate.detectable_copy_rate)
        n, m = self.reference.tables.held_out_images, self.table.rows
        measured = sum(result.score.copy is not None for result in self.scored.layers.values())
        return power_check(n, m, measured, gate.max_copy_rate, wanted=gate.detectable_copy_rate)

    @cached_property
    def copies_verdict(self) -> CopiesVerdict | None:
        """The verdict of the copy scores; None where the layers' tails decide."""
        if self.copies is None:
            return None
        gate = self.spec.gate
        return copies_verdict(
            self.copies.held_out.scores,
            self.copies.generated.scores,
            max_copy_rate=gate.max_copy_rate,
            detectable=gate.detectable_copy_rate,
            units=self.copies.units,
        )

    @cached_property
    def shown(self) -> NDArray[np.int64]:
        """Places of the images that are rows of `copies`, the strongest first."""
        if self.copies is None or self.copies_verdict is None:
            return np.empty(0, np.int64)
        return shown_copies(self.copies, self.copies_verdict)

    @cached_property
    def fit(self) -> FitVerdict:
        """Whether the release is as far from the training images as unseen real images are."""
        joined = self.scored.joined
        scores = [result.score for result in self.scored.layers.values()]
        return fit_verdict(scores, joined and joined.permutation, joined and joined.frechet)

    @cached_property
    def who(self) -> dict[str, Any]:
        """The columns that every result table begins with."""
        return {"audit_id": self.audit_id, "release": self.release.name, "version": self.release.version}


def save_audit_result(store: ObjectStore, done: FinishedAudit, regions: Sequence[CopyRegion] = ()) -> None:
    """Write all result tables of one audit; `audits` last.

    Args:
        store: The store of the audits.
        done: The audit.
        regions: The copied regions of the images in ``done.shown``; none where they are not known.
    """
    tables = {
        "scores": [_score_row(done, result) for result in done.scored.layers.values()],
        "evidence": _evidence_rows(store, done),
        "checks": [{**done.who, **asdict(check)} for check in done.checks],
        "rejects": _reject_rows(done),
    }
    if done.copies is not None and done.copies_verdict is not None:
        train = done.reference.tables.train
        rows = copies_rows(store, done.who, done.copies, done.copies_verdict, done.shown, (done.table, train))
        for row, region in zip(rows, regions, strict=bool(regions)):
            row |= region_columns(region, done.reference.facts.image_size)
        tables["copies"] = rows
    tables["audits"] = [_audit_row(done)]
    for name, rows in tables.items():
        write_result(store, name, done.audit_id, rows)


def judge(verdict: CopyingVerdict, checks: Sequence[Check]) -> str:
    """The copying verdict: invalid when a check failed, inconclusive when nothing was seen with too little power."""
    if failed(checks, "invalid"):
        return INVALID
    if verdict.layer is None:
        return NOT_JUDGED
    if verdict.copying:
        return COPYING
    return INCONCLUSIVE if failed(checks, "inconclusive") else NO_COPYING


def _audit_row(done: FinishedAudit) -> dict[str, Any]:
    spec, reference = done.spec, done.reference
    scores = [result.score for result in done.scored.layers.values()]
    verdict = copying_verdict(scores, spec.gate.max_copy_rate)
    checks = done.checks
    judged, decided = judge(verdict, checks), {"sentence": verdict.sentence}
    if done.copies is not None and done.copies_verdict is not None:
        judged, sentence = judge_copies(done.copies_verdict, checks, done.fit.verdict)
        decided = copies_columns(done.copies, done.copies_verdict, sentence, done.table.rows)
    settings = spec.model_copy(update={"releases": [done.release], "cluster": None})
    return {
        **done.who,
        **_fit_columns(done.fit, done.scored.joined),
        "family": done.release.family or "",
        "reference": spec.reference.name,
        "images_uri": done.release.images,
        "encoder_model": spec.encoder.model,
        "encoder_digest": reference.facts.digest,
        "reference_digest": reference.digest,
        "images_digest": done.images_digest,
        "train_digest": done.train_digest,
        "train_table": reference.tables.train.name,
        "held_out_table": reference.tables.held_out.name,
        "partition": reference.tables.partition,
        "nearest": done.nearest,
        "spec_digest": digest(spec=settings.model_dump(mode="json")),
        "preset": spec.scoring.preset,
        "search": reference.tables.search,
        "components": spec.scoring.components,
        "cells": spec.scoring.cells,
        "seed": spec.scoring.seed,
        "train_images": reference.tables.train.rows,
        "held_out_images": reference.tables.held_out_images,
        "contaminated": reference.tables.contaminated_images,
        "images": done.table.rows,
        "rejected": len(done.table.rejects),
        "verdict": judged,
        "invalid_reason": (invalidity(checks, saw_something=judged == COPYING) or "").removeprefix("invalid: "),
        "copying_layer": verdict.layer,
        "copy_rate": verdict.rate,
        "copy_rate_low": verdict.low,
        "copy_rate_high": verdict.high,
        "max_copy_rate": spec.gate.max_copy_rate,
        "smallest_detectable_rate": next(check.value for check in checks if check.name == "power"),
        **decided,
        "settings": settings.model_dump_json(),
        "layerprint_version": version("layerprint"),
        "run": done.release.run,
        "profile_id": done.profile_id,
        "created_at": dt.datetime.now(dt.UTC),
        "seconds": done.seconds,
        "forward_images": done.forward_images,
    }


def _fit_columns(fit: FitVerdict, joined: Joined | None) -> dict[str, Any]:
    columns = {"fit_verdict": fit.verdict, "fit_sentence": fit.sentence, "fit_layer": fit.layer, "fit_p": fit.p}
    if joined is None:
        return columns
    frechet = joined.frechet
    return columns | {
        "frechet": frechet.distance,
        "frechet_low": frechet.low,
        "frechet_high": frechet.high,
        "frechet_baseline": frechet.baseline,
    }


def _score_row(done: FinishedAudit, result: LayerResult) -> dict[str, Any]:
    score = result.score
    names = ("layer", "informative", "n", "m", "cells", "cells_kept", "c_t")
    return {
        **done.who,
        "layer_name": done.reference.facts.names[score.layer],
        "preset": done.spec.scoring.preset,
        **{name: getattr(score, name) for name in names},
        **_effect_columns(score.effect),
        **_tail_columns(score.copy, score.copy_001),
        "p_adjusted": done.p_adjusted.get(score.layer),
        "discoveries": result.discoveries,
        "near_duplicates": result.near_duplicates,
        **_authentic_columns(result.authentic),
        **_search_columns(result.search),
    }


def _effect_columns(effect: Effect | None) -> dict[str, Any]:
    if effect is None:
        return {}
    columns = asdict(effect)
    return columns | {"a_low": columns.pop("low"), "a_high": columns.pop("high")}


def _search_columns(found: IndexSearch | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {
        "index_table": found.index_table,
        "index_version": found.index_version,
        "probes_held_out": found.held_out_probes,
        "probes": found.release_probes,
        "recall_held_out": found.error.held_out.rate,
        "recall": found.error.release.rate,
        "search_bound": found.error.bound,
    }


def _authentic_columns(found: Authenticity | None) -> dict[str, Any]:
    if found is None:
        return {}
    release = found.release
    ends = {"authentic_low": release.low, "authentic_high": release.high}
    return {"authentic": release.rate, **ends, "authentic_held_out": found.held_out.rate}


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


def _evidence_rows(store: ObjectStore, done: FinishedAudit) -> list[dict[str, Any]]:
    vectors = VectorStore(store)
    pairs = [(result.score.layer, pair) for result in done.scored.layers.values() for pair in result.pairs]
    images = vectors.identities(done.table, {pair.image_row for _, pair in pairs})
    train = vectors.identities(done.reference.tables.train, {pair.train_row for _, pair in pairs})
    return [
        {
            **done.who,
            "layer": layer,
            "rank": pair.rank,
            "image_key": images[pair.image_row].key,
            "train_key": train[pair.train_row].key,
            "distance": pair.distance,
            "p_value": pair.p_value,
            "ratio": pair.ratio,
            "ratio_p": pair.ratio_p,
            "near_duplicate": pair.near_duplicate,
            "discovery": pair.discovery,
            "identical": images[pair.image_row].sha256 == train[pair.train_row].sha256,
        }
        for layer, pair in pairs
    ]


def _reject_rows(done: FinishedAudit) -> list[dict[str, Any]]:
    reference = done.spec.reference
    sets = [
        ("train", reference.train, done.reference.tables.train),
        ("held_out", reference.held_out, done.reference.tables.held_out),
        ("release", done.release.images, done.table),
    ]
    return [
        {**done.who, "set_uri": uri, "role": role, **reject} for role, uri, table in sets for reject in table.rejects
    ]
