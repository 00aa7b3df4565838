from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scoring.score.frechet import FrechetFit
from scoring.score.layer_score import LayerScore, score_layer
from scoring.score.permutation import LayerSample, PermutationResult, permutation_p
from scoring.verdict.fit import fit_verdict


def layers(*shifts: float, n: int = 600, m: int = 300, seed: int = 0) -> tuple[list[LayerScore], PermutationResult]:
    """One layer a shift, after a layer that says nothing."""
    rng = np.random.default_rng(seed)
    cell_p, cell_q = rng.integers(0, 2, n), rng.integers(0, 2, m)
    centroids = np.array([[0.0], [1.0]], np.float32)
    scores, samples = [LayerScore(0, n, m)], []
    for number, shift in enumerate(shifts, start=1):
        p, q = rng.normal(size=n), rng.normal(shift, 1, size=m)
        scored = score_layer(number, p, cell_p, q, cell_q, centroids)
        scores.append(scored.score)
        samples.append(LayerSample(p, scored.groups[cell_p], q, scored.groups[cell_q]))
    return scores, permutation_p(samples, permutations=499, seed=seed)


@pytest.mark.parametrize(
    ("shifts", "verdict", "layer", "said"),
    [
        ((0.0, -0.6, 0.0), "closer than unseen", 2, "closer than unseen in 1 of 3 layers; at layer 2"),
        ((0.7, 0.6, 0.5), "farther than unseen (underfit)", 1, "in 3 of 3 layers"),
        ((-0.5, 0.0, 0.9), "mixed over layers", 3, "closer to the training images than unseen ones in 1, farther in 3"),
        ((0.0, 0.0, 0.0), "no difference seen", None, "no difference seen: most at layer"),
    ],
)
def test_direction_is_that_of_the_layers_that_differ(
    shifts: tuple[float, ...], verdict: str, layer: int | None, said: str
) -> None:
    scores, test = layers(*shifts)
    found = fit_verdict(scores, test)
    assert found.verdict == verdict
    assert layer in (None, found.layer)
    assert said in found.sentence
    assert found.layer is not None
    effect = scores[found.layer].effect
    assert effect is not None
    assert found.effect == effect
    assert found.p == test.p_adjusted[np.abs(test.z).argmax()]
    assert f"{effect.a_hat:.3f} (95 % interval {effect.low:.3f}–{effect.high:.3f}; 0.5 = alike)" in found.sentence
    assert "over 3 layers" in found.sentence


def test_frechet_distance_stands_beside_it() -> None:
    found = fit_verdict(*layers(0.0), FrechetFit(1.234, 1.0, 1.5, 2.0, 0.05))
    assert found.sentence.endswith(
        "; Fréchet distance to held-out images 1.23 (95 % interval 1–1.5), of training to held-out images 0.05"
    )


def test_error_is_kept_over_layers() -> None:
    scores, _ = layers(0.0, 0.0, 0.0)
    rng, one = np.random.default_rng(1), np.zeros(100, int)
    called = 0
    for seed in range(400):
        samples = [LayerSample(rng.normal(size=100), one, rng.normal(size=80), one[:80]) for _ in range(3)]
        called += (
            fit_verdict(scores, permutation_p(samples, permutations=199, seed=seed)).verdict != "no difference seen"
        )
    assert 0.025 <= called / 400 <= 0.075


def test_without_an_informative_layer_nothing_is_judged() -> None:
    for scores in ([], [LayerScore(0, 500, 500)]):
        found = fit_verdict(scores, None)
        assert (found.verdict, found.layer, found.p) == ("cannot be judged", None, None)
        assert found.sentence == "fit cannot be judged: no layer is informative"


def test_a_test_of_other_layers_is_refused() -> None:
    scores, test = layers(0.0, 0.0)
    with pytest.raises(ValueError, match="2 informative layers, but the test is of 0"):
        fit_verdict(scores, None)
    with pytest.raises(ValueError, match="1 informative layers, but the test is of 2"):
        fit_verdict([*scores[:2], dataclasses.replace(scores[2], effect=None)], test)
