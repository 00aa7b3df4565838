"""The list of generated images that are too close to the training set, with a bounded share of false ones."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

LISTED = 0.1
"""Expected share of false images in a list, unless said otherwise."""

_ROUNDING = 1e-12


def discoveries(p: NDArray[np.float64], level: float = LISTED) -> NDArray[np.bool_]:
    """Reject conformal p-values by the Benjamini-Hochberg rule: expected false share ≤ ``level``.

    Conformal p-values of one release share the held-out sample and so depend on each other: when the held-out images
    happen to be far from the training set, all p-values are small. The dependence is positive (PRDS), under which
    Benjamini-Hochberg keeps its level on average over held-out samples (Bates et al. 2023, Theorem 2). An image is
    false when it is exchangeable with held-out images; images farther from the training set only make the rule
    stricter.

    Args:
        p: (m,) float64, see :func:`scoring.score.conformal.conformal_p`.
        level: Largest expected share of false images in the list.

    Returns:
        (m,) bool, True = listed.

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
    rejected: NDArray[np.bool_] = false_discovery_control(p, method="bh") <= level * (1 + _ROUNDING)
    return rejected


def fewest_discoveries(n: int, m: int, level: float = LISTED, *, rank: int = 1) -> int:
    """Fewest images nearer than the rank-th nearest held-out one that can be listed; more than ``m`` when none can.

    Their p-values are at most rank/(n + 1), which is rejected only when enough images share it: with few held-out
    images a single copy cannot be listed, however close it is.

    Args:
        n: Held-out images.
        m: Generated images.
        level: Level of the list.
        rank: Place among the held-out images, the nearest is 1.

    >>> fewest_discoveries(1000, 500), fewest_discoveries(5000, 500), fewest_discoveries(1000, 500, rank=4)
    (5, 1, 20)
    """
    return max(1, math.ceil(rank * m / ((n + 1) * level) - 1e-9))
