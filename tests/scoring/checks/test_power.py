from __future__ import annotations

import re

import pytest

from scoring.checks import power
from scoring.checks.check import invalidity
from scoring.checks.power import fewest_images, power_check, smallest_detectable_rate
from scoring.verdict import copying


def test_the_old_name_is_the_same_function() -> None:
    assert copying.smallest_detectable_rate is power.smallest_detectable_rate
    assert copying.FAMILY_ERROR == power.FAMILY_ERROR == 0.05


@pytest.mark.parametrize(("rate", "n"), [(0.05, None), (0.03, None), (0.05, 2000), (0.2, 300)])
def test_fewest_images_are_enough_and_much_fewer_are_not(rate: float, n: int | None) -> None:
    m = fewest_images(rate, 12, 0.01, n=n)
    assert m is not None

    def seen(images: int) -> bool:
        found = smallest_detectable_rate(n or images, images, 12, 0.01)
        return found is not None and found <= rate

    assert seen(m)
    assert not seen(int(0.9 * m))


def test_a_threshold_too_uncertain_cannot_be_mended_by_generating() -> None:
    assert fewest_images(0.03, 12, 0.01, n=100) is None
    assert fewest_images(0.01, 12, 0.01) is None


def test_power_that_is_enough_passes() -> None:
    found = power_check(1000, 500, 12, 0.01)
    assert (found.name, found.passed, found.remedy) == ("power", True, "")
    assert found.value == smallest_detectable_rate(1000, 500, 12, 0.01)
    assert found.threshold == 0.05


def test_a_lack_of_power_says_how_many_images_would_do() -> None:
    found = power_check(1000, 100, 12, 0.01)
    m = fewest_images(0.05, 12, 0.01, n=1000)
    assert not found.passed
    assert found.remedy == f"generate about {m} images to see 5 %"
    assert invalidity([found]) is not None
    assert invalidity([found], saw_something=True) is None


def test_more_images_than_there_are_is_what_a_lack_asks_for() -> None:
    """The detectable rate falls in steps: 74 images would do here, 80 do not."""
    lacking = [m for m in range(20, 300) if not power_check(140, m, 7, 0.01, wanted=0.1).passed]
    assert 80 in lacking
    assert fewest_images(0.1, 7, 0.01, n=140) == 74
    for m in lacking:
        (number,) = re.findall(r"generate about (\d+) images", power_check(140, m, 7, 0.01, wanted=0.1).remedy)
        assert int(number) > m
        assert power_check(140, int(number), 7, 0.01, wanted=0.1).passed


@pytest.mark.parametrize(
    ("n", "m", "layers", "wanted", "sentence", "remedy"),
    [
        (98, 500, 12, 0.05, "no copy rate could be called copying", "held-out and generated images to see 5 %"),
        (1000, 500, 0, 0.05, "no copy rate could be called copying", "informative layer and at least 99 held-out"),
        (100, 500, 12, 0.03, "a copy rate of", "held-out and generated images to see 3 %"),
        (1000, 500, 12, 0.01, "a copy rate of 4.2 %", "ask for more than the allowed 1 %"),
    ],
)
def test_what_cannot_be_seen_says_why(n: int, m: int, layers: int, wanted: float, sentence: str, remedy: str) -> None:
    found = power_check(n, m, layers, 0.01, wanted=wanted)
    assert not found.passed
    assert sentence in found.sentence
    assert remedy in found.remedy
