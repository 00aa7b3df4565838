"""What the patches of an image say about its source among the training images: two questions to all of them.

**Late interaction.** How much better does the best training image explain *all* patches than the next one does?
D(x, i) is the mean over the patches t of x of the squared distance to the nearest patch of i (a one-sided Chamfer
distance, 2 - 2·MaxSim/t), the smallest over the views of x:

    late(x) = ln(D(x, i₂)/D(x, i₁)),  i₁ and i₂ the nearest and the next training image

It sees whole copies, however altered, and misses small parts.

**Votes of patches.** Each patch votes for its nearest training image with ½·ln(d₂/d₁), where d₁ is its squared
distance to that image and d₂ to the nearest other one. The margin of the best image over the next, the largest over
the views, sees parts of images, and misses copies whose patches are all altered a little.

Near-duplicates within the training set would hide a copy from both, since the next image is then the same picture. So
training images that are the same picture as the best one are merged with it (`same_picture`).

Both are the same fixed function for held-out and generated images: nothing is fitted on either, and an image's evidence
does not depend on the others that are compared with it. Equal distances are ordered by the training image's number.

Two ways lead to the same evidence: `copy_evidence` with all training images in memory, and `evidence_among` with the
few that `candidates.propose` finds while it reads the training images once, block by block.

Source: late interaction: Khattab & Zaharia 2020 (ColBERT); ratio of the best to the next: Lowe 2004.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scoring.copies.token_space import unit
from scoring.copies.train_tokens import TrainTokens, nearest_token_distances

NEIGHBOURS = 50
"""The rank of the training image whose distance is that of an unrelated one."""

DUPLICATE = 0.5
"""Training images nearer than this share of the distance of an unrelated one are the same picture."""

CANDIDATES = 64
"""Nearest training images among which the same picture is looked for."""

FETCHED = 16_384
"""Training images that `evidence_among` holds at a time: 64 MB of 64 tokens with 32 directions."""

FLOOR = 1e-6
"""Smallest squared distance, so that identical patches count as a finite vote of at most 7."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The evidence for each of q images.

    Attributes:
        late: (q,) float64, the late interaction ratio, ≥ 0; 0 where there is no other picture to compare with.
        late_source: (q,) int64, its training image.
        late_view: (q,) int64, the view that matched.
        votes: (q,) float64, the margin of votes, ≥ 0.
        votes_source: (q,) int64, the image with most votes.
        votes_view: (q,) int64, the view in which it has them.
        late_alike: (q,) int64, training images that are the same picture as ``late_source``, itself included.
        votes_alike: (q,) int64, the same of ``votes_source``.
        nearest: (q,) float64, late-interaction distance of the best training image.
        unrelated: (q,) float64, that of an unrelated one, the `NEIGHBOURS`-th.
    """

    late: NDArray[np.float64]
    late_source: NDArray[np.int64]
    late_view: NDArray[np.int64]
    votes: NDArray[np.float64]
    votes_source: NDArray[np.int64]
    votes_view: NDArray[np.int64]
    late_alike: NDArray[np.int64]
    votes_alike: NDArray[np.int64]
    nearest: NDArray[np.float64]
    unrelated: NDArray[np.float64]


class _Ranked(NamedTuple):
    """The training images in order of their distance to one image.

    Attributes:
        distances: (n,) float32, late-interaction distance in the best view; infinite for images that are left out.
        view: (n,) int64, that view.
        order: The nearest images, nearest first, without those left out.
        unrelated: Distance of the `NEIGHBOURS`-th image, of the last one if there are fewer.
    """

    distances: NDArray[np.float32]
    view: NDArray[np.int64]
    order: NDArray[np.int64]
    unrelated: float


class _Found(NamedTuple):
    """The evidence for one image, see `Evidence`."""

    late: float
    late_source: int
    late_view: int
    votes: float
    votes_source: int
    votes_view: int
    late_alike: int
    votes_alike: int
    nearest: float
    unrelated: float


class _Vote(NamedTuple):
    """The margin of one image over the next in one view, and how many are the same picture as it, itself included."""

    margin: float
    source: int
    view: int
    alike: int = 1


def copy_evidence(
    views: Sequence[NDArray[np.float16]], train: TrainTokens, own: NDArray[np.int64] | None = None
) -> Evidence:
    """Compute both kinds of evidence by comparing with every training image.

    Args:
        views: The same q images in each view, (q, t, k) float16 each.
        train: The training images.
        own: (q,) int64, the training image that each query is itself: it and its near-duplicates are left out. None
            for images that are not training images.

    >>> rng = np.random.default_rng(0)
    >>> tokens = rng.normal(size=(80, 9, 8)); tokens /= np.linalg.norm(tokens, axis=2, keepdims=True)
    >>> train, copy = TrainTokens(tokens.astype(np.float16)), tokens[[7]].astype(np.float16)
    >>> found = copy_evidence([copy], train)
    >>> found.late_source.tolist(), found.votes_source.tolist(), bool(found.late[0] > 5)
    ([7], [7], True)
    """
    return _collect(
        _evidence([view[number] for view in views], similarities, train, None if own is None else int(own[number]))
        for number, similarities in enumerate(train.similarities(views))
    )


def evidence_among(
    views: Sequence[NDArray[np.float16]],
    candidates: Sequence[NDArray[np.int64]],
    fetch: Callable[[NDArray[np.int64]], NDArray[np.float16]],
    own: NDArray[np.int64] | None = None,
) -> Evidence:
    """Compute both kinds of evidence by comparing each image with its candidates among the training images.

    Args:
        views: The same q images in each view, (q, t, k) float16 each.
        candidates: For each image the rows of its candidates, ascending, see `candidates.propose`.
        fetch: Gives the tokens (c, u, k) float16 of training images by their rows (c,), which are ascending. It is
            called for some queries at a time, with at most `FETCHED` rows (or the candidates of one query).
        own: (q,) int64, the row of the training image that each query is itself, see `copy_evidence`.

    Returns:
        Evidence whose sources are rows of training images.

    Raises:
        ValueError: There are not as many lists of candidates as images; an image has fewer than three candidates, or
            its own row is not among them; fetch gave fewer images than it was asked for.
    """
    if any(len(view) != len(candidates) for view in views):
        raise ValueError(
            f"{len(candidates)} lists of candidates for {[len(view) for view in views]} images in each view"
        )
    for number, rows in enumerate(candidates):
        if len(rows) < 3:
            raise ValueError(f"image {number} has {len(rows)} candidates: the copy score needs three training images")
        if own is not None and own[number] not in rows:
            raise ValueError(f"the candidates of image {number} lack its own row {own[number]}")
    found = []
    for numbers, rows in _chunks(candidates):
        tokens = fetch(rows)
        if len(tokens) != len(rows):
            raise ValueError(f"fetch gave {len(tokens)} of {len(rows)} training images")
        for number in numbers:
            query = [view[number] for view in views]
            found.append(_among(query, candidates[number], rows, tokens, None if own is None else own[number]))
    return _collect(found)


def _chunks(candidates: Sequence[NDArray[np.int64]]) -> Iterator[tuple[range, NDArray[np.int64]]]:
    """Queries in their order, as many at a time as have `FETCHED` candidates together, with those."""
    start, rows = 0, np.empty(0, np.int64)
    for number, more in enumerate(candidates):
        union = np.union1d(rows, more)
        if len(union) > FETCHED and number > start:
            yield range(start, number), rows
            start, union = number, more
        rows = union
    if candidates:
        yield range(start, len(candidates)), rows


def _among(
    query: list[NDArray[np.float16]],
    candidates: NDArray[np.int64],
    rows: NDArray[np.int64],
    tokens: NDArray[np.float16],
    own: np.int64 | None,
) -> _Found:
    """The evidence for one image among its candidates, whose tokens are among those of some rows."""
    train = TrainTokens(tokens[np.searchsorted(rows, candidates)])
    place = None if own is None else int(np.searchsorted(candidates, own))
    similarities = next(train.similarities([view[None] for view in query]))
    found = _evidence(query, similarities, train, place)
    return found._replace(
        late_source=int(candidates[found.late_source]), votes_source=int(candidates[found.votes_source])
    )


def _collect(found: Iterable[_Found]) -> Evidence:
    """The evidence of many images from that of each."""
    each = list(found)
    return Evidence(
        np.array([one.late for one in each], np.float64),
        np.array([one.late_source for one in each], np.int64),
        np.array([one.late_view for one in each], np.int64),
        np.array([one.votes for one in each], np.float64),
        np.array([one.votes_source for one in each], np.int64),
        np.array([one.votes_view for one in each], np.int64),
        np.array([one.late_alike for one in each], np.int64),
        np.array([one.votes_alike for one in each], np.int64),
        np.array([one.nearest for one in each], np.float64),
        np.array([one.unrelated for one in each], np.float64),
    )


def _evidence(
    queries: list[NDArray[np.float16]], similarities: NDArray[np.float32], train: TrainTokens, own: int | None
) -> _Found:
    """Both kinds of evidence for one image, from its tokens and their similarities (v, t, n)."""
    if own is not None:
        similarities = similarities.copy()
        similarities[:, :, own] = -np.inf
        ranked = _rank(similarities)
        same = same_picture(own, ranked.order[:CANDIDATES], ranked.unrelated, train)
        similarities[:, :, sorted(same)] = -np.inf
        if len(same) == len(train):
            return _Found(0.0, own, 0, 0.0, own, 0, len(same), len(same), 0.0, ranked.unrelated)
    ranked = _rank(similarities)
    best = int(ranked.order[0])
    same = same_picture(best, ranked.order[:CANDIDATES], ranked.unrelated, train)
    following = _nearest_outside(ranked.distances, same)
    late = 0.0
    if following is not None:
        late = np.log(_distance(queries, ranked, following, train) / _distance(queries, ranked, best, train))
    votes = [
        _best_vote(query, matrix, view, best, same, ranked, train)
        for view, (query, matrix) in enumerate(zip(queries, similarities, strict=True))
    ]
    vote = max(votes, key=lambda each: each.margin)
    return _Found(
        max(0.0, float(late)),
        best,
        int(ranked.view[best]),
        vote.margin,
        vote.source,
        vote.view,
        len(same),
        vote.alike,
        float(ranked.distances[best]),
        ranked.unrelated,
    )


def _rank(similarities: NDArray[np.float32]) -> _Ranked:
    """Order the training images by their late-interaction distance in the best view."""
    each = late_distances(similarities)
    distances = each.min(axis=0)
    count = min(max(CANDIDATES, NEIGHBOURS), int(np.isfinite(distances).sum()))
    order = np.argsort(distances, kind="stable")[:count]
    unrelated = float(distances[order[min(NEIGHBOURS, count) - 1]])
    return _Ranked(distances, each.argmin(axis=0), order, unrelated)


def late_distances(similarities: NDArray[np.float32]) -> NDArray[np.float32]:
    """The late-interaction distance (v, n) to each training image in each view, from the similarities (v, t, n)."""
    return np.asarray(2 - 2 * similarities.mean(axis=1))


def same_picture(image: int, candidates: NDArray[np.int64], unrelated: float, train: TrainTokens) -> set[int]:
    """A training image with its near-duplicates among some others.

    Args:
        image: The training image.
        candidates: Training images near it.
        unrelated: Distance of an unrelated image.
        train: The training images.

    Returns:
        Those whose late-interaction distance is below `DUPLICATE` times that of an unrelated image.
    """
    others = candidates[candidates != image]
    cosines = np.einsum(
        "tk,nuk->tnu",
        train.tokens[image].astype(np.float32),
        train.tokens[others].astype(np.float32),
        optimize=True,
    )
    distances = 2 - 2 * cosines.max(axis=2).mean(axis=0)
    return {image, *(int(i) for i in others[distances < DUPLICATE * unrelated])}


def _best_vote(
    query: NDArray[np.float16],
    similarity: NDArray[np.float32],
    view: int,
    best: int,
    same: set[int],
    ranked: _Ranked,
    train: TrainTokens,
) -> _Vote:
    """The largest margin of votes in one view: of the image with most votes, or of the one that explains all best."""
    first = _count(query, similarity, view, None, train)
    if first.source in same:
        merged = same
    else:
        merged = same_picture(first.source, ranked.order[:CANDIDATES], ranked.unrelated, train)
    counts = [first]
    if len(merged) > 1:
        counts.append(_count(query, similarity, view, (first.source, merged), train))
    if best not in merged and len(same) > 1:
        counts.append(_count(query, similarity, view, (best, same), train))
    most = max(counts, key=lambda each: each.margin)
    group = next((each for each in (same, merged) if most.source in each), {most.source})
    return most._replace(alike=len(group))


def _count(
    query: NDArray[np.float16],
    similarity: NDArray[np.float32],
    view: int,
    merged: tuple[int, set[int]] | None,
    train: TrainTokens,
) -> _Vote:
    """Count the votes of one view, the images of one group as one."""
    rows = np.arange(len(query))
    stands_for = None
    if merged is not None:
        image, group = merged
        members = np.array(sorted(group))
        stands_for = members[similarity[:, members].argmax(axis=1)]
        similarity = similarity.copy()
        similarity[:, image] = similarity[:, members].max(axis=1)
        similarity[:, members[members != image]] = -np.inf
    two = most_similar(similarity, 2)
    images = two if merged is None or stands_for is None else np.where(two == merged[0], stands_for[:, None], two)
    distances = _patch_distances(query, images, train)
    alone = np.isneginf(similarity[rows, two[:, 1]])  # there is no other picture: no vote
    distances[alone, 1] = distances[alone, 0]
    nearer = distances.argmin(axis=1)
    first, second = distances[rows, nearer], distances[rows, 1 - nearer]
    weights = 0.5 * np.log(np.maximum(second, FLOOR) / np.maximum(first, FLOOR))
    found, inverse = np.unique(two[rows, nearer], return_inverse=True)
    totals = np.bincount(inverse, weights=weights)
    winner = int(totals.argmax())
    runner_up = np.delete(totals, winner).max(initial=0.0)
    return _Vote(float(totals[winner] - runner_up), int(found[winner]), view)


def _patch_distances(query: NDArray[np.float16], images: NDArray[np.int64], train: TrainTokens) -> NDArray[np.float64]:
    """Squared distances (t, c) of each patch to the nearest patch of c training images (t, c), in float64."""
    tokens = train.tokens[images]  # (t, c, u, k)
    nearest = np.einsum("tk,tcuk->tcu", query.astype(np.float32), tokens.astype(np.float32)).argmax(axis=2)
    chosen = np.take_along_axis(tokens, nearest[:, :, None, None], axis=2)[:, :, 0]
    difference = unit(query.astype(np.float64))[:, None] - unit(chosen.astype(np.float64))
    return np.asarray((difference * difference).sum(axis=2))


def _distance(queries: list[NDArray[np.float16]], ranked: _Ranked, image: int, train: TrainTokens) -> float:
    """The late-interaction distance to one training image in its best view, in float64."""
    patches = nearest_token_distances(queries[ranked.view[image]], train.tokens[image])
    return max(FLOOR, float(patches.mean()))


def _nearest_outside(distances: NDArray[np.float32], same: set[int]) -> int | None:
    """The nearest training image outside a group; None if there is none."""
    left = distances.copy()
    left[sorted(same)] = np.inf
    nearest = int(left.argmin())
    return nearest if np.isfinite(left[nearest]) else None


def most_similar(similarity: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The most similar images of each token (t, count), most similar first, equal ones in their order.

    Args:
        similarity: (t, n) float32.
        count: At most n.
    """
    rows, left = np.arange(len(similarity)), similarity.copy()
    found = np.empty((len(similarity), count), np.int64)
    for number in range(count):
        found[:, number] = left.argmax(axis=1)
        left[rows, found[:, number]] = -np.inf
    return found
