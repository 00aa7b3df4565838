"""The moment signature: mean embeddings per layer, in units of how images of one maker vary.

All makers share one covariance per layer, up to a scale: with the 50 to 100 images that a maker often has, one of its
own is mostly noise (measured: area under the ROC curve for strangers .85 against .91).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring.attribution.background import LayerBackground

REAL_IMAGES, PROCESSED_IMAGES = 100, 1000
"""Weights of the real images, and of the processed ones, in the covariance within makers, in images."""

SCALE_IMAGES = 100
"""Weight of the common scale in the scale of one maker, in images."""

CONTENT = 0.1
"""Share of the variance between contents that a set's own content may take up."""


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


@dataclass(frozen=True, eq=False)
class LayerRule:
    """How one layer compares mean embeddings.

    Attributes:
        whiten: (k, k) float64 W: images of one maker have covariance I in ``x @ W``, and content is diagonal there.
        content: (k,) float64, variance between contents along each coordinate.
    """

    whiten: NDArray[np.float64]
    content: NDArray[np.float64]

    def scale(self, scatter: NDArray[np.float64], degrees: int) -> float:
        """Variance of one maker's images relative to that of all makers' images, shrunk towards 1.

        A GAN that dropped modes varies little, a wide one much: one scale for both would refuse the images of one.

        Args:
            scatter: (k, k) float64, of its images about their mean.
            degrees: Images less 1.
        """
        own = float(np.einsum("ij,ik,kj->", self.whiten, scatter, self.whiten)) / len(self.content)
        return (own + SCALE_IMAGES) / (degrees + SCALE_IMAGES)

    def squares(self, steps: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean square of steps between means, in units of their expected variance.

        Args:
            steps: (..., k) float64, differences of mean embeddings.
            variance: (...) float64, variance of the difference in variances of one image.
        """
        return self.whitened_squares(steps @ self.whiten, variance)

    def whitened_squares(self, steps: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same for whitened steps."""
        squares = np.square(steps)
        mean: NDArray[np.float64] = (squares / (variance[..., None] + CONTENT * self.content)).mean(axis=-1)
        return mean


def layer_rule(
    scatters: Sequence[NDArray[np.float64]], degrees: Sequence[int], background: LayerBackground | None
) -> LayerRule:
    """Learn the covariance within makers, and what content moves.

    Args:
        scatters: For each maker (k, k) float64, Σ (x - mean)(x - mean)ᵀ.
        degrees: For each maker, images less 1.
        background: Real images; None: the makers alone, and content moves nothing.

    Raises:
        ValueError: A coordinate has no spread at all.
    """
    if background is not None:
        scatters = [*scatters, REAL_IMAGES * background.covariance, PROCESSED_IMAGES * background.processed]
        degrees = [*degrees, REAL_IMAGES, PROCESSED_IMAGES]
    values, vectors = np.linalg.eigh(shared_shape(scatters, degrees))
    whiten = vectors / np.sqrt(values)
    if background is None:
        return LayerRule(whiten, np.zeros(len(values)))
    content, turn = np.linalg.eigh(whiten.T @ background.content @ whiten)
    return LayerRule(whiten @ turn, np.maximum(content, 0.0))
