from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from scoring.nearest.two_nearest import two_nearest


@pytest.mark.parametrize("size", [1, 7, 75, 150])
@pytest.mark.parametrize("k", [1, 16, 64])
@pytest.mark.usefixtures("slow")
def test_it_is_the_brute_force_whatever_the_blocks(size: int, k: int) -> None:
    rng = np.random.default_rng(k)
    train = rng.normal(30, 1, (100, k)).astype(np.float32)
    queries = rng.normal(30, 1, (60, k)).astype(np.float32)
    queries[:10] = train[:10]
    queries[10:20] = train[10:20] * np.float32(1 + 1e-6)  # near-duplicates far from the origin
    first, second = two_nearest(queries, (train[i : i + size] for i in range(0, len(train), size)))
    expected = np.sort(cdist(queries.astype(float), train.astype(float)))
    assert np.abs(first - expected[:, 0]).max() <= 1e-12
    assert np.abs(second - expected[:, 1]).max() <= 1e-12
    assert (first[:10] == 0).all()


def test_one_train_vector_leaves_no_second_and_none_no_first() -> None:
    x = np.ones((3, 2), np.float32)
    first, second = two_nearest(x, [x[:1]])
    assert (first == 0).all()
    assert np.isinf(second).all()
    with pytest.raises(ValueError, match="no training vector"):
        two_nearest(x, [])
