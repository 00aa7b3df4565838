from __future__ import annotations

import pytest

from scoring.checks.check import invalidity
from scoring.checks.contamination import MOST_CONTAMINATED, MOST_LEAKS, contamination_check


def test_without_copy_scores_it_says_what_was_left_out() -> None:
    found = contamination_check(2, 1000)
    assert (found.passed, found.value, found.threshold) == (True, 0.002, MOST_CONTAMINATED)
    assert found.sentence == "2 of 1000 held-out images are (nearly) training images; they were left out"
    assert found.remedy == ""


def test_many_training_images_among_the_held_out_ones_make_an_audit_invalid() -> None:
    found = contamination_check(200, 1000, 0)
    assert (found.passed, found.severity, found.value) == (False, "invalid", 0.2)
    assert "draw held-out images again" in found.remedy


@pytest.mark.parametrize(("leaks", "passed"), [(0, True), (10, True), (11, False)])
def test_images_that_look_like_training_images_stay_in_and_hide_copies(leaks: int, passed: bool) -> None:
    found = contamination_check(2, 1002, leaks)
    assert found.passed == passed
    assert (f"{leaks} more look like training images" in found.sentence) == bool(leaks)
    if not passed:
        assert (found.severity, found.threshold, found.value) == ("inconclusive", MOST_LEAKS, 0.011)
        assert "draw held-out images again" in found.remedy
        assert invalidity([found]) is not None
        assert invalidity([found], saw_something=True) is None


def test_one_is_one() -> None:
    assert "1 more looks like a training image; it stays in" in contamination_check(0, 1000, 1).sentence
