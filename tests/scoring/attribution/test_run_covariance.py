from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import differential_evolution
from scipy.stats import multivariate_normal

from scoring.attribution.run_covariance import depth_covariance, fit_run_covariance

Floats = NDArray[np.float64]


def simulated(makers: int, runs: int, truth: Floats, seed: int, noise: Floats | None = None) -> list[Floats]:
    rng = np.random.default_rng(seed)
    total = truth if noise is None else truth + noise
    return [rng.normal(size=len(truth)) * 3 + rng.multivariate_normal(np.zeros(len(truth)), total, runs)
            for _ in range(makers)]  # fmt: skip


def test_parameters_come_back() -> None:
    found = fit_run_covariance(simulated(60, 6, depth_covariance(10, 0.4, 0.7, 4.0), seed=0))
    assert found is not None
    assert found.variance == pytest.approx(0.4, rel=0.1)
    assert found.shared == pytest.approx(0.7, abs=0.08)
    assert found.reach == pytest.approx(4.0, rel=0.25)


def test_sampling_error_is_not_counted_twice() -> None:
    truth, noise = depth_covariance(8, 0.3, 0.5, 3.0), 0.5 * np.eye(8)
    runs = simulated(50, 5, truth, seed=1, noise=noise)
    with_noise, without = fit_run_covariance(runs), fit_run_covariance(runs, [noise] * 50)
    assert with_noise is not None
    assert without is not None
    assert with_noise.variance == pytest.approx(0.8, rel=0.1)
    assert without.variance == pytest.approx(0.3, rel=0.15)


def test_runs_that_differ_by_sampling_alone_have_no_spread() -> None:
    noise = 0.2 * np.eye(6)
    found = fit_run_covariance(simulated(40, 4, np.zeros((6, 6)), seed=2, noise=noise), [noise] * 40)
    assert found is not None
    assert found.variance < 0.03


def test_single_runs_say_nothing() -> None:
    assert fit_run_covariance([np.zeros((1, 4)), np.ones((1, 4))]) is None
    pair = np.array([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    one, more = fit_run_covariance([pair]), fit_run_covariance([pair, np.zeros((1, 3))])
    assert one is not None
    assert more is not None
    assert one.variance == more.variance
    wide, narrow = np.eye(3) * 9, np.eye(3) * 0.01  # each release keeps its own sampling covariance
    alone, beside = fit_run_covariance([pair], [narrow]), fit_run_covariance([np.zeros((1, 3)), pair], [wide, narrow])
    assert alone is not None
    assert beside is not None
    assert alone.variance == beside.variance


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_it_is_the_posterior_mode_of_the_restricted_likelihood(noise: float) -> None:
    """The same density written out by contrasts, entry by entry, and searched by another optimiser."""
    sampling = noise * (np.eye(5) + 0.5)
    runs = simulated(4, 3, depth_covariance(5, 0.5, 0.8, 2.0), seed=3, noise=sampling)
    contrasts = []
    for curves in runs:  # an orthonormal basis of the differences of 3 runs
        contrasts += [(curves[0] - curves[1]) / 2**0.5, (curves[0] + curves[1] - 2 * curves[2]) / 6**0.5]

    def loss(at: Floats) -> float:
        shared, reach = 1 / (1 + np.exp(-at[1])), np.exp(at[2]) * 5 / 3
        covariance = sampling.copy()
        for i in range(5):
            for j in range(5):
                covariance[i, j] += np.exp(at[0]) * (shared * np.exp(-abs(i - j) / reach) + (1 - shared) * (i == j))
        density = multivariate_normal(np.zeros(5), covariance).logpdf(np.array(contrasts)).sum()
        return float(-density + 0.5 * (at[1] ** 2 + at[2] ** 2))

    best = differential_evolution(loss, [(-6, 4), (-6, 6), (-4, 4)], seed=0, tol=1e-6, popsize=8).x
    found = fit_run_covariance(runs, [sampling] * 4)
    assert found is not None
    assert np.log(found.variance) == pytest.approx(best[0], abs=0.02)
    assert found.shared == pytest.approx(1 / (1 + np.exp(-best[1])), abs=0.01)
    assert found.reach == pytest.approx(np.exp(best[2]) * 5 / 3, rel=0.03)
