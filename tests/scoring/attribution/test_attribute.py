from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import chi2, norm
from sklearn.metrics import roc_auc_score

from benchmarks.open_set import reliability
from scoring.attribution.attribute import Power, attribute
from scoring.attribution.enrolment import Enrolment, enrol
from scoring.attribution.profile import Profile
from tests.scoring.makers import LAYERS, WIDTH, centres, images, profile_of, run_of


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


def test_the_answer_is_made_of_distances_as_stated() -> None:
    enrolment, where = world(1, apart=0.3)
    rng = np.random.default_rng(1)
    profile = profile_of(images(where[3], 40, rng), rng)
    found = attribute(profile, enrolment, unknown=0.3)
    curve, signature = (part[0] for part in enrolment.distances([profile]))
    names = [maker.name for maker in enrolment.makers]
    fused = enrolment.weights[0] * curve + enrolment.weights[1] * signature
    assert enrolment.unknown is not None
    slope, offset = enrolment.unknown
    odds = 0.3 / 0.7 * np.exp(offset) * fused.min() ** slope
    assert found.unknown == pytest.approx(odds / (1 + odds))
    for one in found.candidates:
        k = names.index(one.maker)
        assert one.posterior == pytest.approx((1 - found.unknown) / np.exp(0.5 * (fused[k] - fused)).sum())
        assert one.curve_posterior == pytest.approx(1 / np.exp(0.5 * enrolment.alone[0] * (curve[k] - curve)).sum())
        alone = np.exp(0.5 * enrolment.alone[1] * (signature[k] - signature))
        assert one.signature_posterior == pytest.approx(1 / alone.sum())
        as_far = sum(other >= fused[k] for other in enrolment.null)
        assert one.p_value == pytest.approx((1 + as_far) / (enrolment.trials + 1))
        assert (one.d2, one.t2) == (curve[k], signature[k])
        assert one.d2_p == pytest.approx(1 - chi2(LAYERS).cdf(curve[k]))


@pytest.mark.usefixtures("slow")
def test_it_is_nearly_as_often_right_as_who_knows_the_truth() -> None:
    """The best rule sees the hidden vectors and knows where the makers lie and how their images vary."""
    ours, best, spread = [], [], np.linspace(2, 0.5, WIDTH)
    for seed in range(20):
        enrolment, where = world(seed, apart=0.4)
        rng = np.random.default_rng(5000 + seed)
        own = np.repeat(np.arange(6), 8)
        hidden = [images(where[k], 30, rng) for k in own]
        found = enrolment.distances([profile_of(one, rng) for one in hidden])
        ours += list(np.tensordot(enrolment.weights, np.stack(found), 1).argmin(axis=1) == own)
        means = np.array([one.mean(axis=0) for one in hidden])
        best += list((((means[:, None] - where) / spread) ** 2).sum(axis=2).argmin(axis=1) == own)
    assert 0.85 < np.mean(best) < 0.995
    assert np.mean(best) - 0.05 < np.mean(ours) <= np.mean(best) + 0.01


@pytest.mark.usefixtures("slow")
def test_stated_confidence_is_about_right() -> None:
    """Overlapping makers: over many worlds, confidence differs from accuracy by no more than .03 and chance."""
    confidence, right, gaps = [], [], []
    for seed in range(14):
        enrolment, where = world(seed, apart=0.25)
        rng = np.random.default_rng(1000 + seed)
        own = np.repeat(np.arange(6), 3)
        answers = [attribute(profile_of(images(where[k], 40, rng), rng), enrolment, unknown=0.0) for k in own]
        stated = [one.candidates[0].posterior for one in answers]
        true = [one.candidates[0].maker == f"maker {k}" for one, k in zip(answers, own, strict=True)]
        confidence += stated
        right += true
        gaps.append(np.mean(stated) - np.mean(true))
    assert 0.6 < np.mean(right) < 0.98
    assert abs(np.mean(gaps)) < 0.03 + 2 * np.std(gaps) / 14**0.5
    assert reliability(np.array(confidence), np.array(right)).ece < 0.08


@pytest.mark.usefixtures("slow")
def test_the_probability_of_an_unknown_maker_is_about_right() -> None:
    """Half of the sets are of makers that are not enrolled, as the prior says."""
    stated, strange = [], []
    for seed in range(16):
        rng = np.random.default_rng(seed)
        where = centres(8, 0.4, rng)
        enrolment = enrol([run_of(f"maker {k}", images(where[k], 200, rng), rng) for k in range(6)])
        for k in (0, 1, 2, 3, 6, 6, 7, 7):
            stated.append(attribute(profile_of(images(where[k], 40, rng), rng), enrolment).unknown)
            strange.append(k > 5)
    unknown, is_strange = np.array(stated), np.array(strange)
    assert unknown.mean() == pytest.approx(0.5, abs=0.1)
    assert reliability(unknown, is_strange, bins=5).ece < 0.12
    assert roc_auc_score(is_strange, unknown) > 0.85


@pytest.mark.parametrize(("m", "images_of_set"), [(200, 40), (200, 150), (600, 60)])
@pytest.mark.usefixtures("slow")
def test_the_own_maker_is_refused_at_the_stated_rate(m: int, images_of_set: int) -> None:
    """p-values of 30 trial sets take the values i/31, each as often: within the error seen between worlds."""
    p_values = []
    for seed in range(20):
        enrolment, where = world(seed, m=m)
        rng = np.random.default_rng(2000 + seed)
        own = np.repeat(np.arange(6), 8)
        sets = [profile_of(images(where[k], images_of_set, rng), rng) for k in own]
        fused = np.tensordot(enrolment.weights, np.stack(enrolment.distances(sets)), 1)[np.arange(48), own]
        p_values.append((1 + (enrolment.null >= fused[:, None]).sum(axis=1)) / 31)
    p = np.array(p_values)
    for level in (1, 3, 6, 15, 24):
        by_world = (p <= level / 31 + 1e-9).mean(axis=1)
        assert by_world.mean() == pytest.approx(level / 31, abs=3 * by_world.std() / 20**0.5 + 0.01)


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


def test_the_verdict_follows_from_level_and_confidence() -> None:
    enrolment, where = world(14, apart=0.35)
    rng = np.random.default_rng(15)
    seen = set()
    for shift in np.repeat([0.0, 1.0, 4.0], 20):
        profile = profile_of(images(where[0] + shift, 30, rng), rng)
        for reject in (0.05, 0.3):
            found = attribute(profile, enrolment, reject=reject)
            refused = all(one.p_value < reject for one in found.candidates)
            sure = found.candidates[0].posterior >= 0.95
            assert found.verdict == ("unknown" if refused else "attributed" if sure else "undecided")
            seen.add(found.verdict)
    assert seen == {"attributed", "unknown", "undecided"}


def test_the_prior_of_an_unknown_maker_counts() -> None:
    enrolment, where = world(5)
    rng = np.random.default_rng(6)
    profile = profile_of(images(where[1], 60, rng), rng)
    none, some, most = (attribute(profile, enrolment, unknown=prior).unknown for prior in (0.0, 0.5, 0.95))
    assert none == 0
    assert none < some < most


@pytest.mark.parametrize("reject", [0.3, 0.2, 0.1, 0.07, 0.05, 0.01, 0.001])
def test_too_few_trials_are_said(reject: float) -> None:
    """The number named is the least with which the smallest p-value, 1/(N + 1), lies below the level."""
    enrolment, where = world(7, count=2, m=120)  # two makers of four parts
    rng = np.random.default_rng(8)
    found = attribute(profile_of(images(where[0] + 9, 60, rng), rng), enrolment, reject=reject)
    needed = next(n for n in itertools.count() if Fraction(1, n + 1) < Fraction(str(reject)))
    if needed <= 8:
        assert found.verdict == "unknown"
    else:
        assert found.verdict == "undecided"
        said = f"; nothing can be rejected at {reject:g} with 8 trial sets, {needed} are needed"
        assert found.sentence.endswith(said)


def test_at_the_level_itself_nothing_is_refused() -> None:
    """19 trial sets: the smallest p-value is .05, which is not below .05; a trial set as far counts as one farther."""
    enrolment, where = world(3, apart=1.0)
    rng = np.random.default_rng(4)
    profile = profile_of(images(where[0] + 6, 80, rng), rng)
    curve, signature = (part[0] for part in enrolment.distances([profile]))
    fused = enrolment.weights @ np.stack([curve, signature])
    near = attribute(profile, replace(enrolment, null=np.linspace(0, 1, 19)))
    assert near.candidates[0].p_value == 0.05
    assert near.verdict != "unknown"
    undecided = attribute(profile, replace(enrolment, null=np.linspace(0, 1, 19), unknown=(0.0, 0.0)))
    assert "with 19 trial sets, 20 are needed" in undecided.sentence
    assert attribute(profile, replace(enrolment, null=np.linspace(0, 1, 20))).verdict == "unknown"
    tied = attribute(profile, replace(enrolment, null=np.array([0.0, fused.min(), fused.max() + 1])))
    assert tied.candidates[0].p_value == 3 / 4


def test_without_any_trial_the_prior_stands() -> None:
    enrolment, where = world(7, count=3, m=30)
    rng = np.random.default_rng(8)
    found = attribute(profile_of(images(where[0] + 9, 60, rng), rng), enrolment, unknown=0.2)
    assert (found.verdict, found.unknown) == ("undecided", 0.2)
    assert {one.p_value for one in found.candidates} == {1.0}
    assert "with 0 trial sets, 20 are needed" in found.sentence


@pytest.mark.parametrize(
    ("apart", "sizes", "images_of_set", "most_slack"),
    [
        (0.3, (400,), 30, 0.08),
        (0.3, (60,), 30, 0.3),
        (0.3, (400, 60), 30, 0.25),
    ],
    ids=["well enrolled", "few images", "unequal"],
)
@pytest.mark.usefixtures("slow")
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


@pytest.mark.usefixtures("slow")
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


@pytest.mark.usefixtures("slow")
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
    assert "more images cannot distinguish it from its nearest rival" in found.sentence


def test_the_power_is_what_its_formula_says() -> None:
    """The union bound over rivals, written out for makers with one to three runs."""
    rng, runs = np.random.default_rng(17), []
    for k, centre in enumerate(centres(3, 1.5, rng)):
        for r in range(3 - k):
            moved = centre + 0.8 * rng.normal(size=WIDTH)
            runs.append(run_of(f"maker {k}", images(moved, 150, rng), rng, str(r)))
    enrolment = enrol(runs)
    assert enrolment.spread is not None
    assert min(enrolment.spread.variance, enrolment.drift) > 0.01
    spread, b, m = enrolment.spread.covariance, enrolment.drift, 40
    for k, one in enumerate(enrolment.makers):
        errors = 0.0
        for other in enrolment.makers[:k] + enrolment.makers[k + 1 :]:
            mine, theirs = one.profile, other.profile
            known = mine.curve.covariance + spread / one.runs, theirs.curve.covariance + spread / other.runs
            total = mine.curve.covariance * mine.images / m + spread + known[1]
            inverse = np.linalg.inv(total + 0.1 * np.diag(np.diag(total)))
            step = mine.curve.x - theirs.curve.x
            means = 1 / mine.images + b / one.runs, 1 / theirs.images + b / other.runs
            variance = 1 / m + b + means[1]
            raw = sum(
                float(np.square(whitener @ (mine.signature[i].mean - theirs.signature[i].mean)).sum())
                for i, whitener in enumerate(other.whiteners)
            )
            delta = enrolment.weights @ [step @ inverse @ step, raw / variance]
            nu = enrolment.weights @ [np.trace(inverse @ sum(known)), WIDTH * LAYERS * sum(means) / variance]
            errors += norm.cdf(-(delta - nu) / (2 * delta**0.5))
        assert 0 < errors < 1
        assert Power.of(enrolment, k).chance(m) == pytest.approx(1 - errors)


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
    sure = attribute(profile, enrolment, unknown=0.0)
    assert (sure.verdict, sure.candidates[0].posterior) == ("attributed", 1.0)
    with pytest.raises(ValueError, match="other layers"):
        attribute(Profile(profile.placed, profile.signature[:-1], profile.c_t), enrolment)
    for wrong in ({"reject": 0.0}, {"reject": 1.0}, {"unknown": 1.0}, {"unknown": -0.1}):
        with pytest.raises(ValueError, match="must lie in"):
            attribute(profile, enrolment, **wrong)
