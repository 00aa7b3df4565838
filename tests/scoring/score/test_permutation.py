from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from scipy.stats import kstest

import scoring.score.permutation as module
from scoring.score.effect import effect_size
from scoring.score.permutation import (
    LayerSample,
    PermutationResult,
    count_permuted,
    label_blocks,
    p_values,
    permutation_p,
)
from tests.scoring import oracle

Floats = NDArray[np.float64]


def correlated(seed: int, n: int = 60, m: int = 40, layers: int = 3, shift: float = 0.0) -> list[LayerSample]:
    """Layers that agree in part, with groups of their own, ties and some dropped images."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=n + m) + np.repeat([0.0, shift], [n, m])
    found = []
    for _ in range(layers):
        distance = np.round(shared + 0.7 * rng.normal(size=n + m), 1)
        groups = rng.choice([-1, 0, 1, 2], n + m, p=[0.1, 0.3, 0.3, 0.3])
        found.append(LayerSample(distance[:n], groups[:n], distance[n:], groups[n:]))
    return found


def loop_z(distance: Floats, groups: NDArray[np.int64], generated: NDArray[np.bool_]) -> float:
    """Z_S from the definition: U by counting pairs, ties by counting values."""
    above, power = 0.0, 0.0
    for group in set(groups.tolist()) - {-1}:
        ps, qs = distance[(groups == group) & ~generated].tolist(), distance[(groups == group) & generated].tolist()
        n, m = len(ps), len(qs)
        if n == 0 or m == 0:
            continue
        ties = sum((ps + qs).count(value) ** 3 - (ps + qs).count(value) for value in set(ps + qs))
        variance = n * m / 12 * ((n + m + 1) - ties / ((n + m) * (n + m - 1)))
        z = (oracle.u_statistic(ps, qs) - n * m / 2) / variance**0.5 if variance > 0 else 0.0
        above, power = above + n * z, power + n * n
    return above / power**0.5 if power else 0.0


def loop_test(layers: list[LayerSample], permutations: int, seed: int) -> tuple[list[float], list[float]]:
    n, m = layers[0].dist_p.size, layers[0].dist_q.size

    def curve(generated: NDArray[np.bool_]) -> list[float]:
        return [
            abs(loop_z(np.append(one.dist_p, one.dist_q), np.append(one.groups_p, one.groups_q), generated))
            for one in layers
        ]

    observed = curve(np.repeat([False, True], [n, m]))
    drawn = [curve(row) for block in label_blocks(n, m, permutations, seed) for row in block]
    order = sorted(range(len(layers)), key=lambda layer: -observed[layer])
    raw, adjusted, least = [0.0] * len(layers), [0.0] * len(layers), 0.0
    for place, layer in enumerate(order):
        raw[layer] = (1 + sum(z[layer] >= observed[layer] - 1e-9 for z in drawn)) / (permutations + 1)
        rest = order[place:]
        count = sum(max(z[other] for other in rest) >= observed[layer] - 1e-9 for z in drawn)
        least = max(least, (1 + count) / (permutations + 1))
        adjusted[layer] = least
    return raw, adjusted


@pytest.mark.parametrize(("seed", "n", "m", "shift"), [(0, 12, 9, 0.0), (1, 20, 6, -0.8), (2, 7, 5, 1.5)])
def test_agrees_with_loops_over_the_same_permutations(seed: int, n: int, m: int, shift: float) -> None:
    layers = correlated(seed, n, m, 4, shift)
    result = permutation_p(layers, permutations=60, seed=seed)
    raw, adjusted = loop_test(layers, 60, seed)
    assert result.p_raw.tolist() == pytest.approx(raw, abs=1e-12)
    assert result.p_adjusted.tolist() == pytest.approx(adjusted, abs=1e-12)


def test_observed_z_is_that_of_the_effect() -> None:
    layers = correlated(3, 200, 150, 3, -0.3)
    expected = [effect_size(*layer).z_s for layer in layers]
    np.testing.assert_allclose(permutation_p(layers, permutations=1, seed=0).z, expected, atol=1e-12)


def test_p_is_uniform_when_nothing_differs() -> None:
    least = [permutation_p(correlated(100 + i), permutations=199, seed=i).p_adjusted.min() for i in range(250)]
    raw = [permutation_p(correlated(100 + i), permutations=199, seed=i).p_raw[0] for i in range(250)]
    assert kstest(least, "uniform").pvalue > 0.01
    assert kstest(raw, "uniform").pvalue > 0.01


def test_a_difference_in_one_layer_is_found_there() -> None:
    layers = correlated(4, 200, 150)
    layers[1] = layers[1]._replace(dist_q=layers[1].dist_q - 1)
    result = permutation_p(layers, permutations=499, seed=0)
    assert result.p_adjusted[1] == 1 / 500
    assert result.z[1] < -4
    assert result.p_adjusted[[0, 2]].min() > 0.05


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from([-0.6, 0.0, 0.4]))
def test_adjusted_p_is_no_less_than_raw_and_follows_z(seed: int, count: int, shift: float) -> None:
    result = permutation_p(correlated(seed, 30, 25, count, shift), permutations=99, seed=seed)
    assert (result.p_adjusted >= result.p_raw).all()
    assert (np.diff(result.p_adjusted[np.argsort(-np.abs(result.z), kind="stable")]) >= 0).all()
    assert ((result.p_raw >= 0.01) & (result.p_adjusted <= 1)).all()


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(0, 2))
def test_a_duplicate_layer_changes_nothing_for_the_others(seed: int, copied: int) -> None:
    layers = correlated(seed, 40, 30, 3, -0.4)
    alone = permutation_p(layers, permutations=199, seed=1)
    more = permutation_p([*layers, layers[copied]], permutations=199, seed=1)
    np.testing.assert_array_equal(more.p_adjusted[:3], alone.p_adjusted)
    assert more.p_adjusted[3] == alone.p_adjusted[copied]


def test_order_of_images_matters_only_by_chance() -> None:
    layers = correlated(5, 100, 80, 3, -0.25)
    rng = np.random.default_rng(0)
    i, j = rng.permutation(100), rng.permutation(80)
    shuffled = [LayerSample(a[i], b[i], c[j], d[j]) for a, b, c, d in layers]
    here, there = (permutation_p(given, permutations=3000, seed=0) for given in (layers, shuffled))
    np.testing.assert_allclose(here.z, there.z, atol=1e-12)
    np.testing.assert_allclose(here.p_adjusted, there.p_adjusted, atol=4 * (0.25 / 3000) ** 0.5)


def test_result_does_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = correlated(6)

    def run(entries: int) -> PermutationResult:
        monkeypatch.setattr(module, "_ENTRIES", entries)
        return permutation_p(layers, permutations=150, seed=9)

    whole, rows = run(10**9), run(1)
    np.testing.assert_array_equal(whole.p_adjusted, rows.p_adjusted)
    np.testing.assert_array_equal(whole.p_raw, rows.p_raw)


@pytest.mark.parametrize(("permutations", "parts"), [(350, 3), (350, 4), (90, 2)])
def test_parts_hold_the_same_permutations_as_the_whole(permutations: int, parts: int) -> None:
    layers = correlated(8, shift=-0.3)
    counted = [count_permuted(layers, permutations=permutations, seed=2, part=i, parts=parts) for i in range(parts)]
    whole, dealt = permutation_p(layers, permutations=permutations, seed=2), p_values(counted)
    assert sum(part.permutations for part in counted) == dealt.permutations == permutations
    for one, other in zip(whole, dealt, strict=True):
        np.testing.assert_array_equal(one, other)


def test_streams_differ() -> None:
    rows = np.concatenate(list(label_blocks(30, 30, 400, seed=0)))
    assert len(np.unique(rows, axis=0)) == 400


def test_rank_sums_of_many_images_are_exact() -> None:
    """Midranks up to 20,000 and sums beyond 2²⁴, which float32 would round."""
    rng = np.random.default_rng(1)
    p, q, one = rng.random(10_001), rng.random(9_999), np.zeros(10_001, int)
    result = permutation_p([LayerSample(p, one, q, one[:9_999])], permutations=1, seed=0)
    u = int((np.searchsorted(np.sort(p), q)).sum())
    n, m = 10_001, 9_999
    assert result.z.item() == pytest.approx((u - n * m / 2) / (n * m * (n + m + 1) / 12) ** 0.5, rel=1e-13)


def test_what_cannot_be_permuted_is_named() -> None:
    layers = correlated(7)
    with pytest.raises(ValueError, match="no layer"):
        permutation_p([], seed=0)
    with pytest.raises(ValueError, match=r"same images, got \(n, m\) = \[\(60, 40\), \(50, 40\)\]"):
        permutation_p([layers[0], correlated(7, 50)[0]], seed=0)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        permutation_p(layers, permutations=0, seed=0)
    dropped = layers[0]._replace(groups_p=np.full(60, -1), groups_q=np.full(40, -1))
    with pytest.raises(ValueError, match="layer 0 of the sequence has no group"):
        permutation_p([dropped], seed=0)
