"""Placements: the rank of each image's distance among the distances of the other set."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Placements(NamedTuple):
    """The counts in U and its variance; ties count one half.

    Attributes:
        q: (m,) float64, held-out images nearer than each generated one: n·V10.
        p: (n,) float64, generated images farther than each held-out one: m·V01.
        tie_term: Σ(t³ - t) over the groups of t tied distances in both sets together.

    Both sum to U.
    """

    q: NDArray[np.float64]
    p: NDArray[np.float64]
    tie_term: float


def placements(dist_p: NDArray[np.float64], dist_q: NDArray[np.float64]) -> Placements:
    """Compute the placements of two samples in O((n + m) log(n + m)).

    Args:
        dist_p: (n,) nearest distances of held-out images.
        dist_q: (m,) nearest distances of generated images.

    Source:
        DeLong, DeLong, Clarke-Pearson 1988, structural components.

    >>> placements(np.array([1.0, 2.0]), np.array([0.0, 2.0, 3.0]))
    Placements(q=array([0. , 1.5, 2. ]), p=array([2. , 1.5]), tie_term=6.0)
    """
    p, q = np.sort(dist_p), np.sort(dist_q)
    _, sizes = np.unique(np.concatenate([p, q]), return_counts=True)
    ties = sizes[sizes > 1].astype(np.float64)
    return Placements(_nearer(p, dist_q), q.size - _nearer(q, dist_p), float((ties**3 - ties).sum()))


def _nearer(ordered: NDArray[np.float64], distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """#{o < d} + ½ #{o = d} for each distance d."""
    below, not_above = (
        np.searchsorted(ordered, distances, "left"),
        np.searchsorted(ordered, distances, "right"),
    )
    return 0.5 * (below + not_above).astype(np.float64)


def by_cell(cells: NDArray[np.integer]) -> dict[int, NDArray[np.intp]]:
    """Positions of the images of each cell, in ascending order of cell, without negative (dropped) cells.

    >>> {cell: rows.tolist() for cell, rows in by_cell(np.array([1, 0, -1, 1])).items()}
    {0: [1], 1: [0, 3]}
    """
    order = np.argsort(cells, kind="stable")
    labels, starts = np.unique(cells[order], return_index=True)
    parts = np.split(order, starts[1:]) if labels.size else []
    return {int(label): rows for label, rows in zip(labels, parts, strict=True) if label >= 0}


def check_sample(name: str, distances: NDArray[np.float64], cells: NDArray[np.integer] | None = None) -> None:
    """Raise an error for distances that cannot be ranked.

    Args:
        name: Name of the sample in the message.
        distances: (n,) float64; infinite is allowed, NaN is not.
        cells: (n,) integer, if the sample has cells.

    Raises:
        ValueError: No distance, a NaN, or cells of another shape.
    """
    if distances.ndim != 1 or distances.size == 0:
        raise ValueError(f"{name} must be a non-empty vector, got shape {distances.shape}")
    if np.isnan(distances).any():
        raise ValueError(f"{name} holds {int(np.isnan(distances).sum())} NaN")
    if cells is not None and cells.shape != distances.shape:
        raise ValueError(f"{name}: {distances.shape[0]} distances but cells of shape {cells.shape}")
