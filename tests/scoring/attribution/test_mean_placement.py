from __future__ import annotations

import numpy as np
import pytest

from scoring.attribution.mean_placement import mean_placement
from scoring.score.effect import effect_and_influence

RNG = np.random.default_rng(0)
P, Q = RNG.normal(size=300).round(1), RNG.normal(-0.3, 1.2, 200).round(1)
GROUP_P, GROUP_Q = RNG.integers(0, 3, 300), RNG.integers(0, 3, 200)


def test_it_is_the_mean_share_of_nearer_held_out_images() -> None:
    shares = []
    for q, group in zip(Q, GROUP_Q, strict=True):
        others = P[group == GROUP_P]
        shares.append(((others < q).sum() + 0.5 * (others == q).sum()) / len(others))
    found = mean_placement(P, GROUP_P, Q, GROUP_Q)
    assert found.placement == pytest.approx(np.array(shares))
    assert found.a_hat == pytest.approx(np.mean(shares))


def test_influences_are_what_leaving_one_image_out_changes() -> None:
    """A jackknife by plain loops; the influence is that change up to a factor (n_c - 1)/√(n_c (n_c - 1))."""
    found = mean_placement(P, GROUP_P, Q, GROUP_Q)
    keep = np.arange(200)
    for j in (0, 57, 199):
        without = mean_placement(P, GROUP_P, Q[keep != j], GROUP_Q[keep != j]).a_hat
        assert found.influence_q[j] == pytest.approx((found.a_hat - without) * (199 / 200) ** 0.5)
    keep = np.arange(300)
    for i in (0, 111, 299):
        without = mean_placement(P[keep != i], GROUP_P[keep != i], Q, GROUP_Q).a_hat
        n_c = int((GROUP_P[i] == GROUP_P).sum())
        step = (without - found.a_hat) * (n_c - 1)  # the placement of image i less the mean of its group
        assert found.influence_p[i] == pytest.approx(-step / (n_c * (n_c - 1)) ** 0.5)


def test_with_one_group_it_is_a_hat() -> None:
    one_p, one_q = np.zeros(300, int), np.zeros(200, int)
    found, (effect, influence) = mean_placement(P, one_p, Q, one_q), effect_and_influence(P, one_p, Q, one_q)
    assert found.a_hat == pytest.approx(effect.a_hat)
    assert found.influence_p == pytest.approx(influence.p)
    assert found.influence_q == pytest.approx(influence.q)


def test_influences_give_the_variance_that_a_bootstrap_sees() -> None:
    found = mean_placement(P, GROUP_P, Q, GROUP_Q)
    rng = np.random.default_rng(1)
    draws = []
    for _ in range(600):
        i, j = rng.integers(0, 300, 300), rng.integers(0, 200, 200)
        draws.append(mean_placement(P[i], GROUP_P[i], Q[j], GROUP_Q[j]).a_hat)
    variance = float(found.influence_p @ found.influence_p + found.influence_q @ found.influence_q)
    assert variance == pytest.approx(np.var(draws), rel=0.2)


def test_the_expectation_does_not_depend_on_the_number_of_images() -> None:
    """Where effect_size's merging groups would: the mean over small batches is exactly that of the whole."""
    whole = mean_placement(P, GROUP_P, Q, GROUP_Q)
    batches = [mean_placement(P, GROUP_P, Q[i::8], GROUP_Q[i::8]).a_hat for i in range(8)]
    assert np.mean(batches) == pytest.approx(whole.a_hat)
    rng = np.random.default_rng(2)
    drawn = []
    for _ in range(800):
        j = rng.choice(200, 5, replace=False)
        drawn.append(mean_placement(P, GROUP_P, Q[j], GROUP_Q[j]).a_hat)
    assert np.mean(drawn) == pytest.approx(whole.a_hat, abs=3 * np.std(drawn) / 800**0.5)


def test_what_cannot_be_placed_is_named() -> None:
    with pytest.raises(ValueError, match="at least 2 generated"):
        mean_placement(P, GROUP_P, Q[:1], GROUP_Q[:1])
    with pytest.raises(ValueError, match="group 9 holds 0 held-out"):
        mean_placement(P, GROUP_P, Q, np.full(200, 9))
    with pytest.raises(ValueError, match="dist_q holds 1 NaN"):
        mean_placement(P, GROUP_P, np.array([0.0, np.nan]), np.zeros(2, int))
