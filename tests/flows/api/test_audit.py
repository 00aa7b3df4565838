"""A real audit and a real attribution through the Python face, on the laboratory of digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import layerprint
from flows.api.html import MOST_COPIES
from tests.flows.conftest import COPIES, HELD_OUT, TRAIN, UNSEEN

ENCODER = {"model": "test_vit", "weights": "random", "image_size": 8, "model_args": {"patch_size": 4}}
SCORING = {"cells": 2, "components": 16}


def audit(lab: str, store: str, name: str, **more: Any) -> layerprint.Audit:
    return layerprint.audit(
        train=f"{lab}/train/",
        held_out=f"{lab}/held_out/",
        images=f"{lab}/{name}/",
        name=name,
        encoder=ENCODER,
        store=store,
        scoring=SCORING,
        gate={"detectable_copy_rate": 0.1},
        quiet=True,
        **more,
    )


@pytest.fixture(scope="module")
def store(lab: str, services: None) -> str:
    """A store with the audits of two releases."""
    place = "s3://test/face/audits"
    assert [audit(lab, place, name).verdict for name in ("copies", "unseen")] == ["copying", "no copying seen"]
    return place


def test_a_memorizer_is_found(lab: str, store: str, tmp_path: Path) -> None:
    found = audit(lab, store, "copies")
    with layerprint.connect(store) as connection:
        audits = connection.sql("SELECT count(*), sum(forward_images) FROM audits").fetchall()
    assert audits == [(2, TRAIN + HELD_OUT + COPIES + UNSEEN)]  # the second call computed nothing
    assert (found.verdict, found.store) == ("copying", store)
    assert f"of {COPIES} images" in found.sentence
    copies = found.copies.filter(found.copies["listed"])
    assert copies["rank"].to_pylist() == list(range(1, len(copies) + 1))
    assert len(copies) > 0.9 * COPIES
    assert copies["image_key"] == copies["train_key"]
    assert found.scores["layer"].to_pylist() == list(range(len(found.scores)))
    assert max(rate for rate in found.scores["copy_rate"].to_pylist() if rate is not None) > 0.9
    assert all(found.checks["name"].to_pylist())
    pairs = found.pairs()
    assert len(pairs) == len(pairs.table) > 0
    assert len(set(pairs.table["layer"].to_pylist())) == 1
    assert pairs.table["distance"].to_pylist() == sorted(pairs.table["distance"].to_pylist())
    assert pairs.table["identical"].to_pylist()[0]
    card = found._repr_html_()
    assert card.count("<svg") == 1 + 2 * MOST_COPIES  # the curve, and the region in both images of a copy
    assert card.count("<img") == 2 * min(len(pairs), 8) + 2 * MOST_COPIES
    assert "copying" in card
    assert pairs._repr_html_().count("<img") == 2 * min(len(pairs), 8)
    page = found.report(tmp_path / "reports" / "copies.html")
    assert "copies@1" in page.read_text(encoding="utf-8")


def test_the_report_needs_a_place(lab: str, store: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(layerprint.InputError, match="cannot be written"):
        audit(lab, store, "copies").report(tmp_path / "file" / "report.html")


def test_the_maker_is_asked_of_the_store_alone(lab: str, store: str) -> None:
    answer = layerprint.attribute(store=store, images=f"{lab}/fresh/", quiet=True)
    assert answer.verdict in ("attributed", "undecided", "unknown")
    assert (answer.maker is not None) == (answer.verdict == "attributed")
    assert sorted(answer.makers["maker"].to_pylist()) == ["copies@1", "unseen@1"]
    assert sum(answer.makers["probability"].to_pylist()) + answer.unknown == pytest.approx(1)
    assert answer.makers["maker"][0].as_py() == "copies@1"
    assert "copies@1" in answer._repr_html_()
    same = layerprint.attribute(
        images=f"{lab}/fresh/",
        store=store,
        train=f"{lab}/train/",
        held_out=f"{lab}/held_out/",
        encoder=ENCODER,
        scoring=SCORING,
        quiet=True,
    )
    assert same.makers.equals(answer.makers)


def test_the_results_answer_sql(store: str) -> None:
    with layerprint.connect(store) as connection:
        rows = connection.sql("SELECT release, verdict FROM releases ORDER BY release").fetchall()
    assert rows == [("copies", "copying"), ("unseen", "no copying seen")]


def test_wrong_arguments_are_named(lab: str, tmp_path: Path) -> None:
    with pytest.raises(layerprint.InputError, match=r"(?s)layerprint\.audit:.*scoring\.cells"):
        layerprint.audit(
            train=tmp_path, held_out=lab, images=lab, name="x", encoder=ENCODER, scoring={"cells": 0}, store=tmp_path
        )
    with pytest.raises(layerprint.InputError, match="train and held_out are the same set"):
        layerprint.audit(train=tmp_path, held_out=tmp_path, images=lab, name="x", encoder="test_vit", store=tmp_path)
    with pytest.raises(layerprint.InputError, match="which reference"):
        layerprint.attribute(images=tmp_path)
    with pytest.raises(layerprint.InputError, match="which reference"):
        layerprint.attribute(images=tmp_path, store=tmp_path, encoder="test_vit")
    with pytest.raises(layerprint.InputError, match="reject=2"):
        layerprint.attribute(images=tmp_path, store=tmp_path, reject=2)
    with pytest.raises(layerprint.LayerprintError, match="no audit"):
        layerprint.attribute(images=tmp_path, store=tmp_path)
