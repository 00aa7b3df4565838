from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from scoring.attribution.enrolment import enrol
from scoring.attribution.unknown import UnknownRule, fit_unknown
from tests.scoring.makers import centres, images, profile_of, run_of

Floats = NDArray[np.float64]
RNG = np.random.default_rng(0)


def alone(own: NDArray[np.intp], makers: int) -> Floats:
    """Probabilities of makers that nothing else resembles."""
    sure: Floats = np.eye(makers)[own]
    return sure


def trials(n: int = 40, makers: int = 5, far: float = 4.0) -> tuple[Floats, NDArray[np.intp]]:
    own = np.arange(n) % makers
    distances = far * RNG.chisquare(8, (n, makers)) / 8
    distances[np.arange(n), own] = RNG.chisquare(8, n) / 8
    return distances, own


@pytest.mark.parametrize("far", [1.3, 2.0, 4.0])
def test_the_odds_are_a_logistic_regression_on_the_nearest_and_its_lead_with_priors(far: float) -> None:
    """By plain loops and another optimiser."""
    distances, own = trials(far=far)
    x, y = [], []
    for row, k in zip(distances, own, strict=True):
        for kept, target in ((list(row), 1 / 42), ([d for j, d in enumerate(row) if j != k], 41 / 42)):
            first, second = sorted(kept)[:2]
            x.append((np.log(first), np.log(second / first)))
            y.append(target)

    def loss(at: Floats) -> float:
        p = [expit(at[0] + at[1] * near - at[2] * gap) for near, gap in x]
        fit = sum(t * np.log(one) + (1 - t) * np.log1p(-one) for one, t in zip(p, y, strict=True))
        return float(-fit + ((at[1] - 4) ** 2 + (at[2] - 7) ** 2) / 18)

    bounds = [(None, None), (0, None), (0, None)]
    best = minimize(loss, np.ones(3), method="SLSQP", options={"ftol": 1e-12}, bounds=bounds).x
    assert np.array(fit_unknown(distances, own, alone(own, 5))) == pytest.approx(best, rel=0.01, abs=1e-3)


def test_the_probability_is_what_its_formula_says() -> None:
    rule, prior = UnknownRule(0.3, 2.0, 3.0), 0.2
    odds = np.exp(0.3) * 1.5**2 / (4.5 / 1.5) ** 3 * 0.2 / 0.8
    assert rule.probability(np.array([9.0, 1.5, 4.5]), prior) == pytest.approx(odds / (1 + odds))
    assert rule.probability(np.array([9.0, 1.5, 4.5]), 0.0) == 0
    assert rule.probability(np.array([1.5]), 0.5) == pytest.approx(np.exp(0.3) * 1.5**2 / (1 + np.exp(0.3) * 1.5**2))


def test_distance_never_speaks_against_a_stranger_nor_a_lead_for_one() -> None:
    """Whatever the trials: here the own maker is the farthest."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        distances, own = rng.chisquare(5, (30, 4)), np.arange(30) % 4
        distances[np.arange(30), own] *= 4
        found = fit_unknown(distances, own, alone(own, 4))
        assert found.near >= 0
        assert found.gap >= 0


def test_with_no_trial_or_one_maker_the_slopes_are_the_usual_ones() -> None:
    assert fit_unknown(np.empty((0, 4)), np.empty(0, np.intp), np.empty((0, 4))) == (0.0, 4.0, 7.0)
    same = np.full((6, 3), 1 / 3)  # all are relatives: there is no stranger
    assert fit_unknown(np.ones((6, 3)), np.arange(6) % 3, same) == (0.0, 4.0, 7.0)
    assert fit_unknown(np.ones((5, 1)), np.zeros(5, np.intp), np.ones((5, 1))) == (0.0, 4.0, 7.0)


def test_of_two_makers_the_nearest_alone_is_learnt_from() -> None:
    """Without its own, a set has no second: its lead would be taken for 0."""
    distances, own = trials(makers=2)
    found = fit_unknown(distances, own, alone(own, 2))
    assert found.gap == 0
    assert found.near > 0


def test_sets_at_no_distance_at_all_do_not_decide_the_slopes() -> None:
    distances, own = trials(100)
    usual = fit_unknown(distances, own, alone(own, 5))
    same = distances.copy()
    same[own == 0, 0] = 0.0
    found = fit_unknown(same, own, alone(own, 5))
    assert found.near > usual.near / 2
    assert np.isfinite(found.probability(np.array([0.0, 0.0]), 0.5))


def test_relatives_are_left_out_together() -> None:
    """Two makers that nothing tells apart, among six: what is learnt is what the others teach."""
    distances, own = trials(60, 6, far=20.0)
    twin = np.isin(own, (0, 1))
    distances[twin, 1 - own[twin]] = distances[twin, own[twin]] * RNG.uniform(0.9, 1.1, twin.sum())
    closed = alone(own, 6)
    closed[twin, :2] = 0.5
    separate, together = fit_unknown(distances, own, alone(own, 6)), fit_unknown(distances, own, closed)
    lone = np.array([1.0, *[20.0] * 5])
    assert together.probability(lone, 0.5) < 0.05 < separate.probability(lone, 0.5)


@pytest.mark.usefixtures("slow")
def test_more_images_make_an_enrolled_maker_surer_and_a_stranger_stranger() -> None:
    """Mean P(unknown) over simulated makers; a step may differ from its direction by the error between worlds."""
    sizes = (10, 25, 60, 150, 400)
    known: list[list[np.floating]] = []
    strange: list[list[np.floating]] = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        where = centres(8, 0.6, rng)
        enrolment = enrol([run_of(f"maker {k}", images(where[k], 400, rng), rng) for k in range(6)])
        for found, makers in ((known, range(6)), (strange, (6, 7, 6, 7))):
            hidden = [images(where[k], sizes[-1], rng) for k in makers]
            found.append(
                [
                    np.mean(
                        [
                            enrolment.unknown.probability(one, 0.5)
                            for one in enrolment.distances([profile_of(x[:m], rng) for x in hidden]).fused
                        ]
                    )
                    for m in sizes
                ]
            )
    for means, sign in ((np.array(known), -1), (np.array(strange), 1)):
        steps = sign * np.diff(means, axis=1)
        assert (steps.mean(axis=0) > -2 * steps.std(axis=0) / 12**0.5).all()
        assert (sign * (means[:, -1] - means[:, 0])).mean() > 0.1
    assert np.mean(known, axis=0)[-1] < 0.15
    assert np.mean(strange, axis=0)[-1] > 0.8
