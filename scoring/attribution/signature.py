"""The moment signature: means of projected embeddings, in units of the spread of a maker's own images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

SHAPE_IMAGES = 100
"""Weight of the shared shape in the covariance of one maker, in images."""

_LEAST_SCALE = 1e-6


def oas(covariance: NDArray[np.float64], degrees: int) -> NDArray[np.float64]:
    """Shrink a covariance towards a multiple of the identity by oracle approximating shrinkage.

    Args:
        covariance: (k, k) float64.
        degrees: Number of vectors it was estimated from.

    Source:
        Chen, Wiesel, Eldar, Hero 2010.

    >>> oas(np.diag([3.0, 1.0]), 10**9).round(3).tolist()
    [[3.0, 0.0], [0.0, 1.0]]
    """
    k = len(covariance)
    mean = float(np.trace(covariance)) / k
    square = float((covariance**2).mean())
    above, below = square + mean**2, (degrees + 1) * (square - mean**2 / k)
    share = 1.0 if below <= 0 else min(above / below, 1.0)
    return (1 - share) * covariance + share * mean * np.eye(k)


def shared_shape(scatters: Sequence[NDArray[np.float64]], degrees: Sequence[int]) -> NDArray[np.float64]:
    """Estimate the shrunk covariance within makers, of all makers' images about their own means.

    Shrinkage is in units of each coordinate's own spread, since principal coordinates differ by orders of magnitude.

    Args:
        scatters: For each maker (k, k) float64, Σ (x - mean)(x - mean)ᵀ.
        degrees: For each maker, images less 1.

    Returns:
        (k, k) float64, positive definite.

    Raises:
        ValueError: A coordinate has no spread at all.
    """
    total = int(np.sum(degrees))
    pooled = np.sum(scatters, axis=0) / total
    spread = np.sqrt(np.diag(pooled))
    if not (spread > 0).all():
        raise ValueError("a coordinate is the same for all images of every maker")
    units = np.outer(spread, spread)
    shape: NDArray[np.float64] = oas(pooled / units, total) * units
    return shape


def maker_covariance(scatter: NDArray[np.float64], degrees: int, shape: NDArray[np.float64]) -> NDArray[np.float64]:
    """One maker's covariance: its own scatter, and the shared shape at its scale as `SHAPE_IMAGES` more images.

    Makers differ in spread (a GAN that dropped modes has little); one covariance for all would reject the own images of
    wide makers. A maker whose images are all the same keeps a millionth of the shape.

    Args:
        scatter: (k, k) float64.
        degrees: Images less 1, at least 1.
        shape: (k, k) float64, see :func:`shared_shape`.

    Source:
        The posterior mean under an inverse Wishart prior; Friedman 1989 (regularized discriminant analysis).

    >>> maker_covariance(np.eye(2) * 300.0, 100, np.eye(2)).tolist()
    [[3.0, 0.0], [0.0, 3.0]]
    """
    scale = max(float(np.trace(np.linalg.solve(shape, scatter))) / (len(shape) * degrees), _LEAST_SCALE)
    covariance: NDArray[np.float64] = (scatter + SHAPE_IMAGES * scale * shape) / (degrees + SHAPE_IMAGES)
    return covariance


def whitener(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k, k) float64 lower triangular V with VᵀV = S⁻¹: ``|V·d|²`` is the squared Mahalanobis distance.

    >>> whitener(np.diag([4.0, 1.0])).tolist()
    [[0.5, 0.0], [0.0, 1.0]]
    """
    lower = np.linalg.cholesky(covariance)
    whitening: NDArray[np.float64] = solve_triangular(lower, np.eye(len(lower)), lower=True)
    return whitening
