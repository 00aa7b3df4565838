"""The block for the model card: metadata that Hugging Face reads, and a text with the numbers of the audit."""

from __future__ import annotations

import io
from pathlib import Path

import yaml
from rich.console import Console
from rich.markdown import Markdown

from flows.report.make import make_reports
from tests.flows.conftest import COPIES
from tests.flows.report.conftest import Reported


def test_the_block_holds_verdict_numbers_limits_digest_and_date(reported: Reported, tmp_path: Path) -> None:
    made = make_reports(reported.spec, None, tmp_path, "modelcard")
    assert made.fleet is None
    assert {one.path.suffix for one in made.written} == {".md"}
    card = made.written[0].path.read_text(encoding="utf-8")
    _, front, text = card.split("---\n", 2)
    (index,) = yaml.safe_load(front)["model-index"]
    (result,) = index["results"]
    assert index["name"] == "copies@1"
    assert result["dataset"]["name"] == "digits"
    rates = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert rates["copies_at_least"] > 0.9 * COPIES
    assert 0.9 < rates["copy_rate_low"] <= rates["copy_rate_high"] <= 1
    assert made.written[0].audit_id in result["source"]["name"]
    shown = io.StringIO()
    Console(file=shown, width=160).print(Markdown(text))
    for said in (
        f"At least {rates['copies_at_least']} of {COPIES} images of copies@1 are copies of training images.",
        "allowed copy rate",
        "copies, at least (95 %)",
        "80 / 160 / 140",
        "images digest",
        "Limits",
    ):
        assert said in shown.getvalue()
    assert len(card) < 4000
