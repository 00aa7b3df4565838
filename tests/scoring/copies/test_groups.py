"""Groups of near-duplicates, the lot among them, and how honest releases in groups are judged."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from scoring.checks.repetition import Repetition, repetition_check
from scoring.copies import groups as module
from scoring.copies.evidence import DUPLICATE
from scoring.copies.groups import alike, alike_ratio, joined, region_means, representatives, sizes
from scoring.copies.units import Units, files_at_least
from scoring.verdict.copies import copies_verdict

Tokens = NDArray[np.float16]
PATCHES, DIMS = 25, 8


def unit(tokens: NDArray[np.float64]) -> Tokens:
    return np.asarray(tokens / np.linalg.norm(tokens, axis=-1, keepdims=True), np.float16)


def pictures(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return rng.normal(size=(count, PATCHES, DIMS))


def grouped(tokens: Tokens, ratio: float, distance: float = 1.0) -> NDArray[np.int64]:
    far = np.full(len(tokens), distance)
    return alike(region_means(tokens), lambda places: tokens[places], far, ratio)


def test_pictures_saved_anew_are_groups_of_any_size() -> None:
    """Also of more images than each is compared with, in any order."""
    rng = np.random.default_rng(0)
    times = np.array([1, 2, 5, 3 * module.PROPOSED, 10 * module.PROPOSED, 1, 1])
    which = rng.permutation(np.repeat(np.arange(len(times)), times))
    tokens = unit(pictures(rng, len(times))[which] + 0.05 * pictures(rng, len(which)))
    found = grouped(tokens, 0.3)
    for picture in range(len(times)):
        (places,) = np.nonzero(which == picture)
        assert set(found[places]) == {places[0]}
    assert sizes(found).tolist() == times[which].tolist()


def test_both_must_explain_the_other_and_relative_to_their_surroundings() -> None:
    rng = np.random.default_rng(1)
    base = pictures(rng, 2)
    part = base[0].copy()
    part[:] = base[0][0]  # all of its patches are in the first picture, which has others
    tokens = unit(np.stack([base[0], part, base[1], base[1] + 0.2 * pictures(rng, 1)[0]]))
    assert grouped(tokens, 0.1).tolist() == [0, 1, 2, 2]
    assert grouped(tokens, 0.1, distance=0.05).tolist() == [0, 1, 2, 3]


def test_all_pairs_of_a_small_set_are_compared() -> None:
    rng = np.random.default_rng(2)
    tokens = unit(pictures(rng, 4)[[0, 1, 0, 2, 3, 1]] + 0.05 * pictures(rng, 6))
    assert grouped(tokens, 0.2).tolist() == [0, 1, 0, 3, 4, 1]
    assert grouped(tokens[:1], 0.2).tolist() == [0]


def test_independent_images_seldom_find_a_partner_whatever_the_sizes() -> None:
    """Points of a cube of ten dimensions: nearest of the training points, then of a set of another size."""
    rng, dimension, train = np.random.default_rng(3), 10, 2000
    others = rng.random((train, dimension))
    held_out = rng.random((400, dimension))
    distances = np.sort(((held_out[:, None] - others) ** 2).sum(axis=2), axis=1)
    for count in (300, 3000):
        ratio = alike_ratio(distances[:, 0], distances[:, 49], train, count, false_rate=0.02)
        some = rng.random((count, dimension))
        far = np.sort(((some[:200, None] - others) ** 2).sum(axis=2), axis=1)[:, 49]
        between = ((some[:200, None] - some) ** 2).sum(axis=2)
        np.fill_diagonal(between, np.inf)
        share = (between.min(axis=1) <= ratio * far).mean()
        assert share <= 0.05, (count, ratio)
        assert ratio > 0.05


def test_the_limit_is_never_wider_than_that_of_training_images() -> None:
    far = np.linspace(0.8, 0.9, 500)
    assert alike_ratio(far, np.ones(500), 1000, 1000) == DUPLICATE
    assert alike_ratio(far[:50], np.ones(50), 1000, 1000) == DUPLICATE / 4


def test_groupings_are_joined() -> None:
    one, other = np.array([0, 0, 2, 3, 4, 5]), np.array([0, 1, 2, 1, 4, 4])
    assert joined(one, other).tolist() == [0, 0, 2, 0, 4, 4]
    assert joined(joined(one, other), np.arange(6)).tolist() == [0, 0, 2, 0, 4, 4]


def test_the_lot_is_fair_and_the_same_again() -> None:
    labels = np.array([7, 7, 7, 9, 7, 1])
    drawn = [representatives(labels, seed) for seed in range(400)]
    assert np.array_equal(drawn[3], representatives(labels, 3))
    assert all(sorted(labels[one]) == [1, 7, 9] for one in drawn)
    often = np.bincount(np.concatenate(drawn), minlength=6) / 400
    assert np.allclose(often, [0.25, 0.25, 0.25, 1, 0.25, 1], atol=0.08)


def test_the_smallest_pictures_bound_the_files() -> None:
    above, files = np.array([True, False, True, True]), np.array([4, 1, 2, 9])
    assert [files_at_least(count, above, files) for count in range(4)] == [0, 2, 6, 15]


def within(count: int, draws: int, level: float) -> bool:
    return count / draws <= level + 2 * math.sqrt(level * (1 - level) / draws)


@pytest.mark.parametrize(("times", "spread"), [(10, 0.01), (5, 0.0), (10, 0.5)])
def test_honest_releases_in_groups_are_seldom_called(times: int, spread: float) -> None:
    """Groups of 10 near-duplicates, 100 pictures 5 times, ten images of one prompt; counted singly they hold copies."""
    rng, draws, called, counted, wrong = np.random.default_rng(times), 400, 0, 0, 0
    for _ in range(draws):
        held_out = rng.exponential(size=300)
        release = np.repeat(rng.exponential(size=100), times)
        if spread == 0.5:  # half of a score is the image's own
            mixed = 0.5 * rng.exponential(size=100 * times)
            held_out = 0.5 * held_out + 0.5 * rng.exponential(size=300)
            release = 0.5 * release + mixed
        release = release + (spread if spread < 0.1 else 0) * rng.random(len(release))
        units = Units(np.arange(300), np.repeat(np.arange(100), times), np.full(100 * times, times), 1)
        with_units = copies_verdict(held_out, release, max_copy_rate=0, detectable=0.05, units=units)
        assert (with_units.counts.m, len(with_units.listed)) == (100, 100 * times)
        called += with_units.verdict == "copying"
        counted += copies_verdict(held_out, release, max_copy_rate=0, detectable=0.05).counts.at_least > 0
        wrong += with_units.counts.at_least > 0
    assert within(wrong, draws, 0.05)
    assert within(called, draws, 0.05)
    if spread < 0.1:
        assert not within(counted, draws, 0.05)


@pytest.mark.parametrize("own", [0.0, 0.5])
def test_lists_of_groups_keep_their_false_share_and_counts_their_level(own: float) -> None:
    rng, draws, false, wrong, said = np.random.default_rng(8), 300, [], 0, []
    for number in range(draws):
        held_out = rng.exponential(size=400) + own * rng.exponential(size=400)
        times = rng.integers(1, 12, size=120)
        copied = np.arange(120) < 8
        shared = np.where(copied, 4 + 4 * rng.random(120), rng.exponential(size=120))
        picture = np.repeat(np.arange(120), times)
        release = shared[picture] + own * rng.exponential(size=len(picture))
        units = Units(np.arange(400), picture, np.repeat(times, times), number)
        found = copies_verdict(held_out, release, max_copy_rate=0, detectable=0.05, units=units)
        false.append(found.listed[~copied[picture]].sum() / max(1, found.listed.sum()))
        wrong += found.counts.at_least > 8 or found.files_at_least > times[:8].sum()
        said.append(found.files_at_least / times[:8].sum())
        assert found.files_at_least >= found.counts.at_least
    assert np.mean(false) <= 0.1
    assert within(wrong, draws, 0.05)
    assert max(said) > 0.3


def test_held_out_images_in_groups_count_once() -> None:
    held_out = np.repeat(np.linspace(0, 1, 50), 20)
    units = Units(np.repeat(np.arange(50), 20), np.arange(400), np.ones(400, np.int64), 5)
    found = copies_verdict(held_out, np.linspace(0, 0.9, 400), max_copy_rate=0, detectable=0.01, units=units)
    assert (found.counts.n, found.p_values.min()) == (50, pytest.approx(6 / 51, abs=0.01))
    with pytest.raises(ValueError, match="groups of other images"):
        copies_verdict(held_out, held_out, max_copy_rate=0, detectable=0.01, units=units)


def test_words_name_groups() -> None:
    units = Units(np.arange(1000), np.repeat(np.arange(200), 5), np.full(1000, 5), 0)
    copies = np.where(np.arange(1000) < 100, 9.0, 0.5)
    held_out = np.linspace(0, 1, 1000)
    found = copies_verdict(held_out, copies, max_copy_rate=0, detectable=0.01, units=units)
    assert found.sentence.startswith(f"copying: at least {found.counts.at_least} of 200 groups of images are copies of")
    assert "100 images are listed" in found.sentence
    assert found.files_at_least == 5 * found.counts.at_least
    nothing = copies_verdict(held_out, np.full(1000, 0.5), max_copy_rate=0, detectable=0.01, units=units)
    assert "with no hit, 299 groups of images would do" in nothing.sentence


def test_repetition_is_told_against_that_of_unseen_images() -> None:
    rare = Repetition.of(np.r_[0, 0, 2:1000], np.ones(1000, np.int64))
    assert (rare.pictures, rare.repeated, rare.cliques, rare.largest) == (999, 2, 1, 2)
    often = Repetition.of(np.repeat(np.arange(250), 4), np.ones(1000, np.int64))
    same = Repetition.of(np.arange(100), np.full(100, 50))
    assert (same.images, same.pictures, same.largest, same.share) == (5000, 100, 50, 1.0)
    assert repetition_check(rare, rare).passed
    assert repetition_check(often, often).passed
    found = repetition_check(often, rare)
    assert (found.passed, found.severity, found.value) == (False, "note", 1.0)
    assert "1,000 images show 250 pictures: 250 pictures occur 2 to 4 times" in found.sentence
    assert "1 picture occurs twice, 2 images together (0.2 %)" in repetition_check(rare, rare).sentence
