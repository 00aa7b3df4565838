"""Everything that one layer says about one release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scoring.score.c_t import published_ct
from scoring.score.cells import merge_small_cells
from scoring.score.conformal import conformal_p
from scoring.score.copy_rate import CopyRate, copy_rate
from scoring.score.effect import effect_size


@dataclass(frozen=True, slots=True)
class LayerScore:
    """Score of one layer; the statistics are None when the layer says nothing.

    Attributes:
        layer: Layer; 0 = the embedding output.
        informative: False when the layer is the same for all images.
        n: Held-out images.
        m: Generated images.
        cells: Cells of the partition.
        cells_kept: Groups of cells after merging and dropping.
        c_t: C_T as published, on the original cells; None also when no cell is large enough.
        z_s: Combined z over the groups.
        a_hat: Â; below ½ = copying, above ½ = underfit.
        delta: Cliff's δ = 1 - 2Â; positive = copying.
        se: DeLong standard error of Â.
        a_low: Lower end of the interval of Â.
        a_high: Upper end.
        p_value: Two-sided p-value of ``z_s``.
        coverage: Share of held-out images in kept groups; the rest is not generated.
        copy: Copy rate at the 1 % tail; None also when n is too small for it.
        copy_001: Copy rate at the 0.1 % tail; likewise.
    """

    layer: int
    informative: bool
    n: int
    m: int
    cells: int
    cells_kept: int
    c_t: float | None
    z_s: float | None
    a_hat: float | None
    delta: float | None
    se: float | None
    a_low: float | None
    a_high: float | None
    p_value: float | None
    coverage: float | None
    copy: CopyRate | None
    copy_001: CopyRate | None


class ScoredLayer(NamedTuple):
    """A layer's score and what it says of each image.

    Attributes:
        score: The score.
        influence_p: (n,) float64, see :class:`scoring.score.effect.Effect`.
        influence_q: (m,) float64, likewise.
        conformal_p: (m,) float64, see :func:`scoring.score.conformal.conformal_p`.
        groups: (c,) int32, the group of each cell; -1 = not generated.
    """

    score: LayerScore
    influence_p: NDArray[np.float64]
    influence_q: NDArray[np.float64]
    conformal_p: NDArray[np.float64]
    groups: NDArray[np.int32]


def score_layer(
    layer: int,
    dist_p: NDArray[np.float64],
    cell_p: NDArray[np.integer],
    dist_q: NDArray[np.float64],
    cell_q: NDArray[np.integer],
    centroids: NDArray[np.float32],
    *,
    level: float = 0.95,
) -> ScoredLayer:
    """All scores of one informative layer.

    Args:
        layer: Layer.
        dist_p: (n,) float64, nearest distances of held-out images.
        cell_p: (n,) integer, their cells in 0…c-1.
        dist_q: (m,) float64, nearest distances of generated images.
        cell_q: (m,) integer, their cells in 0…c-1.
        centroids: (c, k) float32.
        level: Level of the printed intervals of this one layer.

    Raises:
        ValueError: Too few images (the counts are named), NaN distances, cells out of range.

    >>> rng, one = np.random.default_rng(0), np.zeros((1, 2), np.float32)
    >>> p, q, zeros = rng.uniform(1, 2, 400), rng.uniform(0, 1, 400), np.zeros(400, int)
    >>> scored = score_layer(3, p, zeros, q, zeros, one)
    >>> scored.score.a_hat, scored.score.delta, scored.score.copy.rate
    (0.0, 1.0, 1.0)
    """
    cells = len(centroids)
    for name, assigned in (("cell_p", cell_p), ("cell_q", cell_q)):
        if assigned.size and not 0 <= assigned.min() <= assigned.max() < cells:
            raise ValueError(f"{name} holds {assigned.min()}…{assigned.max()}, but there are {cells} cells")
    n_cell, m_cell = np.bincount(cell_p, minlength=cells), np.bincount(cell_q, minlength=cells)
    groups = merge_small_cells(centroids, n_cell, m_cell)
    effect = effect_size(dist_p, groups[cell_p], dist_q, groups[cell_q], level=level)
    score = LayerScore(
        layer=layer,
        informative=True,
        n=len(dist_p),
        m=len(dist_q),
        cells=cells,
        cells_kept=int(groups.max()) + 1,
        c_t=published_ct(dist_p, cell_p, dist_q, cell_q),
        z_s=effect.z_s,
        a_hat=effect.a_hat,
        delta=effect.delta,
        se=effect.se,
        a_low=effect.low,
        a_high=effect.high,
        p_value=effect.p_two_sided,
        coverage=effect.coverage,
        copy=copy_rate(dist_p, dist_q, alpha=0.01, level=level),
        copy_001=copy_rate(dist_p, dist_q, alpha=0.001, level=level),
    )
    return ScoredLayer(score, effect.influence_p, effect.influence_q, conformal_p(dist_p, dist_q), groups)


def uninformative_layer(layer: int, n: int, m: int) -> LayerScore:
    """The score of a layer that is the same vector for every image.

    >>> uninformative_layer(0, 100, 100).a_hat is None
    True
    """
    return LayerScore(
        layer=layer,
        informative=False,
        n=n,
        m=m,
        cells=0,
        cells_kept=0,
        c_t=None,
        z_s=None,
        a_hat=None,
        delta=None,
        se=None,
        a_low=None,
        a_high=None,
        p_value=None,
        coverage=None,
        copy=None,
        copy_001=None,
    )
