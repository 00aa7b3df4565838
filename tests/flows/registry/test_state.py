"""How a release stands: every state, from what the store says."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from actors.encoder.config import EncoderFacts
from flows.registry.expected_audit import KnownReference, WantedAudit
from flows.registry.failures import Failure
from flows.registry.state import ReleaseFacts, decide, stale_reason

NOW = 1_000_000.0
FACTS = EncoderFacts("e1", "w", {0: 4}, {0: "x"}, (0.0,), (1.0,), "bicubic", 8, "mean", "m")
SETTINGS = {"encoder": {"model": "m"}, "reference": {"name": "r"}, "scoring": {"cells": 2}, "gate": {"rate": 0.01}}
WANTED = WantedAudit("a1", "i1", KnownReference(FACTS, "r1"), SETTINGS)


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
    return Failure("x@1", "it is broken", "mend it", own_fault, saw, attempts, at)


@pytest.mark.parametrize(
    ("facts", "state", "reason", "due"),
    [
        (ReleaseFacts(WANTED), "never audited", "", True),
        (ReleaseFacts(WANTED, row()), "current", "no copying seen", False),
        (ReleaseFacts(WANTED, row("inconclusive")), "current", "inconclusive", False),
        (ReleaseFacts(WANTED, row("copying")), "flagged", "the sentence", False),
        (ReleaseFacts(WANTED, row("invalid")), "invalid", "the reason", False),
        (ReleaseFacts(WANTED, row(audit_id="a0", images_digest="i0")), "stale", "images changed", True),
        (ReleaseFacts(WANTED, row("copying", "a0", images_digest="i0")), "stale", "images changed", True),
        (ReleaseFacts(WANTED, held_by="by process 1"), "auditing now", "by process 1", False),
        (ReleaseFacts(WANTED, row("copying"), "by process 1"), "auditing now", "by process 1", False),
        (ReleaseFacts(unlisted="no image here"), "failed", "no image here", False),
        (ReleaseFacts(WANTED, failure=failure(), saw="s1"), "failed", "tried again when it has changed", False),
        (ReleaseFacts(WANTED, failure=failure(), saw="s2"), "never audited", "", True),
        (ReleaseFacts(WANTED, row(audit_id="a0"), failure=failure(), saw="s1"), "failed", "it is broken", False),
        (ReleaseFacts(WANTED, row(), failure=failure(), saw="s1"), "current", "", False),
        (ReleaseFacts(WANTED, failure=failure(own_fault=False), saw="s1"), "failed", "tried again from", False),
        (ReleaseFacts(WANTED, failure=failure(False, 1, NOW - 901), saw="s1"), "failed", "it is broken", True),
        (ReleaseFacts(WANTED, failure=failure(False, 2, NOW - 901), saw="s1"), "failed", "it is broken", False),
        (ReleaseFacts(WANTED, failure=failure(False, 99, NOW - 86401), saw="s1"), "failed", "it is broken", True),
        (ReleaseFacts(), "never audited", "", False),
        (ReleaseFacts(found=row("copying")), "flagged", "the sentence", False),
        (ReleaseFacts(found=row(), failure=failure()), "failed", "it is broken", False),
        (ReleaseFacts(found=row(), failure=failure(at=NOW - 200)), "current", "", False),
    ],
)
def test_states(facts: ReleaseFacts, state: str, reason: str, due: bool) -> None:
    found = decide(facts, NOW)
    assert (found.state, found.due) == (state, due)
    assert reason in found.reason


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
    found = stale_reason(row(audit_id="a0", **changes), WANTED)
    assert found == f"{reason} since 1970-01-12"


def test_a_reference_that_is_not_built_yet_is_another_one() -> None:
    unknown = WANTED._replace(audit_id=None, reference=KnownReference(None, None))
    assert "the reference's images changed" in stale_reason(row(), unknown)
    assert decide(ReleaseFacts(unknown, row()), NOW)[::2] == ("stale", True)
