from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

import benchmarks.bootstrap as module
from benchmarks.bootstrap import bootstrap_curve, bootstrap_logits
from scoring.attribution.curve import LogitCurve, covariance_of, logit_curve
from scoring.score.effect import effect_and_influence, effect_size
from scoring.score.permutation import LayerSample


def layers(seed: int = 0, n: int = 600, m: int = 400, count: int = 4) -> list[LayerSample]:
    """Layers that agree in part, each with groups of its own and ties."""
    rng = np.random.default_rng(seed)
    shared_p, shared_q = rng.normal(size=n), rng.normal(-0.4, 1.2, size=m)
    return [
        LayerSample(
            np.round(shared_p + 0.6 * rng.normal(size=n), 2),
            rng.integers(-1, 3, n),
            np.round(shared_q + 0.6 * rng.normal(size=m), 2),
            rng.integers(-1, 3, m),
        )
        for _ in range(count)
    ]


def closed_form(samples: list[LayerSample]) -> LogitCurve:
    scored = [effect_and_influence(*sample) for sample in samples]
    effects = [effect for effect, _ in scored]
    influence_p = np.stack([influence.p for _, influence in scored], axis=1)
    influence_q = np.stack([influence.q for _, influence in scored], axis=1)
    count = min(len(influence_p), len(influence_q))
    return logit_curve(np.array([effect.a_hat for effect in effects]), covariance_of(influence_p, influence_q), count)


def test_agrees_with_the_closed_form_covariance() -> None:
    samples, draws = layers(), 4000
    drawn, closed = bootstrap_curve(samples, draws=draws, seed=1), closed_form(samples)
    np.testing.assert_allclose(drawn.x, closed.x, atol=1e-12)
    sd_drawn, sd_closed = np.sqrt(np.diag(drawn.covariance)), np.sqrt(np.diag(closed.covariance))
    np.testing.assert_allclose(sd_drawn, sd_closed, rtol=4 / np.sqrt(2 * draws) + 0.01)
    correlation = [one.covariance / np.outer(sd, sd) for one, sd in ((drawn, sd_drawn), (closed, sd_closed))]
    assert np.abs(correlation[0] - correlation[1]).max() < 0.05
    assert correlation[1][0, 1] > 0.4


def test_a_draw_is_the_effect_of_the_images_drawn() -> None:
    """One group: the weighted ranks against effect_size on the images repeated as often as drawn."""
    samples = [sample._replace(groups_p=np.zeros(30, int), groups_q=np.zeros(20, int)) for sample in layers(2, 30, 20)]
    drawn = expit(bootstrap_logits(samples, draws=8, seed=3))
    [(weight_p, weight_q)] = list(module._weights(30, 20, 8, 3))
    for draw in range(8):
        i, j = (np.repeat(np.arange(w.shape[1]), w[draw].astype(int)) for w in (weight_p, weight_q))
        expected = [effect_size(s.dist_p[i], s.groups_p[i], s.dist_q[j], s.groups_q[j]).a_hat for s in samples]
        np.testing.assert_allclose(drawn[draw], expected, atol=1e-12)


def test_does_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = layers(4, 50, 40)
    whole = bootstrap_logits(samples, draws=20, seed=5)
    monkeypatch.setattr(module, "_ENTRIES", 1)
    np.testing.assert_array_equal(bootstrap_logits(samples, draws=20, seed=5), whole)


def test_a_group_without_images_in_a_draw_keeps_its_observed_value() -> None:
    rng = np.random.default_rng(6)
    groups_p, groups_q = np.repeat([0, 1], [60, 2]), np.repeat([0, 1], [60, 1])
    sample = LayerSample(rng.random(62), groups_p, rng.random(61), groups_q)
    drawn = bootstrap_logits([sample], draws=300, seed=0)
    assert np.isfinite(drawn).all()
    assert drawn.mean() == pytest.approx(closed_form_x(sample), abs=0.05)


def closed_form_x(sample: LayerSample) -> float:
    return float(bootstrap_curve([sample], draws=2, seed=0).x[0])


def test_perfect_separation_stays_finite() -> None:
    one = np.zeros(50, int)
    drawn = bootstrap_logits([LayerSample(np.ones(50), one, np.zeros(50), one)], draws=5, seed=0)
    np.testing.assert_allclose(expit(drawn), 0.5 / 51)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="same images"):
        bootstrap_logits([*layers(0), *layers(0, 500)], seed=0)
    with pytest.raises(ValueError, match="no group holds both"):
        bootstrap_logits([layers(0)[0]._replace(groups_q=np.full(400, 9))], seed=0)
