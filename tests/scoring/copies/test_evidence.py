"""Late interaction and votes of patches, against their definitions written out one patch at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from scoring.copies import evidence as module
from scoring.copies.evidence import FLOOR, copy_evidence
from scoring.copies.train_tokens import TrainTokens, nearest_token_distances

Tokens = NDArray[np.float16]
IMAGES, PATCHES, DIMS = 90, 12, 8


def unit_tokens(rng: np.random.Generator, images: int) -> Tokens:
    tokens = rng.normal(size=(images, PATCHES, DIMS))
    return np.asarray(tokens / np.linalg.norm(tokens, axis=2, keepdims=True), np.float16)


def altered(tokens: Tokens, by: float, rng: np.random.Generator) -> Tokens:
    """Tokens turned a little, each by about the same angle."""
    moved = tokens + by * rng.normal(size=tokens.shape) / math.sqrt(DIMS)
    return np.asarray(moved / np.linalg.norm(moved, axis=2, keepdims=True), np.float16)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def train(rng: np.random.Generator) -> TrainTokens:
    return TrainTokens(unit_tokens(rng, IMAGES))


def plain_patches(query: Tokens, image: Tokens) -> list[float]:
    a, b = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None] for x in (query, image))
    return [min(float(np.sum((patch - other) ** 2)) for other in b) for patch in a]


def plain_late(query: Tokens, train: Tokens) -> tuple[float, int]:
    means = sorted((max(FLOOR, float(np.mean(plain_patches(query, image)))), i) for i, image in enumerate(train))
    return math.log(means[1][0] / means[0][0]), means[0][1]


def plain_votes(query: Tokens, train: Tokens) -> tuple[float, int]:
    table = np.array([plain_patches(query, image) for image in train])  # (n, t)
    votes = np.zeros(len(train))
    for patch in table.T:
        order = np.argsort(patch)
        votes[order[0]] += 0.5 * math.log(max(FLOOR, patch[order[1]]) / max(FLOOR, patch[order[0]]))
    order = np.argsort(-votes)
    return float(votes[order[0]] - votes[order[1]]), int(order[0])


def test_similarities_are_the_best_cosines(rng: np.random.Generator, train: TrainTokens) -> None:
    queries = unit_tokens(rng, 19)
    many = TrainTokens(unit_tokens(rng, 300))  # more than one block of images
    for reference in (train, many):
        found = np.stack(list(reference.similarities([queries[:, :5], queries[:, 5:10]])))
        expected = np.einsum("qtk,nuk->qtnu", queries[:, :10].astype(np.float64), reference.tokens.astype(np.float64))
        assert np.allclose(found, expected.max(axis=3).reshape(19, 2, 5, -1), atol=1e-6)


def test_equal_patches_are_at_distance_zero(rng: np.random.Generator) -> None:
    tokens = unit_tokens(rng, 1)[0]
    assert not nearest_token_distances(tokens, tokens[::-1]).any()


def test_both_follow_their_definitions(rng: np.random.Generator, train: TrainTokens) -> None:
    queries = np.concatenate([unit_tokens(rng, 2), altered(train.tokens[:3], 0.5, rng)])
    found = copy_evidence([queries], train)
    for number, query in enumerate(queries):
        late, late_source = plain_late(query, train.tokens)
        votes, votes_source = plain_votes(query, train.tokens)
        assert found.late[number] == pytest.approx(late, rel=1e-9)
        assert found.votes[number] == pytest.approx(votes, rel=1e-9)
        assert (found.late_source[number], found.votes_source[number]) == (late_source, votes_source)
    assert found.late_source[2:].tolist() == found.votes_source[2:].tolist() == [0, 1, 2]


def test_a_whole_altered_copy_shows_in_late_interaction(rng: np.random.Generator, train: TrainTokens) -> None:
    honest = copy_evidence([unit_tokens(rng, 50)], train)
    copies = copy_evidence([altered(train.tokens[:20], 0.7, rng)], train)
    assert copies.late.min() > honest.late.max()


def test_a_part_shows_in_the_votes_and_not_in_late_interaction(rng: np.random.Generator, train: TrainTokens) -> None:
    parts = unit_tokens(rng, 20)
    parts[:, :4] = altered(train.tokens[:20, :4], 0.1, rng)
    honest, found = copy_evidence([unit_tokens(rng, 50)], train), copy_evidence([parts], train)
    assert found.votes.min() > honest.votes.max()
    assert found.votes_source.tolist() == list(range(20))
    assert np.median(found.late) < honest.late.max()


def test_near_duplicates_in_the_training_set_hide_nothing(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = unit_tokens(rng, IMAGES)
    repeated = np.concatenate([tokens, *(altered(tokens[:3], 0.15, rng) for _ in range(5))])
    copies = altered(tokens[:3], 0.3, rng)
    alone, merged = (copy_evidence([copies], TrainTokens(each)) for each in (tokens, repeated))
    assert np.allclose(merged.late, alone.late, rtol=0.1)
    assert (merged.votes > 0.9 * alone.votes).all()
    assert [source % IMAGES % 3 for source in merged.late_source] == [0, 1, 2]
    monkeypatch.setattr(module, "DUPLICATE", 0.0)
    apart = copy_evidence([copies], TrainTokens(repeated))
    assert (apart.late < 0.2 * alone.late).all()
    assert (apart.votes < 0.5 * alone.votes).all()


def test_more_duplicates_than_candidates(rng: np.random.Generator) -> None:
    tokens = unit_tokens(rng, IMAGES)
    repeated = np.concatenate([tokens, *(altered(tokens[:1], 0.05, rng) for _ in range(module.CANDIDATES + 5))])
    found = copy_evidence([altered(tokens[:1], 0.2, rng)], TrainTokens(repeated))
    assert np.isfinite(found.late).all()
    assert found.late_source[0] == 0 or found.late_source[0] >= IMAGES


def test_a_training_image_is_not_its_own_source(rng: np.random.Generator) -> None:
    tokens = unit_tokens(rng, IMAGES)
    tokens[1] = altered(tokens[:1], 0.1, rng)[0]
    found = copy_evidence([tokens[:5]], TrainTokens(tokens), own=np.arange(5))
    assert not np.isin(found.late_source[:2], [0, 1]).any()  # nor is its near-duplicate
    assert (found.late < 0.5).all()


def test_the_view_that_matches_is_found(rng: np.random.Generator, train: TrainTokens) -> None:
    copies, other = altered(train.tokens[:6], 0.3, rng), unit_tokens(rng, 6)
    found = copy_evidence([other, copies], train)
    assert found.late_view.tolist() == found.votes_view.tolist() == [1] * 6
    alone = copy_evidence([copies], train)
    assert np.allclose(found.votes, alone.votes)
    assert np.array_equal(found.late_source, alone.late_source)


def test_an_image_does_not_depend_on_the_others(rng: np.random.Generator, train: TrainTokens) -> None:
    queries = np.concatenate([unit_tokens(rng, 7), altered(train.tokens[:7], 0.3, rng)])
    together, backwards = copy_evidence([queries], train), copy_evidence([queries[::-1]], train)
    assert np.array_equal(together.late, backwards.late[::-1])
    assert np.array_equal(together.votes, backwards.votes[::-1])


@pytest.mark.parametrize("images", [3, 20])
def test_a_training_set_smaller_than_the_lists(rng: np.random.Generator, images: int) -> None:
    tokens = unit_tokens(rng, images)
    tokens[1] = altered(tokens[:1], 0.1, rng)[0]
    train = TrainTokens(tokens)
    copies = copy_evidence([altered(tokens[:3], 0.3, rng)], train)
    assert (
        [source // 2 for source in copies.late_source] == [source // 2 for source in copies.votes_source] == [0, 0, 1]
    )
    assert (copies.late > 1).all()
    assert (copies.votes > 5).all()
    left_out = copy_evidence([tokens], train, own=np.arange(images))
    assert (left_out.late < 0.5).all()
    assert (left_out.late_source != np.arange(images)).all()
    assert (left_out.votes_source != np.arange(images)).all()
    assert not np.isin(left_out.votes_source[:2], [0, 1]).any()


def test_without_another_picture_there_is_no_evidence(rng: np.random.Generator) -> None:
    tokens = unit_tokens(rng, 3)
    tokens[1] = altered(tokens[:1], 0.1, rng)[0]
    pair = copy_evidence([tokens[:1]], TrainTokens(tokens), own=np.array([0]))
    assert (pair.late[0], pair.votes[0]) == (0, 0)  # its near-duplicate is left out too
    assert pair.late_source[0] == pair.votes_source[0] == 2
    repeated = altered(np.repeat(tokens[:1], 3, axis=0), 0.05, rng)
    far = copy_evidence([unit_tokens(rng, 1)], TrainTokens(repeated), own=np.array([1]))
    assert (far.late[0], far.votes[0], far.late_source[0], far.votes_source[0]) == (0, 0, 1, 1)
    alike = copy_evidence([unit_tokens(rng, 1)], TrainTokens(repeated))
    assert alike.late[0] == 0
    assert alike.votes[0] < 0.1


def test_no_image() -> None:
    tokens = unit_tokens(np.random.default_rng(0), 5)
    assert copy_evidence([tokens[:0]], TrainTokens(tokens)).late.shape == (0,)


def test_three_training_images_are_needed() -> None:
    with pytest.raises(ValueError, match="three images"):
        TrainTokens(unit_tokens(np.random.default_rng(0), 2))
