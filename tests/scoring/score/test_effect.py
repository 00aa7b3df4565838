from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score

from scoring.score.effect import Effect, effect_and_influence, effect_size
from tests.scoring import oracle

Floats = NDArray[np.float64]
sample = st.lists(st.integers(0, 30).map(float), min_size=2, max_size=40)


def one_cell(p: Floats, q: Floats, level: float = 0.95) -> Effect:
    return effect_size(p, np.zeros(len(p), int), q, np.zeros(len(q), int), level=level)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(sample, sample)
def test_one_cell_agrees_with_loops(ps: list[float], qs: list[float]) -> None:
    effect = one_cell(np.array(ps), np.array(qs))
    a_hat, variance = oracle.delong([ps], [qs])
    assert effect.a_hat == pytest.approx(a_hat, abs=1e-12)
    assert effect.se**2 == pytest.approx(variance, abs=1e-12)
    assert effect.delta == pytest.approx(1 - 2 * a_hat, abs=1e-12)
    assert 0 <= effect.low <= effect.a_hat <= effect.high <= 1
    assert effect.high - effect.low > 0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(sample, sample)
def test_swapping_the_sets_mirrors_everything(ps: list[float], qs: list[float]) -> None:
    there, back = one_cell(np.array(ps), np.array(qs)), one_cell(np.array(qs), np.array(ps))
    assert back.a_hat == pytest.approx(1 - there.a_hat, abs=1e-12)
    assert back.se == pytest.approx(there.se, abs=1e-12)
    assert back.z_s == pytest.approx(-there.z_s, abs=1e-9)
    assert back.low == pytest.approx(1 - there.high, abs=1e-9)


def strata(seed: int, n: int = 300, m: int = 200) -> tuple[Floats, NDArray[np.int64], Floats, NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    p, q = rng.normal(size=n), rng.normal(-0.3, 1.2, size=m)
    return p, rng.integers(0, 3, n), q, rng.integers(0, 3, m)


def test_strata_agree_with_loops_and_with_scikit_learn() -> None:
    p, cell_p, q, cell_q = strata(0)
    effect, influence = effect_and_influence(p, cell_p, q, cell_q)
    a_hat, variance = oracle.delong(
        [p[cell_p == c].tolist() for c in range(3)], [q[cell_q == c].tolist() for c in range(3)]
    )
    assert effect.a_hat == pytest.approx(a_hat, abs=1e-12)
    assert effect.se**2 == pytest.approx(variance, rel=1e-10)
    assert effect.se**2 == pytest.approx((influence.p**2).sum() + (influence.q**2).sum(), rel=1e-12)
    auc = [
        roc_auc_score(
            np.repeat([0, 1], [(cell_p == c).sum(), (cell_q == c).sum()]),
            np.concatenate([p[cell_p == c], q[cell_q == c]]),
        )
        for c in range(3)
    ]
    assert effect.a_hat == pytest.approx(np.bincount(cell_p) @ auc / len(p), abs=1e-12)


def test_influences_follow_their_images_and_point_the_way_they_pull() -> None:
    p, cell_p, q, cell_q = strata(1)
    effect, influence = effect_and_influence(p, cell_p, q, cell_q)
    rng = np.random.default_rng(2)
    i, j = rng.permutation(len(p)), rng.permutation(len(q))
    shuffled, moved = effect_and_influence(p[i], cell_p[i], q[j], cell_q[j])
    assert shuffled.a_hat == pytest.approx(effect.a_hat, abs=1e-13)
    np.testing.assert_allclose(moved.p, influence.p[i], atol=1e-15)
    np.testing.assert_allclose(moved.q, influence.q[j], atol=1e-15)
    assert influence.q[q.argmax()] > 0 > influence.q[q.argmin()]
    assert influence.p[p.argmin()] > 0 > influence.p[p.argmax()]


def test_dropped_and_one_sided_cells_leave_no_trace_but_in_coverage() -> None:
    p, cell_p, q, cell_q = strata(3)
    effect = effect_size(p, cell_p, q, cell_q)
    more, influence = effect_and_influence(
        np.append(p, [0.0] * 100),
        np.append(cell_p, np.repeat([-1, 7], 50)),
        np.append(q, [0.0] * 20),
        np.append(cell_q, np.repeat([-1, 8], 10)),
    )
    assert (more.a_hat, more.se, more.z_s) == (effect.a_hat, effect.se, effect.z_s)
    assert (effect.coverage, more.coverage) == (1.0, 0.75)
    assert not influence.p[300:].any()
    assert not influence.q[200:].any()


def test_standard_error_agrees_with_a_bootstrap_inside_cells() -> None:
    p, cell_p, q, cell_q = strata(4, 240, 180)
    effect = effect_size(p, cell_p, q, cell_q)
    rng = np.random.default_rng(5)
    draws = []
    for _ in range(600):
        i = np.concatenate([rng.choice(np.flatnonzero(cell_p == c), (cell_p == c).sum()) for c in range(3)])
        j = np.concatenate([rng.choice(np.flatnonzero(cell_q == c), (cell_q == c).sum()) for c in range(3)])
        draws.append(effect_size(p[i], cell_p[i], q[j], cell_q[j]).a_hat)
    assert effect.se == pytest.approx(np.std(draws), rel=0.1)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    covered = 0
    for _ in range(600):
        effect = one_cell(rng.exponential(1, 60), rng.exponential(0.25, 40), level=0.9)
        covered += effect.low <= 0.2 <= effect.high
    assert 0.87 <= covered / 600 <= 0.94


def test_z_s_is_standard_normal_under_the_null_and_scipys_in_one_cell() -> None:
    rng = np.random.default_rng(7)
    cells = np.arange(200) % 4
    nulls = [effect_size(rng.random(200), cells, rng.random(200), cells) for _ in range(500)]
    assert np.std([effect.z_s for effect in nulls]) == pytest.approx(1, abs=0.1)
    assert np.mean([effect.p_value < 0.05 for effect in nulls]) == pytest.approx(0.05, abs=0.025)
    p, q = rng.integers(0, 9, 50).astype(np.float64), rng.integers(0, 7, 30).astype(np.float64)
    scipy_p = mannwhitneyu(q, p, use_continuity=False, method="asymptotic").pvalue
    assert one_cell(p, q).p_value == pytest.approx(scipy_p, abs=1e-12)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 60), st.integers(0, 1000))
def test_planted_copies_push_a_hat_down(copies: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, q = 1 + rng.random(80), 1 + rng.random(60)
    planted = q.copy()
    planted[:copies] = 0.0
    assert one_cell(p, planted).a_hat < one_cell(p, q).a_hat + 1e-12
    assert one_cell(p, planted).a_hat <= 1 - copies / 60 + 1e-12


def test_perfect_separation_and_total_ties_keep_an_honest_width() -> None:
    apart = one_cell(np.linspace(1.0, 2.0, 100), np.zeros(50))
    assert (apart.a_hat, apart.se, apart.low) == (0.0, 0.0, 0.0)
    assert 1 / 50 < apart.high < 0.2
    tied = one_cell(np.ones(100), np.ones(50))
    assert (tied.a_hat, tied.z_s, tied.p_value) == (0.5, 0.0, 1.0)
    assert tied.high - tied.low == pytest.approx(2 * 1.96 * 0.5 / 50**0.5, rel=0.05)


def test_cells_that_cannot_be_scored_are_named() -> None:
    one = np.zeros(3, int)
    with pytest.raises(ValueError, match="no cell holds both"):
        effect_size(np.ones(3), one, np.ones(3), one + 1)
    with pytest.raises(ValueError, match="cell 0: 3 held-out, 1 generated"):
        effect_size(np.ones(3), one, np.ones(1), one[:1])
    with pytest.raises(ValueError, match="level"):
        one_cell(np.ones(3), np.ones(3), level=95)
