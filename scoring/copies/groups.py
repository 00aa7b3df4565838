"""Which images of a set are the same picture, nearly: groups of near-duplicates by their patch tokens.

Two images x and y are near-duplicates when either explains the other far better than training images explain it:

    D(x, y) ≤ τ·u(x) and D(y, x) ≤ τ·u(y),

where D is the late-interaction distance (`evidence`), and u(x) that of an unrelated training image, the
`NEIGHBOURS`-th. Groups are what such pairs connect. τ is the same rule for held-out and generated images and looks at
no score (`alike_ratio`): among independent images one in a thousand finds a near-duplicate, whatever the sizes of the
sets.

All pairs are not compared by their tokens: each image with the `PROPOSED` that are nearest by the means of their tokens
over 4 × 4 regions. One image of each group then stands for it, and the comparison is repeated until nothing joins, so
that a group may be larger than that. Images that are mirrored or cropped are not near-duplicates.

Cost: m² products of 512 numbers, in blocks; 10,000 images take seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from scoring.copies.evidence import DUPLICATE
from scoring.nearest.near_duplicates import MIN_IMAGES, duplicate_threshold

FALSE_RATE = 1e-3
"""Share of independent images that find a near-duplicate in their set by chance."""

PROPOSED = 8
"""Images that each image is compared with, token by token."""

_MOST = 0.05
"""Largest share of held-out images from which the threshold is read."""

_REGIONS = 4
_ROUNDS = 6
_BLOCK = 512
_PAIRS = 128

Fetch = Callable[[NDArray[np.int64]], NDArray[np.float16]]


def alike_ratio(
    nearest: NDArray[np.float64], unrelated: NDArray[np.float64], train: int, count: int, false_rate: float = FALSE_RATE
) -> float:
    """The largest D(x, y)/u(x) of near-duplicates in a set of ``count`` images.

    The share of held-out images whose nearest training image lies below a ratio grows with the number of training
    images, by the hazard -ln(1 - F), and as a power of the ratio (`duplicate_threshold`). So the ratio below which one
    of ``false_rate`` independent images finds another one of ``count`` is that of ``false_rate``·train/count.

    Args:
        nearest: (n,) float64, distance of each held-out image to its nearest training image.
        unrelated: (n,) float64, distance of an unrelated training image.
        train: Training images.
        count: Images of the set.
        false_rate: Share of independent images that find a near-duplicate.

    Returns:
        At most `DUPLICATE`; a quarter of it with fewer than `MIN_IMAGES` held-out images, which cannot tell.

    >>> rng = np.random.default_rng(0)
    >>> far = rng.random((200, 500)) ** (1 / 8)
    >>> few, many = (alike_ratio(far.min(axis=1), np.ones(200), 500, count) for count in (500, 5000))
    >>> 0 < many < few < 0.3
    True
    """
    if len(nearest) < MIN_IMAGES:
        return DUPLICATE / 4
    ratios = np.clip(nearest / np.maximum(unrelated, np.finfo(np.float64).tiny), 0, 1)
    return min(DUPLICATE, duplicate_threshold(ratios, min(_MOST, false_rate * train / max(1, count))).ratio)


def alike(means: NDArray[np.float32], fetch: Fetch, unrelated: NDArray[np.float64], ratio: float) -> NDArray[np.int64]:
    """Number the groups of near-duplicates of a set.

    Args:
        means: (m, d) float32, see `region_means`.
        fetch: Gives the tokens (c, t, k) of images by their places (c,), which are ascending.
        unrelated: (m,) float64, distance of each to an unrelated training image.
        ratio: See `alike_ratio`.

    Returns:
        (m,) int64, the first image of each one's group.

    >>> rng = np.random.default_rng(0)
    >>> tokens = rng.normal(size=(30, 16, 8)); tokens /= np.linalg.norm(tokens, axis=2, keepdims=True)
    >>> tokens[9] = tokens[4]
    >>> found = alike(region_means(tokens), lambda places: tokens[places].astype(np.float16), np.ones(30), 0.1)
    >>> int(found[9]), len(np.unique(found))
    (4, 29)
    """
    labels = np.arange(len(means))
    for _ in range(_ROUNDS):
        heads = np.unique(labels)
        pairs = _pairs(means[heads])
        pairs = heads[pairs[_are_alike(heads[pairs], fetch, unrelated, ratio)]]
        if not len(pairs):
            break
        labels = joined(labels, _first_of(pairs, len(labels)))
    return labels


def joined(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups that are connected by any of two groupings of the same images, as the first image of each.

    >>> joined(np.array([0, 0, 2, 3]), np.array([0, 1, 1, 3])).tolist()
    [0, 0, 0, 3]
    """
    places = np.arange(len(one))
    pairs = np.concatenate([_with_first(one, places), _with_first(other, places)])
    return _first_of(pairs, len(one))


def representatives(groups: NDArray[np.int64], seed: int | tuple[int, ...]) -> NDArray[np.int64]:
    """One image of each group, drawn by lot: places in ascending order.

    Args:
        groups: (m,) int64, equal for images of one group.
        seed: Decides the lot; scores do not.

    >>> len(representatives(np.array([0, 0, 2, 2, 2]), 7))
    2
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    _, first = np.unique(groups[order], return_index=True)
    return np.sort(order[first])


def sizes(groups: NDArray[np.int64], weights: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """The size of each image's group (m,), in images or by their weights."""
    _, places = np.unique(groups, return_inverse=True)
    return np.bincount(places, weights).astype(np.int64)[places]


def region_means(tokens: NDArray[np.floating]) -> NDArray[np.float32]:
    """The means of tokens over 4 × 4 regions (fewer where there are fewer patches), as vectors of length 1.

    Args:
        tokens: (m, t, k), t patches of a square, row by row.

    Returns:
        (m, regions · k) float32.
    """
    count, patches, dims = tokens.shape
    side = round(patches**0.5)
    square = tokens.astype(np.float32).reshape(count, side, side, dims)
    cuts = np.linspace(0, side, min(side, _REGIONS) + 1).round().astype(int)[:-1]
    summed = np.add.reduceat(np.add.reduceat(square, cuts, axis=1), cuts, axis=2)
    means = summed.reshape(count, -1)
    return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float32).tiny))


def _pairs(means: NDArray[np.float32]) -> NDArray[np.int64]:
    """Pairs (p, 2) of images, each with those that are nearest by their means; every pair once."""
    count = len(means)
    most = min(PROPOSED, count - 1)
    if most < 1:
        return np.empty((0, 2), np.int64)
    found = []
    for start in range(0, count, _BLOCK):
        places = np.arange(start, min(start + _BLOCK, count))
        cosines = means[places] @ means.T
        cosines[places - start, places] = -np.inf
        near = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
        found.append(np.stack([np.repeat(places, most), near.ravel()], axis=1))
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _are_alike(
    pairs: NDArray[np.int64], fetch: Fetch, unrelated: NDArray[np.float64], ratio: float
) -> NDArray[np.bool_]:
    """Which pairs (p, 2) of images are near-duplicates, by their tokens."""
    found = np.zeros(len(pairs), np.bool_)
    for start in range(0, len(pairs), _PAIRS):
        some = pairs[start : start + _PAIRS]
        places, at = np.unique(some, return_inverse=True)
        tokens = fetch(places).astype(np.float32)
        first, second = tokens[at.reshape(-1, 2)].swapaxes(0, 1)
        cosines = first @ second.swapaxes(1, 2)
        forth, back = (2 - 2 * cosines.max(axis=axis).mean(axis=1) for axis in (2, 1))
        limits = ratio * unrelated[some] + _ROUNDING
        found[start : start + _PAIRS] = (forth <= limits[:, 0]) & (back <= limits[:, 1])
    return found


_ROUNDING = 1e-3
"""Distance of equal tokens in float16: the rounding of a length of 1, twice."""


def _with_first(groups: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each image with the first one of its group (m, 2)."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.stack([places, first[inverse]], axis=1)


def _first_of(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The first image (count,) of what pairs (p, 2) connect."""
    links = coo_array((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, parts = connected_components(links, directed=False)
    _, first, inverse = np.unique(parts, return_index=True, return_inverse=True)
    return np.asarray(first[inverse])
