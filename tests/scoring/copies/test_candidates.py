"""Candidates found block by block give the evidence that a comparison with all training images gives."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from scoring.copies import evidence as module
from scoring.copies.candidates import NEAREST, propose
from scoring.copies.evidence import Evidence, copy_evidence, evidence_among
from scoring.copies.train_tokens import TrainTokens

Tokens = NDArray[np.float16]
Rows = NDArray[np.int64]
PATCHES, DIMS, CLUSTERS = 12, 8, 30
GROUPS = (2, 3, 2, 3, 3, 6)
"""Sizes of the groups of near-duplicates, at the beginning of the training images."""


class Train:
    """Training images by rows that say nothing about their places, as a table gives them."""

    def __init__(self, tokens: Tokens, seed: int = 0) -> None:
        self.tokens = tokens
        self.rows = np.sort(np.random.default_rng(seed).choice(2**40, len(tokens), replace=False))
        self.fetched: list[Rows] = []

    def blocks(self, size: int) -> Iterator[tuple[Rows, Tokens]]:
        for start in range(0, len(self.rows), size):
            yield self.rows[start : start + size], self.tokens[start : start + size]

    def fetch(self, rows: Rows) -> Tokens:
        self.fetched.append(rows)
        return self.tokens[np.searchsorted(self.rows, rows)]

    def evidence(self, views: list[Tokens], own: Rows | None = None, size: int = 256) -> Evidence:
        """The evidence by candidates."""
        return evidence_among(views, propose(views, self.blocks(size), own), self.fetch, own)

    def all_compared(self, views: list[Tokens], own: Rows | None = None) -> Evidence:
        """The evidence by comparing with all, sources as rows."""
        found = copy_evidence(views, TrainTokens(self.tokens), None if own is None else np.searchsorted(self.rows, own))
        late, votes = self.rows[found.late_source], self.rows[found.votes_source]
        return replace(found, late_source=late, votes_source=votes)


def unit(tokens: NDArray[np.float64]) -> Tokens:
    return np.asarray(tokens / np.linalg.norm(tokens, axis=-1, keepdims=True), np.float16)


def altered(tokens: Tokens, by: float, rng: np.random.Generator) -> Tokens:
    return unit(tokens + by * rng.normal(size=tokens.shape) / math.sqrt(DIMS))


def clustered(rng: np.random.Generator, images: int) -> Tokens:
    """Images of a few clusters, whose patches resemble those at the same place of their cluster."""
    centres = np.random.default_rng(99).normal(size=(CLUSTERS, PATCHES, DIMS))
    return unit(centres[rng.integers(CLUSTERS, size=images)] + rng.normal(size=(images, PATCHES, DIMS)))


@pytest.fixture(scope="module")
def train() -> Train:
    rng = np.random.default_rng(0)
    groups = [altered(clustered(rng, 1).repeat(size, axis=0), 0.15, rng) for size in GROUPS]
    return Train(np.concatenate([*groups, clustered(rng, 1000)]))


@pytest.fixture(scope="module")
def queries(train: Train) -> list[Tokens]:
    """Honest images, whole copies (of near-duplicates as well) and pasted parts, in two views."""
    rng = np.random.default_rng(1)
    members = np.concatenate([np.arange(sum(GROUPS)), np.arange(100, 106)])
    parts = clustered(rng, len(members))
    parts[:, :4] = altered(train.tokens[members, :4], 0.1, rng)
    seen = np.concatenate([clustered(rng, 12), altered(train.tokens[members], 0.3, rng), parts])
    other = clustered(rng, len(seen))
    mirrored = rng.random(len(seen)) < 0.5
    return [np.where(mirrored[:, None, None], a, b) for a, b in ((seen, other), (other, seen))]


@pytest.fixture(scope="module")
def expected(train: Train, queries: list[Tokens]) -> Evidence:
    return train.all_compared(queries)


def assert_same(found: Evidence, expected: Evidence) -> None:
    """Equal sources and views, and values up to the last bits.

    Values are direct float64 differences: equal bit for bit if the same images are compared. Which ones these are is
    decided by float32 products, whose last bits may depend on an image's place in a block on some processors; this
    changes values only where two images are at the same distance within those bits.
    """
    for name in ("late_source", "votes_source", "late_view", "votes_view"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    assert np.allclose(found.late, expected.late, rtol=1e-6, atol=1e-6)
    assert np.allclose(found.votes, expected.votes, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [100, 256, 5000])
def test_candidates_give_the_evidence_of_all(
    train: Train, queries: list[Tokens], expected: Evidence, size: int
) -> None:
    candidates = propose(queries, train.blocks(size))
    assert max(len(rows) for rows in candidates) <= NEAREST + 3 * 2 * PATCHES < len(train.rows) / 5
    found = evidence_among(queries, candidates, train.fetch)
    assert_same(found, expected)
    assert (found.late[12:37] > 1).all()  # copies are found, those of near-duplicates as well


@pytest.mark.parametrize("size", [100, 700])
def test_training_images_left_out(train: Train, size: int) -> None:
    rng = np.random.default_rng(2)
    places = np.concatenate([np.arange(sum(GROUPS)), rng.choice(np.arange(30, 1000), 15, replace=False)])
    own, tokens = train.rows[places], train.tokens[places]
    views = [tokens, altered(tokens, 0.3, rng)]
    candidates = propose(views, train.blocks(size), own)
    assert all(row in rows for row, rows in zip(own, candidates, strict=True))
    found = evidence_among(views, candidates, train.fetch, own)
    assert_same(found, train.all_compared(views, own))
    assert not (found.late_source == own).any()
    assert found.late.max() < 0.5


def test_many_near_duplicates() -> None:
    rng = np.random.default_rng(3)
    tokens = np.concatenate([altered(clustered(rng, 1).repeat(60, axis=0), 0.15, rng), clustered(rng, 1500)])
    train, views = Train(tokens), [altered(tokens[:5], 0.3, rng)]
    found, expected = train.evidence(views), train.all_compared(views)
    assert np.array_equal(found.late, expected.late)
    assert np.array_equal(found.late_source, expected.late_source)
    assert np.array_equal(found.votes_source, expected.votes_source)
    # More near-duplicates than a patch's list holds: the next picture of the candidates can only be further away.
    assert (found.votes >= expected.votes * (1 - 1e-9)).all()


def test_the_order_of_the_blocks_changes_nothing(train: Train, queries: list[Tokens]) -> None:
    rng = np.random.default_rng(4)
    blocks = list(train.blocks(200))
    expected = propose(queries, blocks)
    for _ in range(2):
        rng.shuffle(blocks)
        shuffled = [(rows[turn], tokens[turn]) for rows, tokens in blocks for turn in [rng.permutation(len(rows))]]
        assert all(np.array_equal(a, b) for a, b in zip(propose(queries, shuffled), expected, strict=True))


def test_equal_distances_are_ordered_by_row() -> None:
    rng = np.random.default_rng(5)
    train = Train(clustered(rng, 1).repeat(400, axis=0))
    for size in (64, 400):
        blocks = list(train.blocks(size))[::-1]
        (found,) = propose([clustered(rng, 1)], blocks)
        assert found.tolist() == train.rows[:NEAREST].tolist()
    without = propose([train.tokens[:1]], train.blocks(64), own=train.rows[[7]])
    assert without[0].tolist() == train.rows[: NEAREST + 1].tolist()


def test_patches_that_many_images_share() -> None:
    """Plain backgrounds: each patch is one of six, so nearly all distances are equal to others."""
    rng = np.random.default_rng(6)
    kinds = clustered(rng, 1)[0, :6]
    tokens = np.unique(kinds[rng.integers(6, size=(900, PATCHES))], axis=0)
    train, views = Train(tokens), [kinds[rng.integers(6, size=(20, PATCHES))]]
    views[0][:10, :6] = clustered(rng, 10)[:, :6]
    expected = train.all_compared(views)
    for size in (50, 256):
        assert_same(train.evidence(views, size=size), expected)


def test_an_image_does_not_depend_on_the_others(train: Train, queries: list[Tokens]) -> None:
    together = train.evidence(queries)
    for number in (0, 13, 40, 60):
        alone = train.evidence([view[[number]] for view in queries])
        for name in Evidence.__slots__:
            assert getattr(alone, name)[0] == getattr(together, name)[number], name


@pytest.mark.parametrize("images", [3, 20, 55, 140])
def test_training_sets_smaller_than_the_lists(images: int) -> None:
    rng = np.random.default_rng(images)
    tokens = clustered(rng, images)
    tokens[1] = altered(tokens[:1], 0.1, rng)[0]
    train, views = Train(tokens), [np.concatenate([altered(tokens[:3], 0.3, rng), clustered(rng, 3)])]
    assert_same(train.evidence(views, size=2), train.all_compared(views))
    assert_same(train.evidence([tokens[:20]], train.rows[:20]), train.all_compared([tokens[:20]], train.rows[:20]))


def test_few_training_images_are_fetched_at_a_time(
    train: Train, queries: list[Tokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = [view[:40] for view in queries]
    candidates = propose(queries, train.blocks(256))
    expected = evidence_among(queries, candidates, train.fetch)
    monkeypatch.setattr(module, "FETCHED", 400)
    train.fetched.clear()
    found = evidence_among(queries, candidates, train.fetch)
    assert all((np.diff(rows) > 0).all() and len(rows) <= 400 for rows in train.fetched)
    assert all(len(np.union1d(a, b)) > 400 or len(a) > 200 for a, b in pairwise(train.fetched))
    assert np.array_equal(found.late, expected.late)
    assert np.array_equal(found.votes, expected.votes)
    monkeypatch.setattr(module, "FETCHED", 10)  # less than one query needs
    train.fetched.clear()
    assert np.array_equal(evidence_among(queries, candidates, train.fetch).votes, expected.votes)
    assert [rows.tolist() for rows in train.fetched] == [rows.tolist() for rows in candidates]


def test_memory_does_not_grow_with_the_training_set() -> None:
    rng = np.random.default_rng(7)
    views, size = [clustered(rng, 3)], 3000

    def peak(blocks: int) -> int:
        tracemalloc.start()
        try:
            propose(views, ((np.arange(size) + size * number, clustered(rng, size)) for number in range(blocks)))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    block = size * (PATCHES * DIMS * 2 + 8)
    peak(1)
    assert peak(16) <= peak(4) + block


def test_no_image(train: Train) -> None:
    views = [train.tokens[:0]]
    assert propose(views, train.blocks(500)) == []
    assert train.evidence(views).votes.shape == (0,)


def test_three_candidates_are_needed() -> None:
    rng = np.random.default_rng(8)
    train, views = Train(clustered(rng, 2)), [clustered(rng, 1)]
    with pytest.raises(ValueError, match="image 0 has 2 candidates"):
        train.evidence(views)
    with pytest.raises(ValueError, match="image 0 has 0 candidates"):
        evidence_among(views, propose(views, []), train.fetch)


def test_candidates_that_do_not_fit_the_images() -> None:
    rng = np.random.default_rng(9)
    train, views = Train(clustered(rng, 9)), [clustered(rng, 2)]
    candidates = propose(views, train.blocks(9))
    with pytest.raises(ValueError, match="1 lists of candidates"):
        evidence_among(views, candidates[:1], train.fetch)
    with pytest.raises(ValueError, match="gave 8 of 9"):
        evidence_among(views, candidates, lambda rows: train.fetch(rows[1:]))
    with pytest.raises(ValueError, match="lack its own row"):
        evidence_among(views, candidates, train.fetch, own=np.array([train.rows[0], 5]))
