from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from scoring.attribution.attribute import REJECT, UNKNOWN, attribute, sole
from scoring.attribution.enrolment import Enrolment, enrol
from scoring.attribution.needed import LIKELY, MOST_IMAGES, Needed
from tests.scoring.makers import WIDTH, centres, images, profile_of, run_of

Array = np.ndarray
SPREAD = np.linspace(2, 0.5, WIDTH)


def world(seed: int, apart: float = 0.5, m: int = 600, count: int = 6) -> tuple[Enrolment, Array]:
    rng = np.random.default_rng(seed)
    where = centres(count, apart, rng)
    return enrol([run_of(f"maker {k}", images(where[k], m, rng), rng) for k in range(count)]), where


def needed(enrolment: Enrolment, maker: int) -> Needed:
    return Needed(enrolment, maker, partial(sole, enrolment, reject=REJECT, unknown=UNKNOWN))


def named_alone(enrolment: Enrolment, where: Array, maker: int, m: int, rng: np.random.Generator) -> float:
    """Share of 60 fresh sets."""
    sets = [profile_of(images(where[maker], m, rng), rng) for _ in range(60)]
    fused = enrolment.distances(sets).fused
    return float(np.mean([sole(enrolment, row, REJECT, UNKNOWN) == maker for row in fused]))


@pytest.mark.usefixtures("slow")
def test_the_images_needed_are_those_that_it_takes() -> None:
    """In 80 % of cases 80 % of fresh sets are named alone from a number within a factor of 2.

    60 sets tell the share to .05, the standard error of .8.

    The makers are enrolled with more images than it takes: the errors of their means stay as they are whatever the
    number of images asked with, and nothing of the enrolled images tells on which side they lie.
    """
    within = []
    for seed in range(10):
        enrolment, where = world(seed)
        rng = np.random.default_rng(1000 + seed)
        for maker in range(6):
            said = needed(enrolment, maker).images()
            if said is None:
                within.append(named_alone(enrolment, where, maker, 20_000, rng) < LIKELY)
            else:
                few, many = (named_alone(enrolment, where, maker, max(m, 2), rng) for m in (said // 2, 2 * said))
                within.append(few <= LIKELY + 0.05 and many >= LIKELY - 0.05)
    assert np.mean(within) >= 0.8


@pytest.mark.parametrize("m", [15, 40, 150])
@pytest.mark.usefixtures("slow")
def test_simulated_sets_lie_as_far_as_real_ones(m: int) -> None:
    """From their own maker and from the nearest other, in mean and in spread, over worlds."""
    logs = []
    for seed in range(8):
        enrolment, where = world(seed)
        rng = np.random.default_rng(2000 + seed)
        for maker in range(0, 6, 2):
            real = enrolment.distances([profile_of(images(where[maker], m, rng), rng) for _ in range(100)]).fused
            pair = []
            for fused in (needed(enrolment, maker).fused(m), real):
                own, other = np.log(fused[:, maker]), np.log(np.delete(fused, maker, 1).min(axis=1))
                pair.append((own.mean(), own.std(), other.mean(), other.std()))
            logs.append(np.subtract(pair[0], pair[1]))
    off, chance = np.mean(logs, axis=0), np.std(logs, axis=0) / len(logs) ** 0.5
    assert (np.abs(off) < 3 * chance + 0.1).all()


@pytest.mark.usefixtures("slow")
def test_the_stated_chance_is_the_share_named_alone() -> None:
    off = []
    for seed in range(8):
        enrolment, where = world(seed)
        rng = np.random.default_rng(3000 + seed)
        off.append(
            np.mean(
                [
                    needed(enrolment, maker).chance(m) - named_alone(enrolment, where, maker, m, rng)
                    for maker in range(6)
                    for m in (20, 60)
                ]
            )
        )
    assert np.mean(off) == pytest.approx(0, abs=0.05 + 2 * np.std(off) / 8**0.5)


def test_no_number_of_images_tells_a_maker_from_itself() -> None:
    """In 32 coordinates the means of 200 images lie well apart, for being estimates alone."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        enrolment = enrol([run_of(f"maker {k}", rng.normal(size=(200, 32)), rng) for k in range(6)])
        assert {needed(enrolment, k).images() for k in range(6)} == {None}
        closed = [Needed(enrolment, k, partial(sole, enrolment, reject=REJECT, unknown=0.0)).images() for k in range(6)]
        assert set(closed) == {None}
    found = attribute(profile_of(rng.normal(size=(60, 32)), rng), enrolment)
    assert (found.verdict, found.needed) == ("undecided", None)
    assert found.sentence.endswith("; no number of images would tell")


def test_twins_among_others_need_no_number_of_images_and_the_others_few() -> None:
    rng = np.random.default_rng(0)
    where = centres(12, 1.5, rng)
    where[1] = where[0]
    enrolment = enrol([run_of(f"maker {k:02d}", images(where[k], 400, rng), rng) for k in range(12)])
    said = [needed(enrolment, k).images() for k in range(12)]
    assert said[:2] == [None, None]
    assert all(one is not None and one < 200 for one in said[2:])


def test_the_number_is_the_least_within_a_tenth() -> None:
    enrolment, _ = world(9)
    for maker in range(6):
        power = needed(enrolment, maker)
        least = power.images()
        assert least is not None
        assert 2 < least < MOST_IMAGES
        assert power.chance(least) >= LIKELY > power.chance(min(least - 1, int(least / 1.1)))
        assert power.chance(5) < power.chance(400)


def test_makers_farther_apart_need_fewer_images() -> None:
    near, far = (world(4, apart)[0] for apart in (0.3, 1.0))
    said = [
        [Needed(one, k, partial(sole, one, reject=REJECT, unknown=0.0)).images() or MOST_IMAGES for k in range(6)]
        for one in (near, far)
    ]
    assert np.median(said[1]) < np.median(said[0]) / 3
    assert needed(near, 0).images() == needed(near, 0).images()


@pytest.mark.usefixtures("slow")
def test_new_runs_that_differ_need_more_and_the_chance_holds_for_them() -> None:
    """Three runs of each enrolled; the set is of a run of its own."""
    off = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        where = centres(6, 1.0, rng)

        def run(centre: Array, m: int, rng: np.random.Generator = rng) -> Array:
            return images(centre + 0.3 * rng.normal(size=WIDTH) * SPREAD, m, rng)

        enrolment = enrol([run_of(f"m{k}", run(where[k], 150), rng, str(r)) for k in range(6) for r in range(3)])
        assert enrolment.rule.drift > 0.02
        for k in range(6):
            fused = enrolment.distances([profile_of(run(where[k], 60), rng) for _ in range(30)]).fused
            share = np.mean([sole(enrolment, row, REJECT, UNKNOWN) == k for row in fused])
            off.append(needed(enrolment, k).chance(60) - share)
    assert np.mean(off) == pytest.approx(0, abs=0.07 + 2 * np.std(off) / 48**0.5)
