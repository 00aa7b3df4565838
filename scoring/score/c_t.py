"""C_T as published."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scoring.score.mann_whitney import cell_rank_tests


def published_ct(
    dist_p: NDArray[np.float64],
    cell_p: NDArray[np.integer],
    dist_q: NDArray[np.float64],
    cell_q: NDArray[np.integer],
    *,
    min_generated: int = 20,
) -> float | None:
    """C_T = Σ n_c Z_c / Σ n_c over the cells with more than ``min_generated`` generated images.

    Far below 0: closer to the training images than fresh real images are (copying). Far above 0: underfit. C_T is a
    weighted mean of z-scores: its null standard deviation is not 1 (about 0.32 for 10 equal cells), and it grows with
    sample size. The presets ``paper`` (1 - ``|cos|``) and ``meehan`` (Euclidean) differ only in the metric of the
    distances. Cells are the original ones, not merged.

    Args:
        dist_p: (n,) float64, in-cell nearest distances of held-out images.
        cell_p: (n,) integer, their cells.
        dist_q: (m,) float64, in-cell nearest distances of generated images.
        cell_q: (m,) integer, their cells.
        min_generated: Cells with more generated images than this are kept.

    Returns:
        C_T, or None when no cell is kept.

    Source:
        Meehan et al. 2020 (C_T); He et al. 2024 (C_T of each layer).

    >>> cell = np.zeros(30, int)
    >>> published_ct(np.arange(30) + 100.0, cell, np.arange(30) + 0.0, cell)
    -6.645...
    >>> published_ct(np.arange(30) + 100.0, cell, np.arange(20) + 0.0, cell[:20]) is None
    True
    """
    kept = [test for test in cell_rank_tests(dist_p, cell_p, dist_q, cell_q) if test.m > min_generated]
    if not kept:
        return None
    return sum(test.n * test.z_published for test in kept) / sum(test.n for test in kept)
