"""The few training images among which the evidence for an image is decided, found by reading all of them once.

An image's evidence (`evidence.py`) is decided by the training images nearest to it as a whole, and by those nearest to
each of its patches. `propose` keeps both while blocks of training images pass by, so that the training set need not fit
in memory, and `evidence_among` then gives what `copy_evidence` would give with all of them.

That is exact for late interaction. For votes it is exact unless, among the training images that are merged or left out
as the same picture, more than `OF_PATCH` - 2 are nearer to a patch than any other picture is; then the next picture is
looked for among the candidates alone.

Distances are float32 and equal ones are ordered by row, so that neither the order of the blocks nor other queries
change what is kept. Blocks of other sizes may change their last bits, and so which of two images at one distance is
kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from scoring.copies.evidence import CANDIDATES, late_distances, most_similar
from scoring.copies.train_tokens import best_cosines, by_place

NEAREST = 2 * CANDIDATES + 1
"""Training images nearest to a query that are kept: those left out with its own picture, those that are merged with the
best one, and the next."""

OF_PATCH = 8
"""Training images nearest to a patch that are remembered while blocks pass by."""

_NEEDED = 3
"""How many of those that are not among the `NEAREST` votes can depend on: two, and one that others are merged with."""

_AT_ONCE = 2048
"""Training images compared with a query at once: their float32 layout takes 16 MB."""


class _Best:
    """The best entries of many lists so far, with those that come later.

    Attributes:
        values: (q, lists, size) float32, best first; -inf where there is none yet.
        rows: (q, lists, size) int64, the training image of each.
    """

    def __init__(self, queries: int, lists: int, size: int) -> None:
        self.values = np.full((queries, lists, size), -np.inf, np.float32)
        self.rows = np.full((queries, lists, size), -1, np.int64)

    def merge(self, query: int, values: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """Keep the best of old and new entries (lists, c) of one query; of equal ones those with the lowest row."""
        values = np.concatenate([self.values[query], values], axis=1)
        rows = np.concatenate([self.rows[query], rows], axis=1)
        order = np.lexsort((rows, -values), axis=1)[:, : self.values.shape[2]]
        self.values[query] = np.take_along_axis(values, order, axis=1)
        self.rows[query] = np.take_along_axis(rows, order, axis=1)


def propose(
    views: Sequence[NDArray[np.float16]],
    blocks: Iterable[tuple[NDArray[np.int64], NDArray[np.float16]]],
    own: NDArray[np.int64] | None = None,
) -> list[NDArray[np.int64]]:
    """Find the training images on which the evidence for each query depends.

    Memory: that of the queries, a few times; and a block. It does not depend on the number of blocks.

    Args:
        views: The same q queries in each of v views, (q, t, k) float16 each.
        blocks: All training images once, in any order: rows (b,), and their tokens (b, u, k).
        own: (q,) int64, the row of the training image that each query is itself. It is a candidate, but takes no place
            of another one. None for images that are not training images.

    Returns:
        For each query the rows of its candidates, ascending: at most `NEAREST` and three for each patch in each view.

    >>> rng = np.random.default_rng(0)
    >>> tokens = rng.normal(size=(500, 4, 8)); tokens /= np.linalg.norm(tokens, axis=2, keepdims=True)
    >>> train = tokens.astype(np.float16)
    >>> found = propose([train[:1]], [(np.arange(500), train)])
    >>> bool(0 in found[0]), len(found[0]) <= NEAREST + 3 * 4
    (True, True)
    """
    count, patches = len(views[0]), sum(view.shape[1] for view in views)
    nearest, of_patches = _Best(count, 1, NEAREST), _Best(count, patches, OF_PATCH)
    for rows, tokens in blocks:
        order = np.argsort(rows)
        for start in range(0, len(rows), _AT_ONCE):
            places = order[start : start + _AT_ONCE]
            some, images = rows[places], by_place(tokens[places])
            for number in range(count):
                similarities = best_cosines(np.stack([view[number] for view in views]), images, len(some))
                if own is not None:
                    similarities[:, :, some == own[number]] = -np.inf
                closeness = -late_distances(similarities).min(axis=0)
                top = np.argsort(-closeness, kind="stable")[:NEAREST]
                nearest.merge(number, closeness[None, top], some[None, top])
                of_each = similarities.reshape(patches, -1)
                similar = most_similar(of_each, min(OF_PATCH, len(some)))
                of_patches.merge(number, np.take_along_axis(of_each, similar, axis=1), some[similar])
    return [_candidates(nearest, of_patches, number, None if own is None else own[number]) for number in range(count)]


def _candidates(nearest: _Best, of_patches: _Best, query: int, own: np.int64 | None) -> NDArray[np.int64]:
    """The rows that one query needs of its lists, and its own row, ascending."""
    near = nearest.rows[query][np.isfinite(nearest.values[query])]
    rows, real = of_patches.rows[query], np.isfinite(of_patches.values[query])
    outside = real & ~np.isin(rows, near)
    needed = outside & (outside.cumsum(axis=1) <= _NEEDED)
    return np.unique(np.concatenate([near, rows[needed], [] if own is None else [own]]).astype(np.int64))
