from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from scoring.attribution.paired import Comparison, Influenced, compare
from scoring.score.effect import effect_and_influence

Floats = NDArray[np.float64]


def influenced(p: Floats, q: Floats) -> Influenced:
    cell_p, cell_q = np.arange(len(p)) % 2, np.arange(len(q)) % 2
    layers = [effect_and_influence(p[:, i], cell_p, q[:, i], cell_q) for i in range(p.shape[1])]
    return Influenced(
        np.array([effect.a_hat for effect, _ in layers]),
        np.stack([influence.p for _, influence in layers], axis=1),
        np.stack([influence.q for _, influence in layers], axis=1),
    )


def sample(rng: np.random.Generator, count: int, shift: float = 0.0, layers: int = 3) -> Floats:
    return rng.normal(shift, 1, (count, 1)) + 0.6 * rng.normal(size=(count, layers))


def compared(seed: int, shift: float = 0.0, n: int = 150, m: int = 120) -> Comparison:
    rng = np.random.default_rng(seed)
    p = sample(rng, n)
    return compare(influenced(p, sample(rng, m, -0.5)), influenced(p, sample(rng, m, -0.5 + shift)), seed=seed)


def test_covariance_is_that_of_repeated_comparisons() -> None:
    differences = np.array([compared(seed).difference for seed in range(200)])
    drawn, closed = np.cov(differences.T), compared(0).covariance
    np.testing.assert_allclose(np.sqrt(np.diag(closed)), np.sqrt(np.diag(drawn)), rtol=0.2)
    assert np.abs(np.corrcoef(differences.T) - closed / np.outer(*[compared(0).se] * 2)).max() < 0.2


def test_the_common_held_out_images_drop_out() -> None:
    rng = np.random.default_rng(1)
    p = sample(rng, 60)
    first, second = influenced(p, sample(rng, 3000, -0.5)), influenced(p, sample(rng, 3000, -0.5))
    unpaired = np.sqrt(
        sum((one.influence_p**2).sum(axis=0) + (one.influence_q**2).sum(axis=0) for one in (first, second))
    )
    assert (compare(first, second).se < 0.35 * unpaired).all()
    again = compare(first, first)
    own = np.sqrt(2 * (first.influence_q**2).sum(axis=0))
    np.testing.assert_allclose(again.se, own, rtol=1e-12)
    assert (again.difference.tolist(), again.p.tolist(), again.p_joint) == ([0, 0, 0], [1, 1, 1], 1.0)


def test_intervals_cover_and_tests_keep_their_level() -> None:
    truth = np.mean([compared(seed, 0.3, 2000, 2000).difference for seed in range(12)], axis=0)
    found = [compared(seed, 0.3) for seed in range(150)]
    covered = [(one.low <= truth) & (truth <= one.high) for one in found]
    assert 0.92 <= np.mean(covered) <= 0.98
    alike = [compared(1000 + seed) for seed in range(150)]
    assert np.mean([one.p_joint <= 0.05 for one in alike]) <= 0.08
    assert 0.02 <= np.mean([one.p[0] <= 0.05 for one in alike]) <= 0.08
    assert np.mean([one.p_joint <= 0.05 for one in found]) > 0.4


def test_joint_p_is_that_of_the_normal_distribution() -> None:
    found = compared(2, 0.3)
    z = np.abs(found.difference / found.se).max()
    correlation = found.covariance / np.outer(found.se, found.se)
    box = multivariate_normal(np.zeros(3), correlation, seed=0).cdf(np.full(3, z), lower_limit=np.full(3, -z))
    assert found.p_joint == pytest.approx(1 - box, abs=0.01)


def test_duplicate_layers_do_not_change_the_joint_p() -> None:
    rng = np.random.default_rng(3)
    p, q, r = sample(rng, 150), sample(rng, 120), sample(rng, 120, 0.35)
    twice = [0, 1, 2, 1, 1]
    alone = compare(influenced(p, q), influenced(p, r))
    more = compare(influenced(p[:, twice], q[:, twice]), influenced(p[:, twice], r[:, twice]))
    assert more.p_joint == pytest.approx(alone.p_joint, abs=0.012)
    assert (alone.p_adjusted >= alone.p).all()


def test_swapping_the_releases_mirrors_the_difference() -> None:
    rng = np.random.default_rng(4)
    p = sample(rng, 100)
    one, other = influenced(p, sample(rng, 80)), influenced(p, sample(rng, 90, 0.4))
    there, back = compare(one, other), compare(other, one)
    np.testing.assert_allclose(there.difference, -back.difference)
    np.testing.assert_allclose(there.low, -back.high)
    assert there.p_joint == pytest.approx(back.p_joint, abs=1e-12)


def test_perfect_separation_keeps_an_honest_width() -> None:
    p = np.linspace(1, 2, 50)[:, None]
    copied = influenced(p, np.zeros((40, 1)))
    found = compare(copied, copied)
    assert found.se[0] > 0.01
    assert found.low[0] < 0 < found.high[0]


def test_releases_of_other_held_out_images_are_refused() -> None:
    rng = np.random.default_rng(5)
    one, other = influenced(sample(rng, 50), sample(rng, 40)), influenced(sample(rng, 60), sample(rng, 40))
    with pytest.raises(ValueError, match="must share layers and held-out images"):
        compare(one, other)
    with pytest.raises(ValueError, match=r"need \(L,\)"):
        compare(one, Influenced(one.a_hat, one.influence_p, one.influence_q[:, :2]))
