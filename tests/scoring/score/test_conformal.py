from __future__ import annotations

import numpy as np
from hypothesis import given, settings, strategies as st

from scoring.score.conformal import conformal_p

coarse = st.lists(st.integers(0, 8).map(float), min_size=1, max_size=20)


@settings(deadline=None, derandomize=True)
@given(coarse, coarse)
def test_agrees_with_loops(ps: list[float], qs: list[float]) -> None:
    expected = [(1 + sum(p <= q for p in ps)) / (len(ps) + 1) for q in qs]
    assert conformal_p(np.array(ps), np.array(qs)).tolist() == expected


def test_exchangeable_images_get_p_at_most_t_no_more_often_than_t() -> None:
    rng = np.random.default_rng(0)
    p_values = np.concatenate([conformal_p(rng.random(99), rng.random(5)) for _ in range(2000)])
    for t in (0.01, 0.05, 0.2):
        assert np.mean(p_values <= t) < 1.25 * t
