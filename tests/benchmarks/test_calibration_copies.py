"""The simulation of the copy verdict, at its smallest."""

from __future__ import annotations

import pytest

from benchmarks.calibration_copies import HEAD, KINDS, QUICK, Kind, audits_of, row


def number(kind: Kind) -> int:
    return KINDS.index(kind)


@pytest.mark.parametrize(
    ("kind", "units"),
    [
        (Kind("groups of 10", repeats=10), 6),
        (Kind("groups of 10, each image counted", repeats=10, grouped=False), 60),
        (Kind("independent images", copies=0.1), 60),
    ],
)
def test_audits_are_the_same_again_and_judge_groups(kind: Kind, units: int) -> None:
    audits = audits_of(QUICK, number(kind))
    assert audits == audits_of(QUICK, number(kind))
    assert len(audits) == QUICK.references * QUICK.audits
    assert all(abs(audit.units - units) <= 2 for audit in audits)
    assert all(audit.low <= kind.copies for audit in audits)
    assert row(kind, audits).count("|") == HEAD.count("|")
