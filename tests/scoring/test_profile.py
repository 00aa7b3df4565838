from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit

from scoring.profile import cut, merged
from tests.scoring.makers import images, profile_of


def test_merging_gives_the_profile_of_the_union() -> None:
    rng = np.random.default_rng(0)
    hidden = images(np.zeros(5), 90, rng)
    parts = [profile_of(hidden[i::3], np.random.default_rng(i)) for i in range(3)]
    whole = merged(parts)
    assert whole.images == 90
    by_hand = sum(part.images * part.signature[1].mean for part in parts) / 90
    assert whole.signature[1].mean == pytest.approx(by_hand)
    again = merged(parts[::-1])
    assert again.placed.covariance == pytest.approx(whole.placed.covariance)


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
