"""Mann-Whitney tests of generated against held-out distances, one per cell."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring.score.placements import by_cell, check_sample, placements


@dataclass(frozen=True, slots=True)
class CellRankTest:
    """Rank test of one cell; negative z = generated images are closer to the training images than held-out ones.

    Attributes:
        cell: The cell.
        n: Held-out images in it.
        m: Generated images in it.
        u: #{(q, p): L(q) > L(p)} + ½ #{ties}.
        z_published: (u - nm/2 + ½) / sqrt(nm(n + m + 1)/12), as published: the ½ is always added and
            ties do not shrink the variance.
        z: (u - nm/2) / σ with the tie-corrected σ and no continuity correction; 0 when all are tied.
    """

    cell: int
    n: int
    m: int
    u: float
    z_published: float
    z: float


def cell_rank_tests(
    dist_p: NDArray[np.float64],
    cell_p: NDArray[np.integer],
    dist_q: NDArray[np.float64],
    cell_q: NDArray[np.integer],
) -> list[CellRankTest]:
    """Test all cells with images of both sets, in ascending order of cell.

    Args:
        dist_p: (n,) float64, nearest distances of held-out images.
        cell_p: (n,) integer, their cells; negative = dropped.
        dist_q: (m,) float64, nearest distances of generated images.
        cell_q: (m,) integer, their cells.

    Raises:
        ValueError: Empty or NaN distances, shapes that do not fit.

    Source:
        Meehan et al. 2020 (Z_U); Lehmann 1975 (tie-corrected variance).

    >>> cell = np.zeros(2, int)
    >>> [test] = cell_rank_tests(np.array([2.0, 3.0]), cell, np.array([0.0, 1.0]), cell)
    >>> test.u, round(test.z_published, 3), round(test.z, 3)
    (0.0, -1.162, -1.549)
    """
    check_sample("dist_p", dist_p, cell_p)
    check_sample("dist_q", dist_q, cell_q)
    p_rows, q_rows = by_cell(cell_p), by_cell(cell_q)
    shared = [cell for cell in p_rows if cell in q_rows]
    return [_test(cell, dist_p[p_rows[cell]], dist_q[q_rows[cell]]) for cell in shared]


def _test(cell: int, p: NDArray[np.float64], q: NDArray[np.float64]) -> CellRankTest:
    n, m = len(p), len(q)
    placed = placements(p, q)
    u = float(placed.q.sum())
    published = (u - n * m / 2 + 0.5) / math.sqrt(n * m * (n + m + 1) / 12)
    return CellRankTest(cell, n, m, u, published, tie_corrected_z(u, n, m, placed.tie_term))


def tie_corrected_z(u: float, n: int, m: int, tie_term: float) -> float:
    """(U - nm/2)/σ with σ² = nm/12·[(N + 1) - Σ(t³ - t)/(N(N - 1))], N = n + m; 0 when σ = 0.

    >>> round(tie_corrected_z(0.0, 2, 2, 0.0), 3), tie_corrected_z(2.0, 2, 2, 60.0)
    (-1.549, 0.0)
    """
    total = n + m
    if tie_term >= float(total) ** 3 - total:
        return 0.0
    return (u - n * m / 2) / math.sqrt(n * m / 12 * ((total + 1) - tie_term / (total * (total - 1))))
