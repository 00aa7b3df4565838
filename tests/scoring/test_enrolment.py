from __future__ import annotations

import numpy as np
import pytest

from scoring.enrolment import enrol, raw_signature_distances
from scoring.profile import Run
from tests.scoring.makers import LAYERS, WIDTH, centres, images, profile_of, run_of


def makers(seed: int, count: int = 6, m: int = 150, apart: float = 0.5, runs: int = 1, shift: float = 0.0) -> list[Run]:
    rng = np.random.default_rng(seed)
    found = []
    for k, centre in enumerate(centres(count, apart, rng)):
        for r in range(runs):
            moved = centre + shift * rng.normal(size=WIDTH) * np.linspace(2, 0.5, WIDTH)
            found.append(run_of(f"maker {k}", images(moved, m, rng), rng, str(r)))
    return found


def test_the_order_of_runs_does_not_matter() -> None:
    runs = makers(0, runs=2)
    first, second = enrol(runs), enrol(runs[::-1])
    assert [maker.name for maker in first.makers] == [maker.name for maker in second.makers]
    assert first.weights == pytest.approx(second.weights, rel=1e-4)
    assert first.null == pytest.approx(second.null, rel=1e-4)


def test_sets_lie_as_far_from_their_own_maker_as_sampling_says() -> None:
    """T² of k coordinates and L layers has the mean k·L, D² of L layers less than L (for the ridge)."""
    rng = np.random.default_rng(1)
    centre = np.zeros(WIDTH)
    enrolment = enrol([run_of("one", images(centre, 400, rng), rng), run_of("two", images(centre + 1, 400, rng), rng)])
    found = enrolment.distances([profile_of(images(centre, 80, rng), rng) for _ in range(300)])
    assert found.signature[:, 0].mean() == pytest.approx(WIDTH * LAYERS, rel=0.12)
    assert 0.75 * LAYERS < found.curve[:, 0].mean() < 1.1 * LAYERS


def test_the_trials_leave_each_set_out_of_its_maker() -> None:
    runs = makers(2, count=3)
    enrolment = enrol(runs)
    assert (enrolment.trials, len(enrolment.null)) == (15, 15)
    within = raw_signature_distances([part for run in runs for part in run.parts], enrolment.makers)
    nearest = within[np.arange(15), np.repeat(np.arange(3), 5)] / (1 / 30 + 1 / 150)
    assert enrolment.null.mean() > 1.3 * (enrolment.weights[1] * nearest).mean()


def test_drift_between_runs_is_measured_where_there_are_several() -> None:
    """A shift of s standard deviations in every hidden coordinate is s²/(1 + noise) of a layer's variance."""
    found = enrol(makers(3, count=12, m=300, runs=3, shift=0.4))
    spread = np.linspace(2, 0.5, WIDTH) ** 2
    assert found.drift == pytest.approx(0.16 * float((spread / (spread + 0.16)).mean()), rel=0.25)
    assert found.spread is not None
    assert enrol(makers(3, count=12, m=300, runs=3)).drift < 0.005
    alone = enrol(makers(3, count=4))
    assert (alone.drift, alone.spread) == (0.0, None)


def test_far_makers_are_told_apart_and_distance_speaks_for_a_stranger() -> None:
    enrolment = enrol(makers(4, apart=2.0))
    assert enrolment.right == enrolment.trials == 30
    assert enrolment.stranger is not None
    assert enrolment.stranger[0] > 0
    assert (enrolment.weights > 0).all()
    assert 0 <= enrolment.best_layer < LAYERS


def test_small_sets_and_a_single_maker_teach_nothing_but_are_enrolled() -> None:
    small = enrol(makers(5, count=3, m=30))
    assert (small.trials, small.stranger) == (0, None)
    single = enrol(makers(6, count=1))
    assert single.stranger is None
    assert single.trials == 5


def test_runs_that_do_not_fit_together_are_refused() -> None:
    runs = makers(7, count=2)
    whole = runs[0].whole
    odd = Run("odd", "1", type(whole)(whole.placed, whole.signature[:-1], whole.c_t), ())
    with pytest.raises(ValueError, match="the same layers"):
        enrol([*runs, odd])
    with pytest.raises(ValueError, match="there must be a run"):
        enrol([])
    with pytest.raises(ValueError, match="other layers"):
        enrol(runs).distances([odd.whole])
