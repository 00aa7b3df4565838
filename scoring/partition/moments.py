"""Mergeable first and second moments of embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Count, mean and centred scatter of a set of vectors.

    Shards are reduced one by one and merged in any order. The scatter is centred, so that a large mean costs no digits.

    Attributes:
        n: Number of vectors.
        mean: (d,) float64.
        scatter: (d, d) float64, the sum of (x - mean)(x - mean)ᵀ.

    Source:
        Chan, Golub, LeVeque 1983, pairwise update of means and sums of squares.

    >>> a, b = Moments.of(np.float32([[0, 1], [2, 1]])), Moments.of(np.float32([[4, 7]]))
    >>> a.merge(b).mean.tolist(), a.merge(b).covariance.tolist()
    ([2.0, 3.0], [[4.0, 6.0], [6.0, 12.0]])
    """

    n: int
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @classmethod
    def of(cls, x: NDArray[np.floating]) -> Moments:
        """Moments of one block of vectors.

        Args:
            x: (n, d) float32 or float64; n may be 0.

        Raises:
            ValueError: ``x`` is not two-dimensional or holds a NaN or an infinity.
        """
        if x.ndim != 2:
            raise ValueError(f"x must have shape (n, d), got {x.shape}")
        if len(x) == 0:
            return cls(0, np.zeros(x.shape[1]), np.zeros((x.shape[1], x.shape[1])))
        wide = x.astype(np.float64)
        if not np.isfinite(wide).all():
            raise ValueError(f"x holds a NaN or an infinity (shape {x.shape})")
        mean = wide.mean(axis=0)
        wide -= mean
        return cls(len(x), mean, wide.T @ wide)

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets together.

        Raises:
            ValueError: The widths differ.
        """
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"widths differ: {self.mean.size} and {other.mean.size}")
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        n = self.n + other.n
        step = other.mean - self.mean
        between = np.outer(step, step) * (self.n * other.n / n)
        return Moments(n, self.mean + step * (other.n / n), self.scatter + other.scatter + between)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(d, d) sample covariance (divisor n - 1, as scikit-learn's PCA).

        Raises:
            ValueError: Fewer than two vectors.
        """
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 vectors, got {self.n}")
        return self.scatter / (self.n - 1)
