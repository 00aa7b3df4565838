"""Per-image conformal p-values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scoring.score.placements import check_sample


def conformal_p(dist_p: NDArray[np.float64], dist_q: NDArray[np.float64]) -> NDArray[np.float64]:
    """p_q = (1 + #{p: L(p) ≤ L(q)})/(n + 1): small when q is closer to the training images than unseen ones are.

    A generated image that is exchangeable with the held-out ones has P(p_q ≤ t) ≤ t.

    Args:
        dist_p: (n,) float64, nearest distances of held-out images.
        dist_q: (m,) float64, nearest distances of generated images.

    Returns:
        (m,) float64 in [1/(n + 1), 1].

    Source:
        Bates et al. 2023 (conformal p-values).

    >>> conformal_p(np.array([1.0, 2.0, 3.0]), np.array([0.5, 2.0])).tolist()
    [0.25, 0.75]
    """
    check_sample("dist_p", dist_p)
    check_sample("dist_q", dist_q)
    not_above = np.searchsorted(np.sort(dist_p), dist_q, "right").astype(np.float64)
    return (1.0 + not_above) / (len(dist_p) + 1.0)
