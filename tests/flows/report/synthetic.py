"""Synthetic stores of results: many releases, and hostile ones."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np

from flows.report.facts import AuditFacts
from storage.objects.open import ObjectStore
from storage.results.tables import SCHEMAS, write_result
from tests.storage.results.test_tables import row

LAYERS = 13
BEGAN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

HOSTILE = (
    "<script>alert(1)</script>",
    "</script></style></svg><img src=x onerror=alert(2)>",
    "\"'><svg onload=alert(3)>{{ 7*7 }}${7*7}",
    "\u202egnp.exe\u2066 日本語 🐢 e\u0301\u0000\u001b[2J",
    "javascript:alert(4)//`~|[x](javascript:alert(5))",
    "<!--" + "k" * 4096,
)


HOSTILE_COLUMNS = (
    "version family reference images_uri encoder_model sentence fit_verdict fit_sentence invalid_reason settings "
    "layerprint_version preset"
)


_COPY_COLUMNS = (
    *("copies_low", "copies_high", "copies_p", "copies_at_least", "copies_listed", "copies_layer", "tokens"),
    *("distinct_images", "distinct_held_out", "held_out_leaks", "units", "held_out_units", "copied_files_at_least"),
    *("pictures", "repeated_images", "repeated_pictures", "most_repeated"),
)

BY_LAYERS = {name: None for name in _COPY_COLUMNS if name in SCHEMAS["audits"].names}
"""The columns of an audit that was not judged by copies."""

VIEWS = ("as it is", "mirrored", "shifted")


def write_audit(
    store: ObjectStore, audit_id: str, release: str, day: float, rate: float, **more: Any
) -> dict[str, Any]:
    """One audit of 13 layers with the rows that reports read; returns the row of `audits`."""
    rng = np.random.default_rng(int(day * 100))
    who: dict[str, Any] = {"audit_id": audit_id, "release": release, "version": "1"}
    copying = rate > 0.02
    audit = row(
        "audits",
        **{
            **who,
            "run": "1",
            "profile_id": audit_id,
            "family": "diffusion",
            "verdict": "copying" if copying else "no copying seen",
            "copying_layer": 4,
            "copy_rate": rate,
            "copy_rate_low": max(0.0, rate - 0.01),
            "copy_rate_high": rate + 0.01,
            "max_copy_rate": 0.01,
            "smallest_detectable_rate": 0.03,
            "created_at": BEGAN + dt.timedelta(days=day),
            "settings": "{}",
            **BY_LAYERS,
            **more,
        },
    )
    a_hat = np.clip(0.5 + rng.normal(0, 0.05, LAYERS), 0.05, 0.95)
    scores = [
        row("scores", **who, layer=i, informative=True, a_hat=a, a_low=a - 0.03, a_high=a + 0.03, copy_rate=rate,
            copy_rate_low=max(0.0, rate - 0.01), copy_rate_high=rate + 0.01)
        for i, a in enumerate(a_hat.tolist())
    ]  # fmt: skip
    write_result(store, "audits", audit_id, [audit])
    write_result(store, "scores", audit_id, scores)
    return audit


def judged_by_copies(facts: AuditFacts, copies: Sequence[dict[str, Any]], **columns: Any) -> AuditFacts:
    """The facts of an audit of 300 images as if it had been judged by copies."""
    found: dict[str, Any] = {
        "images": 300, "distinct_images": 300, "distinct_held_out": 400, "held_out_leaks": 0, "copies_layer": 4,
        "tokens": "t", "copies_at_least": 0, "copies_low": 0.0, "copies_high": 0.004, "copies_p": 0.6,
        "copies_listed": sum(copy["listed"] for copy in copies), "max_copy_rate": 0.0, "rejected": 0,
        "fit_verdict": "no difference seen", "smallest_detectable_rate": 0.003, "units": None,
    }  # fmt: skip
    outcome = dataclasses.replace(facts.outcome, audit={**facts.audit, **found, **columns}, copies=list(copies))
    return dataclasses.replace(facts, outcome=outcome)


def copy_row(rank: int, image_key: str, train_key: str, **columns: Any) -> dict[str, Any]:
    """A row of the table `copies`."""
    return {
        "audit_id": "a", "release": "r", "version": "1", "rank": rank, "image_key": image_key, "train_key": train_key,
        "score": 9.0 - rank / 20, "p_value": 0.0025, "late": 0.4, "votes": 2.0, "part": rank % 4 == 3,
        "listed": True, "identical": False, "view": VIEWS[rank % 3], **columns,
    }  # fmt: skip


def write_hostile(store: ObjectStore, audit_id: str, text: str) -> dict[str, Any]:
    """An audit whose texts are all hostile, in all tables."""
    texts = dict.fromkeys(HOSTILE_COLUMNS.split(), text)
    verdicts = {"verdict": "copying" if "alert(1)" in text else text}
    audit = write_audit(store, audit_id, text, 1.0, 0.5, **texts, **verdicts)
    who: dict[str, Any] = {"audit_id": audit_id, "release": text, "version": text}
    checks = [row("checks", **who, name=text, passed=False, severity=text, sentence=text, remedy=text)]
    pair: dict[str, Any] = {"image_key": text, "train_key": text, "identical": True}
    evidence = [row("evidence", **who, layer=layer, rank=1, **pair) for layer in (0, 4, 12)]
    rejects = [row("rejects", **who, set_uri=text, role=text, key=text, reason=text)]
    digests = {name: audit[name] for name in ("reference_digest", "encoder_digest")}
    profiles = [
        row("profiles", **digests, profile_id=f"{audit_id}{other}", release=text + other, version=text, part=0, layer=i,
            logit_a=0.1, variance=0.01)
        for other in ("", "-other")
        for i in range(LAYERS)
    ]  # fmt: skip
    attributions = [
        row("attributions", **digests, attribution_id=f"{audit_id}-{rank}", images_uri=text, rank=1, maker=maker,
            verdict=text, sentence=text, perturbation=text)
        for rank, maker in enumerate([f"{text}@{text}", text])
    ]  # fmt: skip
    for table, rows in {
        "checks": checks,
        "evidence": evidence,
        "rejects": rejects,
        "profiles": profiles,
        "attributions": attributions,
    }.items():
        write_result(store, table, audit_id, rows)
    return audit
