from __future__ import annotations

import pytest

from flows.cli.screens.kinds import show_kinds
from flows.selfcheck.judged import HONEST, NOT_CLEAN, CopiesSelfCheck, CopiesTrial, Kind

SKIPPED = "skipped: the folders of the held-out images name no classes"


def checked(verdict: str = "copying") -> CopiesSelfCheck:
    said = ("≥ 12", "inconclusive: 12 of 1,300 images and many more words that need a line of their own")
    trials = [
        CopiesTrial("half as it is", 0, 1300, "no copying seen", 0, 0, 0, HONEST, True, said[1]),
        CopiesTrial("one class only", 0, 0, "–", None, None, None, HONEST, True, SKIPPED),
        CopiesTrial("5% planted", 65, 1300, verdict, 12, 60, 58, NOT_CLEAN, verdict in NOT_CLEAN, said[1]),
    ]
    kinds = [
        Kind("rotated 3–15°", 100, 98, 97, 1300, "copying", 60, 58, 0.023, ("copying",)),
        Kind("crop 50-60 + mirrored + jpeg 40", 100, 3, 2, 1300, "no copying seen", 0, 0, None, HONEST),
    ]
    return CopiesSelfCheck(trials, kinds, 0.023, {200: 0.026, 10_000: None}, 2600, 1300, 2700, 3)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_the_terminal(width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    show_kinds(checked())
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for said in (
        "65 1,300 copying ok ≥ 12 58 of 60",
        "100 98 97 2",
        "2.3 %",
        SKIPPED,
        "No verdict is wrong",
        "Missed more often than found: crop 50-60 + mirrored + jpeg 40",
    ):
        assert said in text
    assert text.count("wrong") == 1


def test_a_wrong_verdict_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    show_kinds(checked("no copying seen"))
    text = capsys.readouterr().out
    assert "wrong 5% planted: inconclusive: 12 of 1,300" in text
    assert "This setup gives wrong verdicts." in text
