"""Â of one layer as a mean over the generated images, for the curves that attribution compares."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scoring.score.placements import by_cell, check_sample, placements


class MeanPlacement(NamedTuple):
    """Ranks of the generated images among the held-out images of their group.

    Attributes:
        a_hat: Mean of ``placement``.
        placement: (m,) float64, share of the held-out images of its group nearer to the training images; ties ½.
        influence_p: (n,) float64, each held-out image's influence on ``a_hat``; Σ influence² is its variance.
        influence_q: (m,) float64, each generated image's, likewise.
    """

    a_hat: float
    placement: NDArray[np.float64]
    influence_p: NDArray[np.float64]
    influence_q: NDArray[np.float64]


def mean_placement(
    dist_p: NDArray[np.float64],
    group_p: NDArray[np.integer],
    dist_q: NDArray[np.float64],
    group_q: NDArray[np.integer],
) -> MeanPlacement:
    """Compute Â with weights m_c/m: groups count by the release's own images.

    Groups must not depend on the release. Then Â is a plain mean over generated images: its expectation is the same for
    25 images as for 25,000, and the Â of several parts merge into that of the whole. Neither holds for the weights
    n_c/n of :func:`scoring.score.effect.effect_size`, whose groups grow with fewer images.

    Args:
        dist_p: (n,) float64, nearest distances of held-out images.
        group_p: (n,) integer, their groups.
        dist_q: (m,) float64, nearest distances of generated images.
        group_q: (m,) integer, their groups; each must hold at least 2 held-out images.

    Raises:
        ValueError: Fewer than 2 generated images, or a group without held-out images.

    Source:
        DeLong, DeLong, Clarke-Pearson 1988 (structural components V10, V01), stratified.

    >>> group = np.zeros(3, int)
    >>> placed = mean_placement(np.array([1.0, 2.0, 3.0]), group, np.array([0.5, 1.5, 2.5]), group)
    >>> round(placed.a_hat, 4), placed.placement.round(2).tolist()
    (0.3333, [0.0, 0.33, 0.67])
    """
    check_sample("dist_p", dist_p, group_p)
    check_sample("dist_q", dist_q, group_q)
    m = len(dist_q)
    if m < 2:
        raise ValueError(f"at least 2 generated images are needed, got {m}")
    p_rows = by_cell(group_p)
    placement, influence_p = np.zeros(m), np.zeros(len(dist_p))
    for group, q in by_cell(group_q).items():
        p = p_rows.get(group, np.empty(0, np.intp))
        n_c, m_c = len(p), len(q)
        if n_c < 2:
            raise ValueError(f"group {group} holds {n_c} held-out images, at least 2 are needed")
        placed = placements(dist_p[p], dist_q[q])
        placement[q] = placed.q / n_c
        influence_p[p] = (m_c / m) * (placed.p / m_c - placement[q].mean()) / math.sqrt(n_c * (n_c - 1))
    a_hat = float(placement.mean())
    return MeanPlacement(a_hat, placement, influence_p, (placement - a_hat) / math.sqrt(m * (m - 1)))
