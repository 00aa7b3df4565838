from __future__ import annotations

import numpy as np
import pytest

from scoring.attribution import Power, attribute
from scoring.enrolment import Enrolment, enrol
from scoring.open_set import reliability
from tests.scoring.makers import WIDTH, centres, images, profile_of, run_of


def world(seed: int, count: int = 6, apart: float = 0.5, m: int = 200) -> tuple[Enrolment, np.ndarray]:
    rng = np.random.default_rng(seed)
    where = centres(count, apart, rng)
    runs = [run_of(f"maker {k}", images(centre, m, rng), rng) for k, centre in enumerate(where)]
    return enrol(runs), where


def test_probabilities_sum_to_one_and_the_best_stands_first() -> None:
    enrolment, where = world(0)
    rng = np.random.default_rng(1)
    found = attribute(profile_of(images(where[2], 60, rng), rng), enrolment)
    assert sum(one.posterior for one in found.candidates) + found.unknown == pytest.approx(1)
    assert sum(one.curve_posterior for one in found.candidates) == pytest.approx(1)
    assert sum(one.signature_posterior for one in found.candidates) == pytest.approx(1)
    posteriors = [one.posterior for one in found.candidates]
    assert posteriors == sorted(posteriors, reverse=True)
    assert found.candidates[0].maker == "maker 2"


def test_stated_confidence_is_about_right() -> None:
    """Overlapping makers: confidence and accuracy over many worlds differ by little."""
    confidence, right = [], []
    for seed in range(25):
        enrolment, where = world(seed, apart=0.25)
        rng = np.random.default_rng(1000 + seed)
        for k, centre in enumerate(where):
            for _ in range(4):
                found = attribute(profile_of(images(centre, 40, rng), rng), enrolment, unknown=0.0)
                confidence.append(found.candidates[0].posterior)
                right.append(found.candidates[0].maker == f"maker {k}")
    found_reliability = reliability(np.array(confidence), np.array(right))
    assert 0.6 < np.mean(right) < 0.98
    assert found_reliability.ece < 0.08


def test_the_own_maker_is_refused_at_the_stated_rate() -> None:
    p_values = []
    for seed in range(20):
        enrolment, where = world(seed)
        rng = np.random.default_rng(2000 + seed)
        for k, centre in enumerate(where):
            found = attribute(profile_of(images(centre, 60, rng), rng), enrolment)
            p_values.append(next(one.p_value for one in found.candidates if one.maker == f"maker {k}"))
    p = np.array(p_values)
    monte_carlo = 3 * (0.2 * 0.8 / len(p)) ** 0.5
    assert abs((p <= 0.2).mean() - 0.2) < monte_carlo + 0.06  # makers share one null distribution: not exact
    assert (p <= 1 / 31).mean() < 0.1


def test_a_stranger_is_refused_and_own_images_are_attributed() -> None:
    enrolment, where = world(3, apart=1.0)
    rng = np.random.default_rng(4)
    found = attribute(profile_of(images(where[0] + 6, 80, rng), rng), enrolment)
    assert found.verdict == "unknown"
    assert found.unknown > 0.9
    assert "none of the 6 enrolled releases made these 80 images" in found.sentence
    own = [attribute(profile_of(images(where[0], 80, rng), rng), enrolment) for _ in range(40)]
    assert {one.candidates[0].maker for one in own} == {"maker 0"}
    assert np.mean([one.verdict == "attributed" for one in own]) > 0.6
    assert np.mean([one.verdict == "unknown" for one in own]) < 0.05 + 3 * (0.05 * 0.95 / 40) ** 0.5


def test_the_prior_of_an_unknown_maker_counts() -> None:
    enrolment, where = world(5)
    rng = np.random.default_rng(6)
    profile = profile_of(images(where[1], 60, rng), rng)
    none, some, most = (attribute(profile, enrolment, unknown=prior).unknown for prior in (0.0, 0.5, 0.95))
    assert none == 0
    assert none < some < most


def test_too_few_trials_are_said() -> None:
    enrolment, where = world(7, count=2, m=120)  # two makers of four parts
    rng = np.random.default_rng(8)
    found = attribute(profile_of(images(where[0] + 9, 60, rng), rng), enrolment)
    assert found.verdict == "undecided"
    assert "with 8 trial sets, 20 are needed" in found.sentence


@pytest.mark.parametrize(
    ("apart", "sizes", "images_of_set", "most_slack"),
    [
        (0.3, (400,), 30, 0.08),
        (0.3, (60,), 30, 0.3),
        (0.3, (400, 60), 30, 0.25),
    ],
    ids=["well enrolled", "few images", "unequal"],
)
def test_the_power_is_a_lower_bound_of_the_accuracy(
    apart: float, sizes: tuple[int, ...], images_of_set: int, most_slack: float
) -> None:
    """And not far below it."""
    excess = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        where = centres(6, apart, rng)
        several = [sizes[k % len(sizes)] for k in range(6)]
        enrolment = enrol([run_of(f"maker {k}", images(where[k], several[k], rng), rng) for k in range(6)])
        sets = [profile_of(images(where[k], images_of_set, rng), rng) for k in range(6) for _ in range(10)]
        nearest = np.tensordot(enrolment.weights, np.stack(enrolment.distances(sets)), 1).argmin(axis=1)
        stated = [Power.of(enrolment, k).chance(images_of_set) for k in range(6)]
        excess.append(np.mean(stated) - np.mean(nearest == np.repeat(np.arange(6), 10)))
    assert np.mean(excess) < 2 * np.std(excess) / 12**0.5
    assert np.mean(excess) > -most_slack


def test_the_power_holds_for_runs_of_one_model_that_differ() -> None:
    """Rivals with one run are known less well than those with four; the set is a run of its own."""
    excess = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        where = centres(6, 0.6, rng)

        def run(centre: np.ndarray, m: int, rng: np.random.Generator = rng) -> np.ndarray:
            return images(centre + 0.3 * rng.normal(size=WIDTH) * np.linspace(2, 0.5, WIDTH), m, rng)

        enrolment = enrol(
            [run_of(f"maker {k}", run(where[k], 150), rng, str(r)) for k in range(6) for r in range(1 + 3 * (k % 2))]
        )
        sets = [profile_of(run(where[k], 100), rng) for k in range(6) for _ in range(8)]
        nearest = np.tensordot(enrolment.weights, np.stack(enrolment.distances(sets)), 1).argmin(axis=1)
        stated = [Power.of(enrolment, k).chance(100) for k in range(6)]
        excess.append(np.mean(stated) - np.mean(nearest == np.repeat(np.arange(6), 8)))
    assert np.mean(excess) < 2 * np.std(excess) / 12**0.5
    assert np.mean(excess) > -0.25


def test_no_number_of_images_tells_a_maker_from_itself() -> None:
    """In 32 coordinates the means of 200 images lie well apart, for being estimates alone."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        enrolment = enrol([run_of(f"maker {k}", rng.normal(size=(200, 32)), rng) for k in range(6)])
        powers = [Power.of(enrolment, k) for k in range(6)]
        assert {power.needed() for power in powers} == {None}
        assert np.mean([power.chance(200) for power in powers]) < 1 / 6
    found = attribute(profile_of(rng.normal(size=(60, 32)), rng), enrolment)
    assert (found.verdict, found.needed) == ("undecided", None)
    assert "cannot be told from its nearest rival by more images" in found.sentence


def test_the_images_needed_give_the_chance_promised() -> None:
    enrolment, where = world(9, apart=0.4)
    power = Power.of(enrolment, 0)
    needed = power.needed()
    assert needed is not None
    assert power.chance(needed) >= 0.95 > power.chance(needed - 1)
    assert power.chance(10) < power.chance(100)
    found = attribute(profile_of(images(where[0], 5, np.random.default_rng(1)), np.random.default_rng(2)), enrolment)
    first = [maker.name for maker in enrolment.makers].index(found.candidates[0].maker)
    assert found.chance == Power.of(enrolment, first).chance(5)
    assert found.needed == Power.of(enrolment, first).needed()


def test_a_single_maker_is_possible_and_other_levels_are_not() -> None:
    enrolment, where = world(10, count=1)
    rng = np.random.default_rng(11)
    profile = profile_of(images(where[0], 60, rng), rng)
    found = attribute(profile, enrolment)
    assert (found.unknown, found.candidates[0].posterior) == (0.5, 0.5)
    assert found.chance == 1.0
    for wrong in ({"reject": 0.0}, {"reject": 1.0}, {"unknown": 1.0}, {"unknown": -0.1}):
        with pytest.raises(ValueError, match="must lie in"):
            attribute(profile, enrolment, **wrong)
