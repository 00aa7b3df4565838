"""The demo, run twice as a user runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from actors.encoder.processing import PROCESSINGS
from storage.objects.open import open_store
from storage.results.tables import read_result
from tests.flows.conftest import DemoRun

pytestmark = pytest.mark.timeout(1200)

HONEST = {"unseen", "kde_wide", "mixture", "vae"}


def test_the_memorizer_and_the_planted_release_are_flagged_and_no_other(demo: DemoRun) -> None:
    verdicts = {audit["release"]: audit["verdict"] for audit in demo.first["audits"]}
    assert verdicts == {
        "kde_tiny": "copying",
        "planted": "copying",
        **dict.fromkeys(HONEST, "no copying seen"),
    }


def test_the_planted_copies_are_listed_image_for_image_and_not_seen_in_the_mean(demo: DemoRun) -> None:
    (planted,) = (audit for audit in demo.first["audits"] if audit["release"] == "planted")
    assert planted["copies_low"] < 0.05 < planted["copies_high"]
    copies = read_result(open_store(str(demo.folder / "results-0")), "copies", planted["audit_id"]).to_pylist()
    listed = [copy for copy in copies if copy["listed"]]
    assert len(listed) == planted["copies_listed"] == 25
    assert all(copy["identical"] for copy in listed)
    assert all(
        row["a_hat"] > 0.5 and row["c_t"] > 0 for row in planted["scores"]
    )  # by the mean there is no memorization


def test_unseen_digits_are_like_held_out_ones(demo: DemoRun) -> None:
    (unseen,) = (audit for audit in demo.first["audits"] if audit["release"] == "unseen")
    assert all(0.44 < row["a_hat"] < 0.56 for row in unseen["scores"])


def test_fresh_batches_are_attributed_to_their_makers(demo: DemoRun) -> None:
    """All but copies of training images: what a set of those looks like, another maker of real digits would as well."""
    found = {audit["release"]: audit["fresh_batch_attributed_to"] for audit in demo.first["audits"]}
    assert found.pop("kde_tiny") in ("undecided", "kde_tiny@1")
    assert found == {release: f"{release}@1" for release in found}


def test_a_second_run_does_no_forward_pass(demo: DemoRun) -> None:
    processed = 300 + 6 * 80  # samples of the held-out images and of each release, once as they are
    assert demo.first["forward_images"] == 500 + 600 + 2 * (220 + 5 * 500) + processed * (1 + len(PROCESSINGS))
    assert demo.second["forward_images"] == 0
    assert demo.second["audits"] == demo.first["audits"]


def test_pictures_are_kept_where_they_can_be_seen(demo: DemoRun) -> None:
    assert len(demo.first["pictures"]) == 7
    for path in demo.first["pictures"]:
        with Image.open(Path(path)) as picture:
            assert picture.width > 600
