from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit

from scoring.attribution.profile import LEAST_IMAGES, MOST_PARTS, Profile, cut, merged
from scoring.partition.moments import Moments
from tests.scoring.makers import images, profile_of


def test_merging_gives_the_profile_of_the_union() -> None:
    rng = np.random.default_rng(0)
    placed, seen = rng.random((90, 3)), rng.normal(5, 2, (90, 4))
    bounds = [(0, 20), (20, 70), (70, 90)]
    parts = [Profile(Moments.of(placed[a:b]), (Moments.of(seen[a:b]),), np.full(3, a)) for a, b in bounds]
    for order in (parts, parts[::-1]):
        whole = merged(order)
        assert whole.images == 90
        assert whole.placed.mean == pytest.approx(placed.mean(axis=0))
        assert whole.placed.covariance == pytest.approx(np.cov(placed.T))
        assert whole.signature[0].mean == pytest.approx(seen.mean(axis=0))
        assert whole.signature[0].covariance == pytest.approx(np.cov(seen.T))
        assert whole.curve.x == pytest.approx(logit(placed.mean(axis=0)))
    assert parts[0].merge(parts[1]).c_t.tolist() == parts[1].merge(parts[0]).c_t.tolist() == [20.0] * 3


def test_sets_of_other_layers_cannot_be_merged() -> None:
    rng = np.random.default_rng(2)
    one = profile_of(images(np.zeros(5), 30, rng), rng)
    with pytest.raises(ValueError, match="shorter"):
        one.merge(Profile(one.placed, one.signature[:-1], one.c_t))


def test_the_curve_has_the_covariance_that_samples_show() -> None:
    rng = np.random.default_rng(1)
    curves = [profile_of(images(np.zeros(5), 200, rng), rng).curve for _ in range(400)]
    seen = np.cov(np.array([curve.x for curve in curves]).T)
    stated = np.mean([curve.covariance for curve in curves], axis=0)
    assert stated == pytest.approx(seen, rel=0.2)
    assert np.mean([curve.x for curve in curves], axis=0) == pytest.approx(np.full(3, logit(0.5)), abs=0.02)


@pytest.mark.parametrize(("count", "sizes"), [(20, [20]), (49, [49]), (50, [25, 25]), (126, [26, 25, 25, 25, 25])])
def test_sets_are_cut_into_parts_of_enough_images(count: int, sizes: list[int]) -> None:
    part = cut(count, seed=0)
    assert np.bincount(part).tolist() == sizes
    assert (part == cut(count, seed=0)).all()
    assert count < 50 or (part != cut(count, seed=1)).any()


def test_every_cut_keeps_its_promises() -> None:
    for count in range(1, 400, 7):
        sizes = np.bincount(cut(count, seed=count))
        assert sizes.sum() == count
        assert np.ptp(sizes) <= 1
        assert len(sizes) <= MOST_PARTS
        assert len(sizes) == 1 or sizes.min() >= LEAST_IMAGES
        assert len(sizes) == MOST_PARTS or count < LEAST_IMAGES * (len(sizes) + 1)
