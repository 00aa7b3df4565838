from __future__ import annotations

import pytest

from flows.cli.screens.parts import print_table, table, verdict_text


@pytest.mark.parametrize("width", [20, 80])
def test_numbers_stay_whole_on_a_narrow_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = table("release", "copy rate %|", "images|")
    shown.add_row("a-release-with-a-long-name@1", "5.2 (2.7–8.4)", "1,234,567")
    print_table(shown)
    text = capsys.readouterr().out
    assert "copy rate %" in text
    assert "5.2 (2.7–8.4)  1,234,567" in text
    assert text.replace("\n", "").count("-") >= 4


@pytest.mark.parametrize("verdict", ["copying", "no copying seen", "inconclusive", "not judged", "invalid"])
@pytest.mark.parametrize("width", [20, 60])
def test_a_verdict_is_folded_between_its_words(
    width: int, verdict: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = table("release", "verdict", "copies|", "rate %|", "Â first|", "Â last|")
    shown.add_row("a-release-with-a-long-name@1", verdict_text(verdict), "≥ 1,212 of 13,000", "2.9–8.1", "0.46", "0.46")
    print_table(shown)
    words = capsys.readouterr().out.split()
    assert set(verdict.split()) <= set(words)
