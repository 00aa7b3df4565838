"""The tokens of training images, and how alike a query's tokens are to those of each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from scoring.copies.token_space import unit

_IMAGES = 256
"""Training images in one matrix product: its result stays in a core's cache."""


class TrainTokens:
    """Training images, in memory.

    Args:
        tokens: (n, u, k) float16, see `TokenSpace.project`; images with equal content only once.

    Raises:
        ValueError: There are fewer than three images: a ratio compares the best with the next.
    """

    def __init__(self, tokens: NDArray[np.float16]) -> None:
        if tokens.ndim != 3 or len(tokens) < 3:
            raise ValueError(f"need (images, tokens, directions) of three images at least, got {tokens.shape}")
        self.tokens = tokens
        self._by_place = by_place(tokens)

    def __len__(self) -> int:
        return len(self.tokens)

    def similarities(self, views: Sequence[NDArray[np.float16]]) -> Iterator[NDArray[np.float32]]:
        """The best cosine of every token with any token of every training image, query by query.

        Args:
            views: The same q queries in each of v views, (q, t, k) float16 each.

        Yields:
            (v, t, n) float32.
        """
        for query in zip(*views, strict=True):
            yield best_cosines(np.stack(query), self._by_place, len(self))


def by_place(tokens: NDArray[np.float16]) -> NDArray[np.float32]:
    """The layout in which images are multiplied: in blocks, the same token of all images of a block side by side.

    The last block is filled up with zeros. All products have one shape, so that the similarity of two images does not
    depend on which others are compared.

    Args:
        tokens: (n, u, k) float16.

    Returns:
        (blocks, u, k, images of a block) float32.
    """
    count, places, dims = tokens.shape
    blocks = -(-count // _IMAGES)
    filled = np.zeros((blocks * _IMAGES, places, dims), np.float32)
    filled[:count] = tokens
    return np.ascontiguousarray(filled.reshape(blocks, _IMAGES, places, dims).transpose(0, 2, 3, 1))


def best_cosines(query: NDArray[np.float16], images: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The best cosine of every token of one query with any token of each image.

    Args:
        query: (v, t, k), the query in its views.
        images: As `by_place` lays them out.
        count: The number n of images, without those that fill the last block.

    Returns:
        (v, t, n) float32.
    """
    rows = query.reshape(-1, query.shape[-1]).astype(np.float32)
    found = np.empty((len(rows), len(images) * _IMAGES), np.float32)
    best = np.empty((len(rows), _IMAGES), np.float32)
    product = np.empty_like(best)
    for number, block in enumerate(images):
        np.matmul(rows, block[0], out=best)
        for place in block[1:]:
            np.matmul(rows, place, out=product)
            np.maximum(best, product, out=best)
        found[:, number * _IMAGES : (number + 1) * _IMAGES] = best
    return found.reshape(*query.shape[:2], -1)[:, :, :count]


def nearest_token_distances(query: NDArray[np.float16], image: NDArray[np.float16]) -> NDArray[np.float64]:
    """The squared distance of each token to the nearest token of one image, by direct differences in float64.

    Cosines of float16 vectors lose what tells a copy from its source; these do not: equal tokens are at distance 0.

    Args:
        query: (t, k).
        image: (u, k).

    Returns:
        (t,) float64, in [0, 4].
    """
    a, b = unit(query.astype(np.float64)), unit(image.astype(np.float64))
    nearest = np.argmax(a @ b.T, axis=1)
    difference = a - b[nearest]
    return np.asarray((difference * difference).sum(axis=1))
