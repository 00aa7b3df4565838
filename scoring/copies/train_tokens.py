"""The tokens of the training images, and how alike a query's tokens are to those of each image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from scoring.copies.token_space import unit

_IMAGES = 256
"""Training images in one matrix product: its result stays in a core's cache."""

_QUERIES = 8
"""Queries in one matrix product."""


class TrainTokens:
    """All training images, in memory.

    Args:
        tokens: (n, u, k) float16, see `TokenSpace.project`; images with equal content only once.

    Raises:
        ValueError: There are fewer than three images: a ratio compares the best with the next.
    """

    def __init__(self, tokens: NDArray[np.float16]) -> None:
        if tokens.ndim != 3 or len(tokens) < 3:
            raise ValueError(f"need (images, tokens, directions) of three images at least, got {tokens.shape}")
        self.tokens = tokens
        self._by_place = np.ascontiguousarray(tokens.astype(np.float32).transpose(1, 2, 0))  # (u, k, n)

    def __len__(self) -> int:
        return len(self.tokens)

    def similarities(self, queries: NDArray[np.float16]) -> Iterator[NDArray[np.float32]]:
        """The best cosine of every token with any token of every training image, query by query.

        Args:
            queries: (q, t, k) float16.

        Yields:
            (t, n) float32.
        """
        for start in range(0, len(queries), _QUERIES):
            some = queries[start : start + _QUERIES]
            rows = some.reshape(-1, some.shape[-1]).astype(np.float32)
            found = np.concatenate(list(self._blocks(rows)), axis=1)
            yield from found.reshape(len(some), some.shape[1], -1)

    def _blocks(self, rows: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """(rows, images of the block) for each block."""
        for start in range(0, len(self), _IMAGES):
            block = self._by_place[:, :, start : start + _IMAGES]
            best = rows @ block[0]
            product = np.empty_like(best)
            for place in block[1:]:
                np.matmul(rows, place, out=product)
                np.maximum(best, product, out=best)
            yield best


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
