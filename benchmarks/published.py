"""C_T as its authors compute it: written anew from what their repositories do, step by step, nothing made faster.

Source:
    He et al. 2024, arXiv 2407.21159, github.com/JackHe313/LayerChoice (``ct.py``): embeddings as float64; per layer and
    release, scikit-learn's PCA(64) fitted on train, k-means with 10 cells and 10 starts on those projections,
    all sets assigned by its ``predict``; cells with more than 20 generated images count. Meehan et al. 2020, arXiv
    2004.05675, github.com/casey-meehan/data-copying (``data_copying_tests.py``, with He et al.'s distance): inside a
    cell a dense float64 matrix 1 − |cos| of all pairs, its row minima, scipy's Mann-Whitney U, a z-score with a
    continuity correction of ½; cells weighted by their held-out images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

Matrix = NDArray[np.float64]

COMPONENTS, CELLS, STARTS, MIN_GENERATED = 64, 10, 10, 20


class Sets(NamedTuple):
    """Something of train, held-out and generated images, one row an image."""

    train: NDArray[np.floating]
    held_out: NDArray[np.floating]
    generated: NDArray[np.floating]


class Cells(NamedTuple):
    """The cells of the same images, (n,) integer each."""

    train: NDArray[np.integer]
    held_out: NDArray[np.integer]
    generated: NDArray[np.integer]


def published_score(embeddings: Sets, seed: int, components: int = COMPONENTS, cells: int = CELLS) -> float:
    """C_T of one layer of one release, everything computed for it, as published.

    Args:
        embeddings: (·, d) each.
        seed: Of k-means; theirs is not fixed.
        components: Dimensions of the PCA, at most d and the number of training images.
        cells: Cells of k-means.
    """
    train, held_out, generated = (x.astype(np.float64) for x in embeddings)
    pca = PCA(min(*train.shape, components), random_state=seed).fit(train)
    projected = Sets(*(pca.transform(x) for x in (train, held_out, generated)))
    k_means = KMeans(cells, n_init=STARTS, random_state=seed).fit(projected.train)
    return published_statistic(projected, Cells(*(k_means.predict(x) for x in projected)))


def published_statistic(projected: Sets, cells: Cells) -> float:
    """C_T from projected vectors, (·, k) each, and their cells.

    Raises:
        ValueError: No cell has enough generated images.
    """
    weighted = weights = 0.0
    for cell in range(int(cells.train.max()) + 1):
        t, p, q = (x[of == cell].astype(np.float64) for x, of in zip(projected, cells, strict=True))
        if len(q) > MIN_GENERATED:
            weighted += len(p) * _z(_nearest(p, t), _nearest(q, t))
            weights += len(p)
    if not weights:
        raise ValueError(f"no cell has more than {MIN_GENERATED} generated images")
    return weighted / weights


def _nearest(asking: Matrix, train: Matrix) -> Matrix:
    """1 − |cos| to the nearest train vector, from the dense matrix of all pairs."""
    asking, train = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (asking, train))
    distances: Matrix = 1.0 - np.abs(asking @ train.T)
    nearest: Matrix = distances.min(axis=1)
    return nearest


def _z(held_out: Matrix, generated: Matrix) -> float:
    n, m = len(held_out), len(generated)
    u = float(mannwhitneyu(generated, held_out, alternative="less").statistic)
    return (u - (n * m / 2 - 0.5)) / float(np.sqrt(n * m * (n + m + 1) / 12))
