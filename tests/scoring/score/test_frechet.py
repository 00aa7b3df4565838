from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from scoring.partition.moments import Moments
from scoring.score.frechet import block_jackknife, frechet_distance, frechet_fit, merged, moment_blocks

Float32 = NDArray[np.float32]


def images(seed: int, count: int, k: int = 8, shift: float = 0.0, scale: float = 1.0) -> Float32:
    rng = np.random.default_rng(seed)
    return ((shift + scale * rng.normal(size=(count, k))) / np.sqrt(1 + np.arange(k))).astype(np.float32)


@pytest.mark.parametrize(("k", "n"), [(1, 20), (8, 300), (24, 60)])
def test_agrees_with_the_matrix_square_root(k: int, n: int) -> None:
    a, b = images(0, n, k), images(1, n + 50, k, 0.3, 1.2)
    s_a, s_b = np.atleast_2d(np.cov(a.T.astype(float))), np.atleast_2d(np.cov(b.T.astype(float)))
    step = a.mean(axis=0, dtype=float) - b.mean(axis=0, dtype=float)
    expected = step @ step + np.trace(s_a + s_b - 2 * np.real(sqrtm(s_a @ s_b)))
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(expected, rel=1e-6)


def test_is_symmetric_zero_for_equal_sets_and_stands_rank_deficiency() -> None:
    a, b = Moments.of(images(0, 10, 16)), Moments.of(images(1, 12, 16, 0.5))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-7)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_left_out_moments_and_jackknife_agree_with_loops_over_the_images() -> None:
    a, b = images(2, 42), images(3, 60, shift=0.5)
    blocks_a, blocks_b = moment_blocks(a, 6, seed=1), moment_blocks(b, 6, seed=1)
    order = np.random.default_rng(1).permutation(42)
    parts = np.array_split(order, 6)
    full = frechet_distance(Moments.of(a), Moments.of(b))
    without = [frechet_distance(Moments.of(np.delete(a, part, axis=0)), Moments.of(b)) for part in parts]
    bias = 5 * (np.mean(without) - full)
    variance = 5 / 6 * sum((value - np.mean(without)) ** 2 for value in without)
    only_a = block_jackknife(lambda one, _: frechet_distance(one, Moments.of(b)), blocks_a, blocks_b)
    assert only_a.value == pytest.approx(full - bias, rel=1e-7)
    assert only_a.se == pytest.approx(variance**0.5, rel=1e-6)


def fits(shift: float, scale: float, runs: int, m: int = 300, n: int = 400) -> NDArray[np.float64]:
    found = []
    for run in range(runs):
        q, p, t = images(3 * run, m, 8, shift, scale), images(3 * run + 1, n), images(3 * run + 2, n)
        fit = frechet_fit(moment_blocks(q), moment_blocks(p), moment_blocks(t))
        found.append((fit.distance, fit.low, fit.high, fit.raw, fit.baseline))
    return np.array(found)


def test_bias_is_removed_and_the_interval_covers() -> None:
    spectrum = 1 / (1 + np.arange(8))
    truth = float((0.3**2 * spectrum).sum() + (0.2**2 * spectrum).sum())
    found = fits(0.3, 1.2, 150)
    distance, low, high, raw, baseline = found.T
    assert distance.mean() == pytest.approx(truth, abs=4 * distance.std() / 150**0.5 + 0.002)
    assert raw.mean() > truth + 3 * raw.std() / 150**0.5
    assert 0.9 <= np.mean((low <= truth) & (truth <= high)) <= 0.99
    assert abs(baseline.mean()) < 0.25 * (raw.mean() - truth)


def test_an_honest_release_is_at_zero() -> None:
    distance, low, _, raw, _ = fits(0.0, 1.0, 100).T
    assert abs(distance.mean()) < 0.2 * raw.mean()
    assert np.mean(low == 0) > 0.9


def test_raw_grows_as_images_get_fewer_and_the_corrected_does_not() -> None:
    few, many = fits(0.3, 1.2, 60, 100), fits(0.3, 1.2, 60, 1000)
    assert few[:, 3].mean() > 1.15 * many[:, 3].mean()
    assert few[:, 0].mean() == pytest.approx(many[:, 0].mean(), rel=0.1)
    assert (few[:, 2] - few[:, 1]).mean() > (many[:, 2] - many[:, 1]).mean()


def test_blocks_hold_every_image_once() -> None:
    x = images(4, 103)
    blocks = moment_blocks(x, seed=3)
    assert sorted({block.n for block in blocks}) == [5, 6]
    np.testing.assert_allclose(merged(blocks).scatter, Moments.of(x).scatter, rtol=1e-9, atol=1e-9)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="8 and 4"):
        frechet_distance(Moments.of(images(0, 9)), Moments.of(images(0, 9, 4)))
    with pytest.raises(ValueError, match="20 blocks"):
        moment_blocks(images(0, 19))
    few = moment_blocks(images(0, 19), 4)
    with pytest.raises(ValueError, match="a has 4 blocks, at least 5"):
        frechet_fit(few, few, few)
