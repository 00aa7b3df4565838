"""The copy score and the leaks among held-out images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from scoring.copies.copy_score import CopyScale, leaks, surprise
from scoring.copies.evidence import Evidence
from scoring.score.conformal import conformal_p


def evidence(late: NDArray[np.float64], votes: NDArray[np.float64]) -> Evidence:
    nowhere = np.zeros(len(late), np.int64)
    ones, far = nowhere + 1, np.ones(len(late))
    return Evidence(late, nowhere, nowhere, votes, nowhere, nowhere, ones, ones, far, far)


def honest(rng: np.random.Generator, images: int) -> Evidence:
    """Both kinds of evidence without copies; they depend on each other."""
    common = rng.exponential(size=images)
    return evidence(0.05 * common + 0.02 * rng.exponential(size=images), common**2 + rng.exponential(size=images))


def test_surprise_rises_with_the_value_and_does_not_tie_above_the_scale() -> None:
    scale = np.sort(np.random.default_rng(0).exponential(size=50))
    values = np.linspace(0, 3 * scale[-1], 400)
    found = surprise(values, scale)
    assert (np.diff(found) >= 0).all()
    assert (np.diff(found[values > scale[-1]]) > 0).all()
    assert found[values <= scale[0]].max() < 0.03


def test_the_score_is_the_larger_surprise() -> None:
    scale = CopyScale.of(evidence(np.arange(10) / 10, np.arange(10.0)))
    got = scale.score(evidence(np.array([0.85, 0.0, 0.85]), np.array([0.0, 8.5, 8.5])))
    assert got[0] == got[1] == got[2] == pytest.approx(np.log(11 / 2))


def test_the_source_is_that_of_the_deciding_evidence() -> None:
    scale = CopyScale.of(evidence(np.arange(10) / 8, np.arange(10.0)))
    late = np.array([8.5, 0.0, 8.5, 2.0, 18.0, 8.5, 30.0]) / 8
    votes = np.array([0.0, 8.5, 8.6, 8.5, 27.0, 8.5, 8.9])
    number = np.arange(7)
    found = replace(
        evidence(late, votes),
        late_source=number,
        votes_source=number + 10,
        votes_view=0 * number + 1,
        late_alike=number + 20,
        votes_alike=number + 30,
    )
    parts = scale.parts(found)
    # Of equal ranks the larger share of the scale decides (8.6 of 9, 8.5 of 9), of equal shares late interaction.
    assert parts.tolist() == [False, True, True, True, True, False, False]
    assert scale.sources(found).tolist() == [0, 11, 12, 13, 14, 5, 6]
    assert scale.alike(found).tolist() == [20, 31, 32, 33, 34, 25, 26]
    assert scale.views(found).tolist() == parts.astype(int).tolist()
    part = surprise(np.where(parts, votes / 8, late), np.arange(10) / 8)
    assert np.allclose(part, scale.score(found))


def test_p_values_of_honest_images_are_uniform_whatever_the_scale() -> None:
    rng, small = np.random.default_rng(1), []
    for _ in range(300):
        scale = CopyScale.of(honest(rng, 30))  # small, so that the scale itself is far off
        held, release = scale.score(honest(rng, 99)), scale.score(honest(rng, 40))
        small.append((conformal_p(-held, -release) <= 0.05).mean())
    assert np.mean(small) <= 0.05 + 3 * np.std(small) / np.sqrt(300)
    assert np.mean(small) > 0.035  # ties only lose a little


def test_leaks_are_named_and_hardly_anything_else() -> None:
    rng = np.random.default_rng(2)
    false, found = [], []
    for _ in range(100):
        scale = CopyScale.of(honest(rng, 3000))
        held = honest(rng, 1000)
        held.late[:10] += 2.0
        named = leaks(scale.score(held), scale.score(honest(rng, 3000)))
        found.append(named[:10].mean())
        false.append(named[10:].sum() / max(1, named.sum()))
    assert np.mean(found) > 0.95
    assert np.mean(false) <= 0.1 + 3 * np.std(false) / 10


def test_no_leak_is_named_where_there_is_none() -> None:
    rng = np.random.default_rng(3)
    named = [
        leaks(scale.score(honest(rng, 500)), scale.score(honest(rng, 1500))).any()
        for scale in (CopyScale.of(honest(rng, 1500)) for _ in range(100))
    ]
    assert np.mean(named) <= 0.1 + 3 * np.sqrt(0.09 / 100)


def test_near_duplicates_as_frequent_as_in_training_are_no_leaks() -> None:
    """One image in fifty has a near-duplicate among the training images, whether it is one itself or held out."""
    rng, any_named = np.random.default_rng(4), []
    scale = CopyScale.of(honest(rng, 1500))
    for _ in range(100):
        held, train = honest(rng, 500), honest(rng, 1500)
        held.late[rng.random(500) < 0.02] += 2.0
        train.late[rng.random(1500) < 0.02] += 2.0
        any_named.append(leaks(scale.score(held), scale.score(train)).any())
        if len(any_named) == 1:
            assert leaks(scale.score(held), scale.score(honest(rng, 1500))).sum() > 5  # the null decides
    assert np.mean(any_named) <= 0.1 + 3 * np.sqrt(0.09 / 100)


def test_a_scale_needs_two_images() -> None:
    with pytest.raises(ValueError, match="two training images"):
        CopyScale.of(evidence(np.ones(1), np.ones(1)))
