"""The score of one release in one layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scoring.score.c_t import published_ct
from scoring.score.cells import merge_small_cells
from scoring.score.copy_rate import CopyRate, copy_rate
from scoring.score.effect import Effect, Influence, effect_and_influence


@dataclass(frozen=True, slots=True)
class LayerScore:
    """Score of one layer. A layer that is the same for all images has no statistics: `LayerScore(layer, n, m)`.

    Attributes:
        layer: Layer; 0 = the embedding output.
        n: Held-out images.
        m: Generated images.
        cells: Cells of the partition.
        cells_kept: Groups of cells after merging and dropping.
        c_t: C_T as published, on the original cells; None also when no cell is large enough.
        effect: Â with its error, over the groups.
        copy: Copy rate at the 1 % tail; None also when n is too small for it.
        copy_001: Copy rate at the 0.1 % tail; likewise.
    """

    layer: int
    n: int
    m: int
    cells: int = 0
    cells_kept: int = 0
    c_t: float | None = None
    effect: Effect | None = None
    copy: CopyRate | None = None
    copy_001: CopyRate | None = None

    @property
    def informative(self) -> bool:
        """False when the layer is the same for all images."""
        return self.effect is not None


class ScoredLayer(NamedTuple):
    """A layer's score, and its part for each image and cell.

    Attributes:
        score: The score.
        influence: Influence of each image on Â.
        groups: (c,) int32, the group of each cell; -1 = not generated.
    """

    score: LayerScore
    influence: Influence
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
    """Compute all scores of one informative layer.

    Args:
        layer: Layer.
        dist_p: (n,) float64, nearest distances of held-out images.
        cell_p: (n,) integer, their cells in 0…c-1.
        dist_q: (m,) float64, nearest distances of generated images.
        cell_q: (m,) integer, their cells in 0…c-1.
        centroids: (c, k) float32.
        level: Level of the intervals, each for this layer alone.

    Raises:
        ValueError: Too few images (the message has the counts), NaN distances, cells out of range.

    >>> rng, centroid = np.random.default_rng(0), np.zeros((1, 2), np.float32)
    >>> p, q, zeros = rng.uniform(1, 2, 400), rng.uniform(0, 1, 400), np.zeros(400, int)
    >>> score = score_layer(3, p, zeros, q, zeros, centroid).score
    >>> score.effect.a_hat, score.effect.delta, score.copy.rate
    (0.0, 1.0, 1.0)
    """
    cells = len(centroids)
    for name, assigned in (("cell_p", cell_p), ("cell_q", cell_q)):
        if assigned.size and not 0 <= assigned.min() <= assigned.max() < cells:
            raise ValueError(f"{name} holds {assigned.min()}…{assigned.max()}, but there are {cells} cells")
    n_cell, m_cell = np.bincount(cell_p, minlength=cells), np.bincount(cell_q, minlength=cells)
    groups = merge_small_cells(centroids, n_cell, m_cell)
    effect, influence = effect_and_influence(dist_p, groups[cell_p], dist_q, groups[cell_q], level=level)
    score = LayerScore(
        layer=layer,
        n=len(dist_p),
        m=len(dist_q),
        cells=cells,
        cells_kept=int(groups.max()) + 1,
        c_t=published_ct(dist_p, cell_p, dist_q, cell_q),
        effect=effect,
        copy=copy_rate(dist_p, dist_q, alpha=0.01, level=level),
        copy_001=copy_rate(dist_p, dist_q, alpha=0.001, level=level),
    )
    return ScoredLayer(score, influence, groups)
