"""Effect size of one layer: Â, its DeLong standard error and interval, and the influence of each image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm

from scoring.score.mann_whitney import tie_corrected_z
from scoring.score.placements import by_cell, check_sample, placements


@dataclass(frozen=True, slots=True)
class Effect:
    """Difference between generated and held-out images in nearest distance to the training images, cell by cell.

    Attributes:
        a_hat: Â = Σ w_c Â_c, the chance that a generated image is farther from the training images than a held-out
            one of its cell; ½ = alike, below ½ = copying, above ½ = underfit.
        delta: Cliff's δ = 1 - 2Â; positive = copying.
        se: DeLong standard error of Â. It is 0 when all kept cells are perfectly separated or all tied.
        low: Lower end of the interval of Â.
        high: Upper end.
        z_s: Σ w_c Z_c / sqrt(Σ w_c²), standard normal when release and held-out images are exchangeable.
        p_value: Two-sided p-value of ``z_s``.
        coverage: Share of held-out images in kept cells.
    """

    a_hat: float
    delta: float
    se: float
    low: float
    high: float
    z_s: float
    p_value: float
    coverage: float


class Influence(NamedTuple):
    """Influence of each image on Â: positive where the image raises it, 0 in dropped cells.

    Influences are scaled such that se² = Σ p² + Σ q² exactly. For two layers scored on the same images
    Cov(Â, Â') = Σ p·p' + Σ q·q' is DeLong's covariance of correlated AUCs, stratified (the factor (m_c - 1) is the
    layer's own; where cells differ it is near, not exact).

    Attributes:
        p: (n,) float64, of the held-out images.
        q: (m,) float64, of the generated images.
    """

    p: NDArray[np.float64]
    q: NDArray[np.float64]


def effect_size(
    dist_p: NDArray[np.float64],
    cell_p: NDArray[np.integer],
    dist_q: NDArray[np.float64],
    cell_q: NDArray[np.integer],
    *,
    level: float = 0.95,
) -> Effect:
    """Compute Â with weights w_c = n_c/Σn_c, its standard error and its interval on the logit scale.

    The weights count as known. Cells with images of one set only are dropped like negative ones. When the standard
    error is 0 the interval uses :func:`bounded_variance` instead.

    Args:
        dist_p: (n,) float64, nearest distances of held-out images.
        cell_p: (n,) integer, their merged cells; negative = dropped.
        dist_q: (m,) float64, nearest distances of generated images.
        cell_q: (m,) integer, their merged cells.
        level: Level of the interval.

    Raises:
        ValueError: No cell with images of both sets, or one with fewer than 2 of either.

    Source:
        DeLong, DeLong, Clarke-Pearson 1988; docs/method.md: "One layer".

    >>> zeros = np.zeros(3, int)
    >>> effect = effect_size(np.array([1.0, 2.0, 3.0]), zeros, np.array([0.5, 1.5, 2.5]), zeros)
    >>> round(effect.a_hat, 4), round(effect.delta, 4), round(effect.se, 4)
    (0.3333, 0.3333, 0.2722)
    """
    return effect_and_influence(dist_p, cell_p, dist_q, cell_q, level=level)[0]


def effect_and_influence(
    dist_p: NDArray[np.float64],
    cell_p: NDArray[np.integer],
    dist_q: NDArray[np.float64],
    cell_q: NDArray[np.integer],
    *,
    level: float = 0.95,
) -> tuple[Effect, Influence]:
    """Compute the effect and the influence of each image on it; see `effect_size`."""
    check_sample("dist_p", dist_p, cell_p)
    check_sample("dist_q", dist_q, cell_q)
    p_rows, q_rows = by_cell(cell_p), by_cell(cell_q)
    kept = [cell for cell in p_rows if cell in q_rows]
    if not kept:
        raise ValueError("no cell holds both held-out and generated images")
    total = sum(len(p_rows[cell]) for cell in kept)
    influence = Influence(np.zeros(len(dist_p)), np.zeros(len(dist_q)))
    parts: list[_Part] = []
    for cell in kept:
        p, q = p_rows[cell], q_rows[cell]
        if len(p) < 2 or len(q) < 2:
            raise ValueError(f"cell {cell}: {len(p)} held-out, {len(q)} generated images; at least 2 of each needed")
        part = _part(len(p) / total, dist_p[p], dist_q[q])
        influence.p[p], influence.q[q] = part.influence
        parts.append(part)
    a_hat = min(1.0, sum(part.weight * part.a_hat for part in parts))
    se = math.sqrt(float(influence.p @ influence.p + influence.q @ influence.q))
    count = 1 / sum(part.weight**2 / part.smaller for part in parts)
    low, high = logit_interval(a_hat, se, count, level)
    z_s = sum(part.weight * part.z for part in parts) / math.sqrt(sum(part.weight**2 for part in parts))
    p_value = float(2 * norm.sf(abs(z_s)))
    return Effect(a_hat, 1 - 2 * a_hat, se, low, high, z_s, p_value, total / len(dist_p)), influence


class _Part(NamedTuple):
    """Contribution of one cell."""

    weight: float
    a_hat: float
    z: float
    smaller: int
    influence: Influence


def _part(weight: float, p: NDArray[np.float64], q: NDArray[np.float64]) -> _Part:
    n, m = len(p), len(q)
    placed = placements(p, q)
    u = float(placed.q.sum())
    a_hat = u / (n * m)
    return _Part(
        weight,
        a_hat,
        tie_corrected_z(u, n, m, placed.tie_term),
        min(n, m),
        Influence(
            weight * (placed.p / m - a_hat) / math.sqrt(n * (n - 1)),
            weight * (placed.q / n - a_hat) / math.sqrt(m * (m - 1)),
        ),
    )


def half_count(a_hat: float, count: float) -> float:
    """Â moved by half a count away from 0 and 1: (count·Â + ½)/(count + 1).

    >>> half_count(0.0, 49.0), half_count(0.5, 49.0)
    (0.01, 0.5)
    """
    return (count * a_hat + 0.5) / (count + 1)


def bounded_variance(a: float, count: float) -> float:
    """The largest possible variance of Â, a(1 - a)/min(n, m), for samples without any.

    Source:
        Birnbaum & Klose 1957 (bounds on the variance of the Mann-Whitney statistic).

    >>> bounded_variance(0.5, 25)
    0.01
    """
    return a * (1 - a) / count


def logit_interval(a_hat: float, se: float, count: float, level: float) -> tuple[float, float]:
    """Compute the interval of Â by the delta method on the logit scale; it contains Â and lies in [0, 1].

    A standard error of 0 (Â = 0, 1 or all tied) means that the sample does not show the variance, not that there is
    none: the interval is then that of the half-count Â with its largest possible variance.

    Args:
        a_hat: Â.
        se: Its standard error.
        count: Effective size of the smaller set, 1/Σ(w_c²/min(n_c, m_c)).
        level: Level of the interval.

    >>> [round(end, 3) for end in logit_interval(0.4, 0.05, 100, 0.95)]
    [0.307, 0.501]
    >>> [round(end, 3) for end in logit_interval(1.0, 0.0, 100, 0.95)]
    [0.925, 1.0]
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    centre = a_hat
    if se < 1e-12:
        centre = half_count(a_hat, count)
        se = math.sqrt(bounded_variance(centre, count))
    reach = float(norm.isf((1 - level) / 2)) * se / (centre * (1 - centre))
    middle = float(logit(centre))
    return min(a_hat, float(expit(middle - reach))), max(a_hat, float(expit(middle + reach)))
