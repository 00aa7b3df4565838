"""Every state of a release, from what the store says."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from actors.encoder.config import EncoderFacts
from flows.registry.expected_audit import ExpectedAudit, StoredReference
from flows.registry.failures import Failure
from flows.registry.state import ReleaseRecord, release_state, stale_reason

NOW = 1_000_000.0
FACTS = EncoderFacts("e1", "w", {0: 4}, {0: "x"}, (0.0,), (1.0,), "bicubic", 8, "mean", "m")
SETTINGS = {"encoder": {"model": "m"}, "reference": {"name": "r"}, "scoring": {"cells": 2}, "gate": {"rate": 0.01}}
EXPECTED = ExpectedAudit("a1", "i1", StoredReference(FACTS, "r1"), SETTINGS)


def row(verdict: str = "no copying seen", audit_id: str = "a1", **changes: Any) -> dict[str, Any]:
    return {
        "audit_id": audit_id,
        "verdict": verdict,
        "sentence": "the sentence",
        "invalid_reason": "the reason",
        "settings": json.dumps(SETTINGS),
        "encoder_digest": "e1",
        "reference_digest": "r1",
        "images_digest": "i1",
        "created_at": dt.datetime.fromtimestamp(NOW - 100, dt.UTC),
    } | changes


def failure(own_fault: bool = True, attempts: int = 1, at: float = NOW - 60, saw: str = "s1") -> Failure:
    return Failure("x@1", "it is broken", "fix it", own_fault, saw, attempts, at)


@pytest.mark.parametrize(
    ("record", "name", "reason", "due"),
    [
        (ReleaseRecord(EXPECTED), "never audited", "", True),
        (ReleaseRecord(EXPECTED, row()), "current", "no copying seen", False),
        (ReleaseRecord(EXPECTED, row("inconclusive")), "current", "inconclusive", False),
        (ReleaseRecord(EXPECTED, row("copying")), "flagged", "the sentence", False),
        (ReleaseRecord(EXPECTED, row("invalid")), "invalid", "the reason", False),
        (ReleaseRecord(EXPECTED, row(audit_id="a0", images_digest="i0")), "stale", "images changed", True),
        (ReleaseRecord(EXPECTED, row("copying", "a0", images_digest="i0")), "stale", "images changed", True),
        (ReleaseRecord(EXPECTED, held_by="by process 1"), "auditing now", "by process 1", False),
        (ReleaseRecord(EXPECTED, row("copying"), "by process 1"), "auditing now", "by process 1", False),
        (ReleaseRecord(unlisted="no image here"), "failed", "no image here", False),
        (ReleaseRecord(EXPECTED, failure=failure(), attempt="s1"), "failed", "tried again when it has changed", False),
        (ReleaseRecord(EXPECTED, failure=failure(), attempt="s2"), "never audited", "", True),
        (ReleaseRecord(EXPECTED, row(audit_id="a0"), failure=failure(), attempt="s1"), "failed", "it is broken", False),
        (ReleaseRecord(EXPECTED, row(), failure=failure(), attempt="s1"), "current", "", False),
        (ReleaseRecord(EXPECTED, failure=failure(own_fault=False), attempt="s1"), "failed", "tried again from", False),
        (ReleaseRecord(EXPECTED, failure=failure(False, 1, NOW - 901), attempt="s1"), "failed", "it is broken", True),
        (ReleaseRecord(EXPECTED, failure=failure(False, 2, NOW - 901), attempt="s1"), "failed", "it is broken", False),
        (
            ReleaseRecord(EXPECTED, failure=failure(False, 99, NOW - 86401), attempt="s1"),
            "failed",
            "it is broken",
            True,
        ),
        (ReleaseRecord(), "never audited", "", False),
        (ReleaseRecord(audit=row("copying")), "flagged", "the sentence", False),
        (ReleaseRecord(audit=row(), failure=failure()), "failed", "it is broken", False),
        (ReleaseRecord(audit=row(), failure=failure(at=NOW - 200)), "current", "", False),
    ],
)
def test_states(record: ReleaseRecord, name: str, reason: str, due: bool) -> None:
    state = release_state(record, NOW)
    assert (state.name, state.due) == (name, due)
    assert reason in state.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"settings": json.dumps({**SETTINGS, "encoder": {"model": "other"}})}, "the encoder changed"),
        ({"encoder_digest": "e0"}, "the encoder's weights changed"),
        ({"settings": json.dumps({**SETTINGS, "reference": {"name": "other"}})}, "the reference changed"),
        ({"images_digest": "i0"}, "the release's images changed"),
        ({"settings": json.dumps({**SETTINGS, "scoring": {"cells": 3}})}, "scoring changed"),
        ({"settings": json.dumps({**SETTINGS, "gate": {"rate": 0.02}})}, "the gate changed"),
        ({"reference_digest": "r0"}, "the reference's images changed"),
        ({}, "layerprint's method or the release's family changed"),
    ],
)
def test_why_an_audit_is_stale(changes: dict[str, Any], reason: str) -> None:
    assert stale_reason(row(audit_id="a0", **changes), EXPECTED) == f"{reason} since 1970-01-12"


def test_before_the_reference_is_built_an_audit_is_stale() -> None:
    unknown = EXPECTED._replace(audit_id=None, reference=StoredReference())
    assert "the reference's images changed" in stale_reason(row(), unknown)
    assert release_state(ReleaseRecord(unknown, row()), NOW)[::2] == ("stale", True)
