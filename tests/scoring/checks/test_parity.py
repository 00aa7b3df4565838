from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import hypergeom

from scoring.checks.parity import parity, total_variation


@pytest.mark.parametrize(
    ("reference", "other", "passed"),
    [
        ({"PNG": 500}, {"PNG": 100}, True),
        ({"PNG": 500}, {"JPEG q75 4:2:0": 100}, False),
        ({"PNG": 500}, {"PNG": 90, "JPEG q95 4:4:4": 10}, False),
        ({"PNG": 500}, {"PNG": 98, "JPEG q95 4:4:4": 2}, True),
        ({"PNG": 16}, {"JPEG q75 4:2:0": 16}, False),
        ({"PNG": 8, "JPEG q75 4:2:0": 8}, {"PNG": 16}, True),
        ({"PNG": 5000, "JPEG q75 4:2:0": 5000}, {"PNG": 1000}, False),
        ({"PNG": 4}, {"JPEG q75 4:2:0": 2}, True),
    ],
)
def test_sets_must_be_stored_alike_as_far_as_their_files_can_show(
    reference: dict[str, int], other: dict[str, int], passed: bool
) -> None:
    found = parity(reference, other, error=0.01 if sum(reference.values()) > 16 else 0.001)
    assert found.passed is passed
    assert found.value == total_variation(reference, other)
    assert (found.remedy == "") is passed
    assert passed is (found.value <= found.threshold)


def test_chance_is_that_of_the_hypergeometric_distribution() -> None:
    pooled, jpeg, theirs = 400, 120, 150
    k = np.arange(jpeg + 1)
    distance = np.abs(k / theirs - (jpeg - k) / (pooled - theirs))
    order = np.argsort(distance)
    exact = distance[order][np.searchsorted(np.cumsum(hypergeom.pmf(k, pooled, jpeg, theirs)[order]), 0.99)]
    found = parity({"PNG": 180, "JPEG": 70}, {"PNG": 100, "JPEG": 50}, tolerance=0.0, error=0.01)
    assert found.threshold == pytest.approx(exact, abs=0.012)


def test_samples_of_one_mixture_of_many_kinds_pass() -> None:
    rng = np.random.default_rng(0)

    def sizes(images: int) -> dict[str, int]:
        drawn = rng.zipf(1.3, images) % 400
        return {str(kind): int(count) for kind, count in zip(*np.unique(drawn, return_counts=True), strict=True)}

    found = [parity(sizes(300), sizes(100), what="size") for _ in range(30)]
    assert all(check.passed for check in found)
    assert np.mean([check.value or 0.0 for check in found]) > 0.2
    strict = [parity(sizes(300), sizes(100), tolerance=0.0, error=0.2).passed for _ in range(60)]
    assert 0.66 < np.mean(strict) < 0.92


def test_sentences_say_what_is_stored_how() -> None:
    assert parity({"PNG": 5}, {"PNG": 7}).sentence == "codec agrees: PNG (100 %)"
    assert parity({"PNG": 500}, {"PNG": 98, "JPEG": 2}).sentence == (
        "codec agrees but in 2 % of files: PNG (100 %) in the reference, PNG (98 %), JPEG (2 %) here"
    )
    found = parity({"32×32": 100}, {"64×64": 90, "a": 4, "b": 3, "c": 3}, what="size")
    assert found.name == "size parity"
    assert found.sentence.endswith("64×64 (90 %), a (4 %), b (3 %), … here")
    assert parity({}, {"PNG": 7}).sentence == "codec: no files to compare"
    with pytest.raises(ValueError, match="negative"):
        parity({"PNG": -1}, {"PNG": 2})


counts = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 40), min_size=1)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(counts, counts)
def test_distance_agrees_with_a_sum_and_is_symmetric(a: dict[str, int], b: dict[str, int]) -> None:
    n, m = sum(a.values()), sum(b.values())
    expected = sum(abs(a.get(k, 0) / n - b.get(k, 0) / m) for k in "abcdef") / 2 if n and m else 0.0
    assert total_variation(a, b) == pytest.approx(expected, abs=1e-12)
    assert total_variation(b, a) == pytest.approx(expected, abs=1e-12)
