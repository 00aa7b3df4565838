from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.linalg import sqrtm

from scoring.attribution.baselines import frechet_rule, linear_probe, mean_rule, published_rule, published_similarity
from scoring.attribution.profile import Profile, Run
from scoring.partition.moments import Moments


def profile(seed: int, shift: float, c_t: list[float], m: int = 60) -> Profile:
    rng = np.random.default_rng(seed)
    layers = tuple(Moments.of(rng.normal(shift, 1, (m, 3))) for _ in range(2))
    return Profile(Moments.of(rng.uniform(size=(m, 2))), layers, np.array(c_t))


RUNS = [
    Run("a@1", "1", profile(0, 0.0, [1.0, 2.0]), ()),
    Run("a@1", "2", profile(1, 0.1, [-3.0, -3.0]), ()),
    Run("b@1", "1", profile(2, 1.0, [math.nan, -1.0]), ()),
]


def test_published_similarity_agrees_with_plain_arithmetic() -> None:
    a, b = [-3.0, 1.5, 0.2], [-2.0, 1.0, 1.0]
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    cosine = dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))
    expected = 0.5 * cosine + 0.5 / (1 + math.dist(a, b))
    assert published_similarity(np.array(a), np.array(b)) == pytest.approx(expected, abs=1e-14)


def test_the_published_rule_takes_the_most_similar_run_and_drops_unknown_layers() -> None:
    found = published_rule(profile(3, 0.0, [-3.0, -3.0]), RUNS)
    assert found["a@1"] == pytest.approx(1)
    assert found["b@1"] == pytest.approx(published_similarity(np.array([-3.0]), np.array([-1.0])))
    nothing = published_rule(profile(3, 0.0, [math.nan, math.nan]), RUNS)
    assert set(nothing.values()) == {0.0}


def test_frechet_and_mean_rules_are_those_of_the_last_layer() -> None:
    suspect = profile(4, 0.9, [0.0, 0.0])
    for rule in (frechet_rule, mean_rule):
        found = rule(suspect, RUNS)
        assert max(found, key=lambda maker: found[maker]) == "b@1"
    mine, theirs = suspect.signature[1], RUNS[2].whole.signature[1]
    step = mine.mean - theirs.mean
    assert mean_rule(suspect, RUNS)["b@1"] == pytest.approx(-math.sqrt(float(step @ step)))
    root = sqrtm(mine.covariance @ theirs.covariance).real
    plain = step @ step + np.trace(mine.covariance + theirs.covariance - 2 * root)
    assert frechet_rule(suspect, RUNS)["b@1"] == pytest.approx(-float(plain))


def test_the_probe_sums_log_probabilities_and_does_not_favour_large_releases() -> None:
    rng = np.random.default_rng(5)
    large, small = (rng.normal(x, 1, (n, 4)).astype(np.float32) for x, n in ((0.0, 900), (1.0, 60)))
    middle = np.full((40, 4), 0.5, np.float32)
    found, doubled = linear_probe({"large": large, "small": small}, [middle, np.concatenate([middle, middle])])
    assert abs(found["large"] - found["small"]) / 40 < 0.6
    assert doubled["large"] == pytest.approx(2 * found["large"])
    right = linear_probe({"large": large, "small": small}, [rng.normal(1, 1, (20, 4)).astype(np.float32)])[0]
    assert right["small"] > right["large"]
    with pytest.raises(ValueError, match="got 1"):
        linear_probe({"large": large}, [middle])
