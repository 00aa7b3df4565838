from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from scoring.presets import PRESETS
from scoring.score.c_t import published_ct
from scoring.score.copy_rate import copy_rate
from scoring.score.effect import effect_and_influence
from scoring.score.layer_score import LayerScore, ScoredLayer, score_layer

CENTROIDS = np.array([[0.0], [1.0], [5.0], [9.0]], np.float32)


def images(
    copied: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    p, q = 1 + rng.random(1200), 1 + rng.random(600)
    q[:copied] = 0.1
    cell_p = rng.choice(4, 1200, p=[0.3, 0.03, 0.37, 0.3])
    cell_q = rng.choice(4, 600, p=[0.35, 0.05, 0.6, 0.0])
    return p, cell_p, q, cell_q


def scored(copied: int = 0) -> ScoredLayer:
    return score_layer(2, *images(copied), CENTROIDS)


def test_every_number_is_that_of_its_own_module() -> None:
    p, cell_p, q, cell_q = images()
    layer = scored()
    assert layer.groups.tolist() == [0, 0, 1, -1]
    effect, influence = effect_and_influence(p, layer.groups[cell_p], q, layer.groups[cell_q])
    score = layer.score
    assert (score.layer, score.informative, score.n, score.m) == (2, True, 1200, 600)
    assert (score.cells, score.cells_kept) == (4, 2)
    assert score.c_t == published_ct(p, cell_p, q, cell_q)
    assert score.effect == effect
    assert effect.coverage == 1 - np.mean(cell_p == 3)
    assert score.copy == copy_rate(p, q, alpha=0.01)
    assert score.copy_001 == copy_rate(p, q, alpha=0.001)
    np.testing.assert_array_equal(layer.influence.q, influence.q)


def test_planted_copies_are_flagged_and_an_honest_release_is_not() -> None:
    honest, planted = scored().score, scored(60).score
    assert honest.effect is not None
    assert honest.effect.low < 0.5 < honest.effect.high
    assert honest.copy is not None
    assert honest.copy.low == 0.0
    assert planted.copy is not None
    assert planted.copy.low < 0.1 < planted.copy.high
    assert planted.copy.low > 0.05
    assert planted.effect is not None
    assert planted.effect.a_hat < 0.48


def test_score_does_not_depend_on_the_order_of_images() -> None:
    p, cell_p, q, cell_q = images(10)
    rng = np.random.default_rng(1)
    i, j = rng.permutation(len(p)), rng.permutation(len(q))
    here, there = scored(10), score_layer(2, p[i], cell_p[i], q[j], cell_q[j], CENTROIDS)
    a, b = (dataclasses.asdict(layer.score) for layer in (here, there))
    for numbers in (a, b):
        numbers |= {f"effect.{name}": value for name, value in numbers.pop("effect").items()}
    for name, value in b.items():
        assert a[name] == (pytest.approx(value, abs=1e-12) if isinstance(value, float) else value), name


def test_an_uninformative_layer_has_no_numbers() -> None:
    score = LayerScore(0, 1200, 600)
    assert not score.informative
    assert [score.effect, score.copy, score.copy_001, score.c_t] == [None] * 4


def test_too_few_images_and_foreign_cells_are_named() -> None:
    p, cell_p, q, cell_q = images()
    with pytest.raises(ValueError, match="15 generated"):
        score_layer(2, p, cell_p, q[:15], cell_q[:15], CENTROIDS)
    with pytest.raises(ValueError, match="cell_p holds 0…3, but there are 3 cells"):
        score_layer(2, p, cell_p, q, cell_q, CENTROIDS[:3])


def test_presets() -> None:
    assert {name: preset.metric for name, preset in PRESETS.items()} == {
        "paper": "abs_cosine",
        "meehan": "euclidean",
        "default": "euclidean",
    }
    assert all(name == preset.name for name, preset in PRESETS.items())
