from __future__ import annotations

import numpy as np
import pytest

from scoring.attribution.background import Shift, layer_background

RNG = np.random.default_rng(0)


def test_content_is_the_covariance_of_cell_means_weighted_by_their_images() -> None:
    real = RNG.normal(size=(90, 4))
    cell = RNG.choice([3, 5, 8], 90, p=[0.5, 0.3, 0.2])
    found = layer_background(real, cell, real[:20], {"mirror": real[:20]})
    each = np.stack([real[cell == one].mean(axis=0) for one in cell])
    assert found.content == pytest.approx(np.cov(each.T, bias=True))
    assert found.covariance == pytest.approx(np.cov(real.T, bias=True), rel=0.02)
    assert np.linalg.matrix_rank(found.content) == 2


def test_content_alone_is_what_a_set_of_one_content_is_off_by() -> None:
    """Cells that differ in one coordinate alone."""
    cell = np.arange(400) % 4
    real = RNG.normal(size=(400, 3)) + np.outer(cell * 10.0, [1, 0, 0])
    content = layer_background(real, cell, real, {"none": real}).content
    assert content[0, 0] == pytest.approx(125, rel=0.02)
    assert np.abs(content[1:, 1:]).max() < 0.1


def test_shifts_are_differences_of_means_and_the_processed_covariance_their_mean() -> None:
    original = RNG.normal(size=(50, 3))
    processed = {"smaller": original * 0.5 + 1, "mirror": -original}
    found = layer_background(original, np.zeros(50, int), original, processed)
    assert found.shifts["smaller"] == pytest.approx(1 - 0.5 * original.mean(axis=0))
    assert found.shifts["mirror"] == pytest.approx(-2 * original.mean(axis=0))
    assert found.processed == pytest.approx((0.25 + 1) / 2 * found.covariance)
    assert found.content == pytest.approx(np.zeros((3, 3)))


def test_merged_shifts_are_those_of_all_images_together() -> None:
    steps = RNG.normal(size=(60, 5))
    parts = [Shift(len(one), (one.mean(axis=0), one[:, :2].mean(axis=0))) for one in np.split(steps, [10, 35])]
    found = parts[0].merge(parts[1]).merge(parts[2])
    assert found.images == 60
    assert found.mean[0] == pytest.approx(steps.mean(axis=0))
    assert found.mean[1] == pytest.approx(steps[:, :2].mean(axis=0))


def test_processings_that_do_not_fit_are_refused() -> None:
    real, cell = RNG.normal(size=(10, 3)), np.zeros(10, int)
    for processed in ({}, {"mirror": real[:4]}):
        with pytest.raises(ValueError, match="as many images"):
            layer_background(real, cell, real[:5], processed)
