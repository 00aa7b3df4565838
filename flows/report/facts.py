"""The contents of a report as plain records, read from the Parquet results of a store; nothing is recomputed.

The rows may come from elsewhere: their texts are untrusted, and any number may be missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from flows.results.audit_result import AuditResult, load_audit_result
from storage.errors import InputError
from storage.objects.open import ObjectStore
from storage.results.sql import connect
from storage.results.tables import LEFT_OUT, read_result
from storage.seal import unless_broken

Row = dict[str, Any]

MOST_CURVES = 8
"""Curves of other releases shown beside a release's own: the nearest ones."""

_Z = 1.959964

_AUDITS = """
WITH ends AS (
    SELECT audit_id, arg_min(a_hat, layer) AS a_hat_first, arg_max(a_hat, layer) AS a_hat_last
    FROM scores WHERE informative GROUP BY audit_id
)
SELECT * FROM audits LEFT JOIN ends USING (audit_id) ORDER BY created_at DESC, audit_id DESC
"""

_CURVES = """
SELECT profile_id, release, version, coalesce(run, '1') AS run, layer, logit_a, variance,
    reference_digest, encoder_digest, scoring_digest, created_at
FROM profiles WHERE coalesce(part, 0) = 0 AND logit_a IS NOT NULL ORDER BY created_at, profile_id, layer
"""

_ATTRIBUTIONS = "SELECT * FROM attributions ORDER BY created_at DESC, attribution_id DESC, rank"


class NoAuditError(InputError):
    """There is no such audit, or a file of it is broken."""


class LayerCurve(NamedTuple):
    """Â over layers with its 95 % interval; None where the layer has no information."""

    label: str
    layers: list[int]
    a_hat: list[float | None]
    low: list[float | None]
    high: list[float | None]


@dataclass(frozen=True)
class StoreFacts:
    """What the reports of one store share.

    Attributes:
        uri: The store.
        audits: All rows of `audits`, latest first, with Â of the first and the last informative layer.
        curves: One row per layer of every enrolled profile, oldest profile first.
        attributions: All rows of `attributions`, latest set first, then by rank.
    """

    uri: str
    audits: list[Row]
    curves: list[Row]
    attributions: list[Row]

    def latest(self) -> list[Row]:
        """The latest audit of every release, version and run; latest first."""
        latest: dict[tuple[str, str, str], Row] = {}
        for row in self.audits:
            latest.setdefault((row["release"], row["version"], row["run"] or "1"), row)
        return list(latest.values())


@dataclass(frozen=True)
class AuditFacts:
    """The contents of the report of one audit.

    Attributes:
        outcome: The audit with its layers, checks and copies.
        own: Its curve.
        others: Curves of the nearest enrolled releases.
        enrolled: Number of other releases that are enrolled and comparable.
        evidence: The closest pairs, by layer and rank.
        rejects: Images that could not be read.
        asked: Attributions of this release's own images, each as the rows of its candidates.
        named: Image sets whose most probable maker is this release.
    """

    outcome: AuditResult
    own: LayerCurve
    others: list[LayerCurve]
    enrolled: int
    evidence: list[Row]
    rejects: list[Row]
    asked: list[list[Row]]
    named: list[Row]

    @property
    def audit(self) -> Row:
        return self.outcome.audit

    @property
    def copies(self) -> list[Row]:
        """The images that are listed as copies, or above every held-out image; strongest first."""
        return self.outcome.copies

    @property
    def decisive(self) -> int | None:
        """The layer that is shown first; see `decisive_layer`."""
        return decisive_layer(self.outcome)


def label_of(row: Row) -> str:
    """Release and version of a row, and the run unless it is the first.

    >>> label_of({"release": "glow", "version": "80", "run": "2"})
    'glow@80#2'
    """
    return AuditResult(row, [], []).label


def read_store(uri: str) -> StoreFacts:
    """Read what the reports of a store share.

    Raises:
        StoreError: the store cannot be read.
    """
    with connect(uri) as connection:
        tables = [connection.sql(query).to_arrow_table().to_pylist() for query in (_AUDITS, _CURVES, _ATTRIBUTIONS)]
    return StoreFacts(uri, *tables)


def audit_facts(store: ObjectStore, shared: StoreFacts, audit_id: str) -> AuditFacts:
    """Read the contents of the report of one audit.

    Raises:
        NoAuditError: there is no such audit, or a file of it is broken.
        StoreError: the store cannot be read.
    """
    outcome = load_audit_result(store, audit_id)
    if outcome is None:
        raise NoAuditError(f"no audit {audit_id!r} in {store.uri}", "layerprint status --store STORE lists them")
    own = curve_of(outcome)
    others = _comparable(shared.curves, outcome)
    asked, named = _attributions(shared.attributions, outcome)
    return AuditFacts(
        outcome=outcome,
        own=own,
        others=_nearest(own, others),
        enrolled=len(others),
        evidence=read_evidence(store, audit_id),
        rejects=_rows_of(store, "rejects", audit_id),
        asked=asked,
        named=named,
    )


def read_evidence(store: ObjectStore, audit_id: str) -> list[Row]:
    """The closest pairs of an audit, by layer and rank."""
    return sorted(_rows_of(store, "evidence", audit_id), key=lambda row: (row["layer"], row["rank"]))


def _rows_of(store: ObjectStore, table: str, audit_id: str) -> list[Row]:
    """The rows of one audit in a table; none, with a warning, where its file is broken."""
    rows = unless_broken(partial(read_result, store, table, audit_id), LEFT_OUT)
    return [] if rows is None else list(rows.to_pylist())


def curve_of(outcome: AuditResult) -> LayerCurve:
    """The curve of an audited release."""
    columns = ([row[name] for row in outcome.scores] for name in ("layer", "a_hat", "a_low", "a_high"))
    return LayerCurve(outcome.label, *columns)


def decisive_layer(outcome: AuditResult) -> int | None:
    """The layer that shows copying most, on which a verdict by layers rests, else the middle informative one.

    None when there is none.
    """
    layers = [int(row["layer"]) for row in outcome.informative]
    chosen = outcome.audit["copying_layer"]
    if chosen in layers:
        return int(chosen)
    return layers[len(layers) // 2] if layers else None


def _comparable(rows: Sequence[Row], outcome: AuditResult) -> list[LayerCurve]:
    """The latest curve of every other release enrolled under the audit's reference, encoder and scoring."""
    mine = next((row for row in rows if row["profile_id"] and row["profile_id"] == outcome.audit["profile_id"]), None)
    if mine is None:
        return []
    same = ("reference_digest", "encoder_digest", "scoring_digest")
    profiles: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["profile_id"] and all(row[name] == mine[name] for name in same):
            profiles[label_of(row)][row["profile_id"]].append(row)
    profiles.pop(outcome.label, None)
    return [_enrolled_curve(label, list(versions.values())[-1]) for label, versions in sorted(profiles.items())]


def _enrolled_curve(label: str, rows: Sequence[Row]) -> LayerCurve:
    x = np.array([row["logit_a"] for row in rows], np.float64)
    se = np.sqrt(np.array([row["variance"] or 0.0 for row in rows], np.float64))
    columns = (expit(x + shift * se).tolist() for shift in (0.0, -_Z, _Z))
    return LayerCurve(label, [int(row["layer"]) for row in rows], *columns)


def _nearest(own: LayerCurve, others: Sequence[LayerCurve]) -> list[LayerCurve]:
    """The curves whose Â differs least, on average over the layers that both have."""
    mine = {layer: a for layer, a in zip(own.layers, own.a_hat, strict=True) if a is not None}

    def gap(other: LayerCurve) -> float:
        known = zip(other.layers, other.a_hat, strict=True)
        gaps = [abs(a - mine[layer]) for layer, a in known if a is not None and layer in mine]
        return float(np.mean(gaps)) if gaps else 1.0

    return sorted(others, key=gap)[:MOST_CURVES]


def _attributions(rows: Sequence[Row], outcome: AuditResult) -> tuple[list[list[Row]], list[Row]]:
    audit = outcome.audit
    maker = f"{audit['release']}@{audit['version']}"
    sets: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["reference_digest"] == audit["reference_digest"] and row["encoder_digest"] == audit["encoder_digest"]:
            sets[row["attribution_id"]].append(row)
    asked = [candidates for candidates in sets.values() if candidates[0]["images_uri"] == audit["images_uri"]]
    best = [candidates[0] for candidates in sets.values()]
    named = [row for row in best if row["rank"] == 1 and row["maker"] == maker]
    return asked, named
