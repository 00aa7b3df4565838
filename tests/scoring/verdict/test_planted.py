from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from scoring.checks.copies_power import smallest_rate_seen
from scoring.verdict.planted import smallest_rate_called, tail_line

called = partial(smallest_rate_called, max_copy_rate=0.0, detectable=0.01)


def test_the_line_is_passed_by_one_unseen_image_in_a_hundred() -> None:
    scores = np.random.default_rng(0).permutation(1000.0 * np.arange(1, 1001))
    assert (scores > tail_line(scores)).sum() == 9
    assert (scores >= tail_line(scores)).sum() == 10
    assert tail_line(scores[:50]) == scores[:50].max()


def test_the_rate_of_perfect_copies_is_that_of_theory() -> None:
    rng = np.random.default_rng(1)
    unseen, honest = rng.normal(size=600), rng.normal(size=600)
    found = called(unseen, honest, np.full(20, 99.0))
    theory = smallest_rate_seen(600, 600)
    assert found is not None
    assert theory is not None
    assert found == pytest.approx(theory, rel=0.35)


def test_copies_of_which_half_are_found_need_about_twice_the_rate() -> None:
    rng = np.random.default_rng(2)
    unseen, honest = rng.normal(size=600), rng.normal(size=600)
    all_found, half_found = np.full(20, 99.0), np.repeat([99.0, 0.0], 10)
    first, second = (called(unseen, honest, copies) for copies in (all_found, half_found))
    assert first is not None
    assert second is not None
    assert 1.4 < second / first < 3


def test_copies_that_are_never_found_are_never_called() -> None:
    scores = np.random.default_rng(3).normal(size=300)
    assert called(scores, scores, np.array([0.0])) is None
    assert called(scores, scores[:1], np.array([99.0])) is None
