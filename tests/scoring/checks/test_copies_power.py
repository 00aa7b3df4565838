from __future__ import annotations

import re

import pytest

from scoring.checks.check import invalidity
from scoring.checks.copies_power import copies_power_check, images_to_see, smallest_rate_seen


@pytest.mark.parametrize(("n", "rate"), [(1000, 0.02), (5000, 0.01), (None, 0.02)])
def test_images_to_see_are_enough_and_much_fewer_are_not(n: int | None, rate: float) -> None:
    m = images_to_see(rate, 0.0, n=n)
    assert m is not None
    seen = smallest_rate_seen(n or m, m)
    assert seen is not None
    assert seen <= rate
    fewer = smallest_rate_seen(n or m // 2, m // 2)
    assert fewer is not None
    assert fewer > rate


def test_power_that_is_enough_passes() -> None:
    found = copies_power_check(2000, 1000, 0.0, wanted=0.01)
    assert (found.name, found.passed, found.remedy) == ("power", True, "")
    assert (found.value, found.threshold) == (smallest_rate_seen(2000, 1000), 0.01)


def test_a_lack_of_power_says_how_many_generated_images_would_do() -> None:
    found = copies_power_check(5000, 300, 0.0, wanted=0.005)
    assert not found.passed
    (number,) = re.findall(r"generate about ([\d,]+) images", found.remedy)
    assert copies_power_check(5000, int(number.replace(",", "")), 0.0, wanted=0.005).passed


def test_where_held_out_images_are_few_more_of_both_are_fewer() -> None:
    """Ten copies in a thousand are listed only where the held-out images outnumber the generated ones."""
    found = copies_power_check(1000, 1000, 0.0, wanted=0.01)
    assert not found.passed
    (number,) = re.findall(r"give about ([\d,]+) held-out and generated images", found.remedy)
    both = int(number.replace(",", ""))
    assert 1000 < both < 1500
    assert copies_power_check(both, both, 0.0, wanted=0.01).passed


def test_a_lack_of_power_is_a_note() -> None:
    """The upper bound already decides whether a rate is ruled out."""
    found = copies_power_check(100, 100, 0.0, wanted=0.01)
    assert (found.passed, found.severity) == (False, "note")
    assert invalidity([found]) is None


@pytest.mark.parametrize(("n", "m"), [(8, 50), (100, 1000), (1000, 1000)])
def test_copies_that_cannot_be_listed_are_not_seen(n: int, m: int) -> None:
    """A p-value is at least 1/(n + 1): k copies that share it are listed when it is at most a tenth of k/m."""
    seen = smallest_rate_seen(n, m)
    if n < 9:
        assert seen is None
    else:
        assert seen is not None
        assert seen * m > 10 * m / (n + 1) - 2


@pytest.mark.parametrize(
    ("n", "m", "allowed", "sentence", "remedy"),
    [
        (2, 1, 0.0, "no rate of copies could be called", "held-out and generated images to see 1 %"),
        (100, 5000, 0.0, "would be called at a rate of", "held-out and generated images to see 1 %"),
        (1000, 1000, 0.02, "would be called at a rate of", "ask for more than the allowed 2 %"),
    ],
)
def test_what_cannot_be_seen_says_why(n: int, m: int, allowed: float, sentence: str, remedy: str) -> None:
    found = copies_power_check(n, m, allowed, wanted=0.01)
    assert not found.passed
    assert sentence in found.sentence
    assert remedy in found.remedy


def test_a_larger_allowed_rate_is_harder_to_exceed() -> None:
    rates = [smallest_rate_seen(1000, 1000, allowed) or 1.0 for allowed in (0.0, 0.005, 0.01, 0.05)]
    assert rates == sorted(rates)
