"""What real images say about mean embeddings: how far content alone moves them, and how far common processings do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring.partition.moments import Moments

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LayerBackground:
    """Real images in one layer, in its k principal coordinates.

    Attributes:
        covariance: (k, k) float64, of real images.
        content: (k, k) float64, of the means of their cells about the common mean: what content alone moves.
        processed: (k, k) float64, covariance of processed real images, mean over the processings.
        shifts: Processing → (k,) float64, how far it moves the mean embedding.
    """

    covariance: Floats
    content: Floats
    processed: Floats
    shifts: Mapping[str, Floats]


@dataclass(frozen=True, eq=False)
class Background:
    """The background of all informative layers.

    Attributes:
        layers: Layer by layer.
        processings: The processings, in the order in which they are tried.
    """

    layers: tuple[LayerBackground, ...]
    processings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Shift:
    """How far one processing moved the mean embedding of some images.

    Attributes:
        images: Number of images, n.
        mean: For each layer (k,) float64, mean of processed less original embeddings.
    """

    images: int
    mean: tuple[Floats, ...]

    def merge(self, other: Shift) -> Shift:
        """The shift of both sets of images together.

        >>> Shift(1, (np.array([2.0]),)).merge(Shift(3, (np.array([6.0]),))).mean[0].tolist()
        [5.0]
        """
        images = self.images + other.images
        share = other.images / images
        return Shift(images, tuple(a + share * (b - a) for a, b in zip(self.mean, other.mean, strict=True)))


def layer_background(
    real: NDArray[np.floating],
    cell: NDArray[np.integer],
    original: NDArray[np.floating],
    processed: Mapping[str, NDArray[np.floating]],
) -> LayerBackground:
    """Learn from real images.

    Args:
        real: (n, k), real images; n at least 2.
        cell: (n,) integer, the cells of their content, found in a deep layer.
        original: (r, k), some real images as they are; r at least 2.
        processed: Processing → (r, k), the same images processed.

    Raises:
        ValueError: No processing, or shapes that do not fit.
    """
    if not processed or any(after.shape != original.shape for after in processed.values()):
        raise ValueError("each processing needs as many images as there are originals")
    whole = Moments.of(real)
    content = np.zeros_like(whole.scatter)
    for one in np.unique(cell):
        step = real[cell == one].mean(axis=0, dtype=np.float64) - whole.mean
        content += (cell == one).mean() * np.outer(step, step)
    before = original.mean(axis=0, dtype=np.float64)
    return LayerBackground(
        covariance=whole.covariance,
        content=content,
        processed=np.mean([Moments.of(after).covariance for after in processed.values()], axis=0),
        shifts={name: after.mean(axis=0, dtype=np.float64) - before for name, after in processed.items()},
    )
