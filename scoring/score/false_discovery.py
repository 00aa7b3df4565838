"""Which generated images are too close to train, with the share of wrong ones among them bounded."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

_ROUNDING = 1e-12


def discoveries(p: NDArray[np.float64], level: float = 0.1) -> NDArray[np.bool_]:
    """Images whose conformal p-value the Benjamini-Hochberg rule rejects: expected false share ≤ ``level``.

    Conformal p-values of one release share the held-out sample, so they are dependent: when the held-out
    images happen to lie far from train, all p-values are small together. They are positively dependent on
    each one (PRDS), for which Benjamini-Hochberg keeps its level (Bates et al. 2023, Theorem 2). The guarantee
    is on the average over held-out samples. "False" is an image that is exchangeable with held-out images;
    images farther from train than that only make the rule stricter.

    Args:
        p: (m,) float64, see :func:`scoring.score.conformal.conformal_p`.
        level: Largest expected share of false ones among the images listed.

    Returns:
        (m,) bool.

    Raises:
        ValueError: p-values or a level outside (0, 1].

    Source:
        Benjamini & Hochberg 1995; Bates et al. 2023 (arXiv 2104.08279).

    >>> discoveries(np.array([0.001, 0.02, 0.9, 0.5])).tolist()
    [True, True, False, False]
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    if p.ndim != 1 or not ((p > 0) & (p <= 1)).all():
        raise ValueError(f"p must be a vector of values in (0, 1], got shape {p.shape}")
    if p.size == 0:
        return np.zeros(0, np.bool_)
    found: NDArray[np.bool_] = false_discovery_control(p, method="bh") <= level * (1 + _ROUNDING)
    return found


def fewest_discoveries(n: int, m: int, level: float = 0.1) -> int:
    """How many images must be nearer than every held-out one before any can be listed.

    A conformal p-value is never below 1/(n + 1), which alone is rejected only when enough images share it:
    with few held-out images a lone copy cannot be listed, however close it is.

    Args:
        n: Held-out images.
        m: Generated images.
        level: Level of the list.

    >>> fewest_discoveries(1000, 500), fewest_discoveries(5000, 500)
    (5, 1)
    """
    return max(1, math.ceil(m / ((n + 1) * level) - 1e-9))
