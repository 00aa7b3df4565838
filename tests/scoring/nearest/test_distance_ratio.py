from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.neighbors import NearestNeighbors

from scoring.nearest.distance_ratio import NEIGHBOURS, distance_ratio, mean_of_others
from scoring.score.conformal import conformal_p


def test_agrees_with_a_search_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    train, queries = rng.normal(size=(300, 5)), rng.normal(size=(40, 5))
    found, _ = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(train).kneighbors(queries)
    ratio = distance_ratio(found[:, 0], mean_of_others(found))
    for row, query in enumerate(queries):
        d = sorted(float(np.linalg.norm(query - one)) for one in train)
        assert ratio[row] == pytest.approx(d[0] / (sum(d[1:50]) / 49), rel=1e-12)


def test_copies_of_every_kind_have_ratio_0_and_lonely_images_1() -> None:
    first = np.array([0.0, 0.0, 0.0, 2.0, 2.0])
    others = np.array([1.0, 0.0, np.nan, np.nan, np.inf])
    assert distance_ratio(first, others).tolist() == [0, 0, 0, 1, 1]


def test_fewer_neighbours_are_averaged_over_those_there_are() -> None:
    padded = np.array([[1.0, 2.0, 3.0, np.inf], [1.0, 5.0, np.nan, np.nan]])
    np.testing.assert_array_equal(mean_of_others(padded), [2.5, 5.0])
    assert np.isnan(mean_of_others(np.ones((2, 1)))).all()


def test_p_is_uniform_for_unseen_images_and_small_for_near_copies() -> None:
    rng = np.random.default_rng(1)
    train = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(rng.normal(size=(800, 6)))
    unseen = [train.kneighbors(rng.normal(size=(count, 6)))[0] for count in (500, 400)]
    (held_out, fresh) = ((near[:, 0], mean_of_others(near)) for near in unseen)
    ratio_p = distance_ratio(*held_out)
    assert kstest(conformal_p(ratio_p, distance_ratio(*fresh)), "uniform").pvalue > 0.01
    assert conformal_p(ratio_p, distance_ratio(fresh[0] * 0.01, fresh[1])).max() == 1 / 501


def test_impossible_distances_are_named() -> None:
    one = np.ones(2)
    with pytest.raises(ValueError, match="2 images have other neighbours nearer"):
        distance_ratio(one, one / 2)
    with pytest.raises(ValueError, match="1 negative or NaN"):
        distance_ratio(np.array([np.nan, 1.0]), one)
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        distance_ratio(one, np.ones(3))
    with pytest.raises(ValueError, match=r"\(m, k\)"):
        mean_of_others(one)
