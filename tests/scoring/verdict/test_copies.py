"""The verdict on copies: its errors by simulation, its limits, its words."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import betabinom

from scoring.copies.copy_counts import upper_rate
from scoring.score.conformal import conformal_p
from scoring.verdict.copies import CopiesVerdict, copies_verdict, images_without_hit

DRAWS = 2000


def judged(
    held_out: NDArray[np.float64], generated: NDArray[np.float64], *, allowed: float = 0.0, detectable: float = 0.01
) -> CopiesVerdict:
    return copies_verdict(held_out, generated, max_copy_rate=allowed, detectable=detectable)


def within(count: int, level: float) -> bool:
    """Whether a simulated error is at its level, up to two standard errors."""
    return count / DRAWS <= level + 2 * math.sqrt(level * (1 - level) / DRAWS)


def spread(m: int, copies: int) -> NDArray[np.float64]:
    """Scores in even steps, and more than any of them for the first ones."""
    scores = np.linspace(0.0, 1.0, m)
    scores[:copies] = 9.0 + np.arange(copies)
    return scores


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(("n", "m", "ties"), [(30, 30, False), (30, 30, True), (200, 300, False)])
def test_honest_releases_are_seldom_called(n: int, m: int, ties: bool) -> None:
    """Also where two scores in three are 0, and others tie."""
    rng = np.random.default_rng(n)
    called = 0
    for _ in range(DRAWS):
        scores = np.maximum(0, rng.integers(-20, 10, n + m)).astype(float) if ties else rng.exponential(size=n + m)
        called += judged(scores[:n], scores[n:]).verdict == "copying"
    assert within(called, 0.05)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (10, 5), (15, 40), (30, 30), (39, 200)])
def test_one_threshold_keeps_its_level_exactly(n: int, m: int) -> None:
    """With few images p has few values, none of which may be taken for the level if it is reached more often."""
    hits = np.arange(m + 1)
    chance = betabinom.sf(hits - 1, m, 1, n)
    claimed = [k for k in hits if judged(np.zeros(n), np.repeat([1.0, -1.0], [k, m - k])).counts.at_least > 0]
    assert not claimed or chance[claimed[0]] <= 0.05


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(("n", "m"), [(38, 60), (150, 100)])
def test_what_copies_is_seldom_said_not_to(n: int, m: int) -> None:
    """The rate that is to be ruled out, each copy above every held-out image."""
    detectable, rng = 0.1, np.random.default_rng(m)
    passed = 0
    for _ in range(DRAWS):
        scores = rng.exponential(size=n + m)
        scores[n:] += 99 * (rng.random(m) < detectable)
        passed += judged(scores[:n], scores[n:], detectable=detectable).verdict == "no copying seen"
    assert within(passed, 0.05)
    assert judged(np.linspace(1.0, 2.0, n), np.zeros(m), detectable=detectable).verdict == "no copying seen"


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(("n", "m"), [(39, 60), (199, 20)])
def test_the_smallest_rate_seen_is_seen_in_four_of_five(n: int, m: int) -> None:
    """Of the first the list needs more copies than the bound, of the second the bound."""
    rng = np.random.default_rng(5)
    rate = judged(rng.random(n), rng.random(m)).smallest_seen
    assert rate is not None
    called = 0
    for _ in range(DRAWS):
        scores = rng.exponential(size=n + m)
        scores[n:] += 99 * (rng.random(m) < rate)
        called += judged(scores[:n], scores[n:]).verdict == "copying"
    assert 0.77 < called / DRAWS < 0.83


@pytest.mark.parametrize("n", [100, 1000])
def test_more_copies_never_weaken_it(n: int) -> None:
    held_out = np.linspace(0.0, 1.0, n)
    order = ["no copying seen", "inconclusive", "copying"]
    found = [judged(held_out, spread(500, copies), detectable=0.03) for copies in range(0, 60, 4)]
    for less, more in pairwise(found):
        assert less.counts.low <= more.counts.low
        assert less.counts.at_least <= more.counts.at_least
        assert less.high <= more.high
        assert less.listed.sum() <= more.listed.sum()
        assert order.index(less.verdict) <= order.index(more.verdict)
    assert found[-1].verdict == "copying"


def test_more_images_without_a_hit_bring_the_bound_down() -> None:
    held_out = np.linspace(0.0, 1.0, 999)
    few, more = images_without_hit(0.01) - 1, images_without_hit(0.01)
    verdicts = [judged(held_out, np.zeros(m)) for m in (few, more)]
    assert [found.verdict for found in verdicts] == ["inconclusive", "no copying seen"]
    assert "with no hit, 299 images would do" in verdicts[0].sentence
    highs = [judged(held_out, np.zeros(m)).high for m in range(50, 700, 50)]
    assert highs == sorted(highs, reverse=True)


def test_images_that_tie_are_no_copies() -> None:
    found = judged(np.zeros(300), np.zeros(400))
    assert (found.verdict, found.counts.at_least, bool(found.listed.any())) == ("no copying seen", 0, False)
    assert (found.p_values == 1).all()


def test_the_list_holds_the_copies() -> None:
    held_out, generated = np.linspace(0.0, 1.0, 1000), spread(300, 14)
    found = judged(held_out, generated)
    assert found.listed[:14].all()
    assert found.listed.sum() <= 17
    assert found.p_values == pytest.approx(conformal_p(-held_out, -generated))
    assert found.sentence.startswith(f"copying: at least {found.counts.at_least} of 300 images are copies of training")
    assert 12 <= found.counts.at_least <= 14
    assert f"{found.listed.sum()} are listed, at most 10 % of them expected to be wrong" in found.sentence
    assert found.sentence.endswith("allowed 0 %")


def test_few_images_that_are_all_copies_are_called() -> None:
    found = judged(np.linspace(0.0, 1.0, 100), np.full(12, 5.0))
    assert (found.verdict, found.high) == ("copying", 1.0)


@pytest.mark.parametrize(("n", "m"), [(2, 1), (1, 1)])
def test_too_few_images_are_never_called(n: int, m: int) -> None:
    found = judged(np.arange(float(n)), np.full(m, 99.0))
    assert (found.verdict, found.smallest_seen) == ("inconclusive", None)


@pytest.mark.parametrize("detectable", [0.01, 0.2, 0.9])
@pytest.mark.parametrize("rank", [4, 8])
def test_an_excess_without_an_image_that_stands_out_is_inconclusive(detectable: float, rank: int) -> None:
    """More images than chance explains lie among the highest held-out scores, none above them."""
    held_out = np.linspace(0.0, 1.0, 1000)
    generated = np.append(np.full(38, held_out[-rank] + 1e-6), np.linspace(0.0, 0.9, 962))
    found = judged(held_out, generated, detectable=detectable)
    assert found.verdict == "inconclusive"
    assert (found.counts.at_least > 20, found.counts.low > 0.01, bool(found.listed.any())) == (True, True, False)
    assert found.sentence.startswith(f"inconclusive: 38 of 1,000 images lie above the line that 0.{rank} % of unseen")
    assert f"at least {found.counts.at_least} more than unseen images explain" in found.sentence
    assert "none of them can be listed as a copy" in found.sentence
    assert "are copies" not in found.sentence
    above = judged(held_out, np.append(np.full(38, 1.1), generated[38:]), detectable=detectable)
    assert (above.verdict, int(above.listed.sum())) == ("copying", 38)


def test_with_very_few_held_out_images_nothing_is_listed_and_so_nothing_called() -> None:
    found = judged(np.linspace(0.0, 1.0, 8), np.full(50, 5.0), detectable=0.9)
    assert (found.verdict, found.smallest_seen, found.high) == ("inconclusive", None, 1.0)
    assert found.counts.at_least > 0
    assert judged(np.linspace(0.0, 1.0, 9), np.full(50, 5.0)).verdict == "copying"


def test_the_upper_bound_is_never_below_the_lower_one() -> None:
    """They are of different lines: here all hits lie above the highest held-out score, and none below."""
    found = judged(np.linspace(0.0, 1.0, 5000), np.append(np.full(16, 2.0), np.full(4984, -1.0)))
    counts = found.counts
    assert upper_rate(counts.hits[-1], counts.m, counts.ranks[-1], counts.n) < counts.low == found.high


@pytest.mark.parametrize(("detectable", "verdict"), [(0.01, "inconclusive"), (0.05, "no copying seen")])
def test_copies_within_the_allowed_rate_are_named(detectable: float, verdict: str) -> None:
    found = judged(np.linspace(0.0, 1.0, 2000), spread(2000, 30), allowed=0.02, detectable=detectable)
    assert found.verdict == verdict
    assert found.counts.at_least > 20
    assert f"at least {found.counts.at_least} of 2,000 images are copied" in found.sentence
    assert "2 % is allowed" in found.sentence
    assert judged(np.linspace(0.0, 1.0, 2000), spread(2000, 30)).verdict == "copying"


@pytest.mark.parametrize(("allowed", "detectable"), [(-0.1, 0.01), (1.0, 0.01), (0.0, 0.0), (0.0, 1.1)])
def test_rates_out_of_range_are_refused(allowed: float, detectable: float) -> None:
    with pytest.raises(ValueError, match="need 0 <="):
        judged(np.zeros(3), np.zeros(3), allowed=allowed, detectable=detectable)
