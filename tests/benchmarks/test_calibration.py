from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.calibration import QUICK, Row, audits_of_reference, draw_curves, markdown, simulate, summarise


@pytest.fixture(scope="module")
def rows(processes: None) -> list[Row]:
    return simulate(QUICK, workers=1)


def at(rows: list[Row], share: float, spread: float) -> Row:
    return next(row for row in rows if row.setting[:2] == (share, spread))


def test_copies_are_seen_where_c_t_says_there_are_none(rows: list[Row]) -> None:
    hidden, honest = at(rows, 0.05, 1.03), at(rows, 0.0, 1.0)
    assert hidden.audits == QUICK.audits
    assert hidden.mean_c_t > 0
    assert hidden.copying >= 0.75
    assert hidden.rate_covered >= 0.75
    assert honest.copying <= 0.25
    assert at(rows, 0.0, 1.1).different == 1.0


def test_intervals_hold_the_truth(rows: list[Row]) -> None:
    assert np.mean([row.a_covered for row in rows]) > 0.85
    assert np.mean([row.rate_covered for row in rows]) > 0.85


def test_audits_are_the_same_again_and_differ_between_references(rows: list[Row]) -> None:
    again = [audits_of_reference(QUICK, number) for number in range(QUICK.references)]
    assert summarise([audit for audits in again for audit in audits]) == rows
    assert again[0] != again[1]


def test_table_and_picture(rows: list[Row], tmp_path: Path) -> None:
    lines = markdown(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| 0 % | ×1 | 300 | 8 |")
    assert draw_curves(rows, tmp_path / "new").read_bytes().startswith(b"\x89PNG")
