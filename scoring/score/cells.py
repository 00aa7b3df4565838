"""Merging of cells until each is large enough to test, and dropping of those the release does not generate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

MIN_HELD_OUT, MIN_RELEASE = 50, 20
"""Held-out and generated images that a group needs at least (docs/method.md: "The partition")."""

ABSENT_SHARE = 0.1
"""A cell is not generated when it holds less than this share of the images expected from held-out data."""


def merge_small_cells(
    centroids: NDArray[np.float32],
    n_per_cell: NDArray[np.integer],
    m_per_cell: NDArray[np.integer],
    *,
    min_n: int = MIN_HELD_OUT,
    min_m: int = MIN_RELEASE,
) -> NDArray[np.int32]:
    """Group cells until each group has enough held-out and generated images.

    1. A cell is *not generated*, and dropped, when m·n_c/n ≥ ``min_m`` generated images are expected there and it holds
       fewer than a tenth of that and fewer than ``min_m``: by chance a Poisson count of mean 20 is below 2 four times
       in 10⁸. Merging it would compare held-out images of one place with generated images of another.
    2. While a group is too small, the one farthest below its minimum (ties: the lowest cell) joins the group with the
       nearest centroid. The distance of two groups is that of their two nearest centroids.
    3. If the last group is still too small, the nearest dropped cell returns.

    Only counts and centroids decide, never distances of images, so that the ranks inside a group stay exchangeable
    when release and held-out images are.

    Args:
        centroids: (c, k) float32.
        n_per_cell: (c,) held-out images in each cell.
        m_per_cell: (c,) generated images in each cell.
        min_n: Fewest held-out images of a group.
        min_m: Fewest generated images of a group.

    Returns:
        (c,) int32, the group of each cell, numbered by its lowest cell; -1 = dropped.

    Raises:
        ValueError: All images together are too few for one group.

    >>> square = np.float32([[0, 0], [1, 0], [9, 0], [20, 0]])
    >>> merge_small_cells(square, np.array([90, 30, 90, 90]), np.array([40, 30, 40, 0])).tolist()
    [0, 0, 1, -1]
    """
    n_cell, m_cell = np.asarray(n_per_cell, np.int64), np.asarray(m_per_cell, np.int64)
    if not len(centroids) == n_cell.size == m_cell.size:
        raise ValueError(f"{len(centroids)} centroids, but {n_cell.size} and {m_cell.size} counts")
    n, m = int(n_cell.sum()), int(m_cell.sum())
    if n < min_n or m < min_m:
        raise ValueError(
            f"too few images: {n} held-out (at least {min_n} needed), {m} generated (at least {min_m} needed)"
        )
    expected = m * n_cell / n
    absent = (expected >= min_m) & (m_cell < min_m) & (m_cell < ABSENT_SHARE * expected)
    groups = [[cell] for cell in np.flatnonzero(~absent).tolist()]
    spare = [[cell] for cell in np.flatnonzero(absent).tolist()]
    between = cdist(centroids, centroids)

    def fill(group: list[int]) -> float:
        return float(min(n_cell[group].sum() / min_n, m_cell[group].sum() / min_m))

    while fill(weakest := min(groups, key=lambda g: (fill(g), g[0]))) < 1:
        others = [g for g in groups if g is not weakest] or spare
        nearest = min(others, key=lambda g: (float(between[np.ix_(weakest, g)].min()), g[0]))
        (groups if len(groups) > 1 else spare).remove(nearest)
        groups.remove(weakest)
        groups.append(sorted(weakest + nearest))
    labels = np.full(len(centroids), -1, np.int32)
    for label, group in enumerate(sorted(groups)):
        labels[group] = label
    return labels
