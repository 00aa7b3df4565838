from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from scoring.checks.exchangeability import Located, ordered_halves, random_halves, train_likeness
from scoring.score.effect import effect_size
from scoring.score.permutation import LayerSample, permutation_p

Floats = NDArray[np.float64]


def held_out(seed: int, n: int = 200, drift: float = 0.0) -> dict[int, Located]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=n) + drift * (np.arange(n) >= n // 2)
    return {layer: Located(shared + 0.5 * rng.normal(size=n), rng.integers(0, 3, n)) for layer in (2, 5)}


def test_random_halves_fail_no_more_often_than_said_even_with_drift() -> None:
    failed = [not random_halves(held_out(i, drift=2.0), seed=i, permutations=99, error=0.1).passed for i in range(200)]
    assert 0.04 <= np.mean(failed) <= 0.17


def test_a_drift_is_seen_in_order_and_only_there() -> None:
    drifting = held_out(0, drift=1.0)
    found = ordered_halves(drifting, seed=0, permutations=499)
    assert (found.passed, found.severity) == (False, "note")
    assert "the halves of the held-out images (order) differ: most at layer" in found.sentence
    assert "draw them at random" in found.remedy
    assert random_halves(drifting, seed=0, permutations=499).passed
    assert ordered_halves(held_out(1), seed=0, permutations=499).passed


def test_numbers_are_those_of_the_permutation_test_and_the_effect() -> None:
    images = held_out(2, drift=0.3)
    found = ordered_halves(images, seed=4, permutations=199)
    first = np.arange(200) < 100
    samples = [
        LayerSample(one.distance[first], one.cells[first], one.distance[~first], one.cells[~first])
        for one in images.values()
    ]
    test = permutation_p(samples, permutations=199, seed=4)
    most = int(np.abs(test.z).argmax())
    assert found.value == test.p_adjusted[most]
    assert f"layer {(2, 5)[most]}, where Â = {effect_size(*samples[most]).a_hat:.3g} instead" in found.sentence


def draws(rng: np.random.Generator, count: int, shift: float = 0.0) -> NDArray[np.float32]:
    centres = np.random.default_rng(0).normal(size=(5, 6))
    return (centres[rng.integers(0, 5, count)] + 0.6 * rng.normal(size=(count, 6)) + shift).astype(np.float32)


def likeness(seed: int, shift: float, copies: int = 0) -> tuple[bool, float | None]:
    rng = np.random.default_rng([7, seed])
    train, unseen = draws(rng, 500), draws(rng, 200, shift)
    train[250 : 250 + copies] = train[:copies] + np.float32(1e-3)
    zeros = np.zeros(500, int)
    p = cdist(unseen, train).min(axis=1)
    t = np.sort(cdist(train[rng.choice(500, 100, replace=False)], train), axis=1)[:, 1]  # without the image itself
    check = train_likeness(
        {1: Located(t, zeros[:100])}, {1: Located(p, zeros[:200])}, seed=0, permutations=199, error=0.05
    )
    return check.passed, check.value


def test_train_is_like_held_out_of_the_same_source() -> None:
    p_values = [likeness(seed, 0.0)[1] or 0.0 for seed in range(80)]
    assert 0.0 <= np.mean([p <= 0.05 for p in p_values]) <= 0.125
    assert 0.35 < np.mean(p_values) < 0.65


def test_another_source_and_duplicates_inside_train_are_seen() -> None:
    assert not likeness(0, 0.5)[0]
    assert not likeness(0, 0.0, copies=200)[0]


def test_an_immaterial_difference_passes_however_significant() -> None:
    grid = np.linspace(0, 1, 20_000)
    one = np.zeros(20_000, int)
    near, far = {1: Located(grid, one)}, {1: Located(grid + 0.015, one)}
    found = train_likeness(near, far, seed=0, permutations=199)
    assert found.passed
    assert found.value == 1 / 200
    assert not train_likeness(near, far, seed=0, permutations=199, material=0.01).passed


def test_bad_input_is_named() -> None:
    images = held_out(0)
    with pytest.raises(ValueError, match=r"train has \[2\], held-out \[2, 5\]"):
        train_likeness({2: images[2]}, images, seed=0)
    with pytest.raises(ValueError, match=r"got \[200, 300\]"):
        random_halves({2: images[2], 5: held_out(0, 300)[5]}, seed=0)
