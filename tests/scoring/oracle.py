"""The published algorithm and its statistics in nested plain loops, as slow and as literal as can be."""

from __future__ import annotations

import math
from collections.abc import Sequence

Vector = Sequence[float]


def distance(a: Vector, b: Vector, metric: str) -> float:
    if metric == "euclidean":
        return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    return 1 - abs(dot / lengths)


def nearest_centroid(x: Vector, centroids: Sequence[Vector]) -> int:
    best = 0
    for cell in range(1, len(centroids)):
        if distance(x, centroids[cell], "euclidean") < distance(x, centroids[best], "euclidean"):
            best = cell
    return best


def nearest(x: Vector, cell: int, train: Sequence[Vector], cells: Sequence[int], metric: str) -> float:
    least = math.inf
    for other, other_cell in zip(train, cells, strict=True):
        if other_cell == cell:
            least = min(least, distance(x, other, metric))
    return least


def u_statistic(ps: Vector, qs: Vector) -> float:
    u = 0.0
    for q in qs:
        for p in ps:
            u += 1.0 if q > p else 0.5 if q == p else 0.0
    return u


def z_published(ps: Vector, qs: Vector) -> float:
    n, m = len(ps), len(qs)
    return (u_statistic(ps, qs) - n * m / 2 + 0.5) / math.sqrt(n * m * (n + m + 1) / 12)


def c_t(
    train: Sequence[Vector],
    held_out: Sequence[Vector],
    generated: Sequence[Vector],
    centroids: Sequence[Vector],
    metric: str,
    min_generated: int = 20,
) -> float | None:
    train_cells = [nearest_centroid(x, centroids) for x in train]
    above = below = 0.0
    for cell in range(len(centroids)):
        ps = [nearest(x, cell, train, train_cells, metric) for x in held_out if nearest_centroid(x, centroids) == cell]
        qs = [nearest(x, cell, train, train_cells, metric) for x in generated if nearest_centroid(x, centroids) == cell]
        if len(qs) > min_generated and ps:
            above += len(ps) * z_published(ps, qs)
            below += len(ps)
    return above / below if below else None


def sample_variance(values: Vector) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def delong(ps_by_cell: Sequence[Vector], qs_by_cell: Sequence[Vector]) -> tuple[float, float]:
    """Â and Var(Â) of docs/method.md: "One layer", every placement counted by itself."""
    total = sum(len(ps) for ps in ps_by_cell)
    a_hat = variance = 0.0
    for ps, qs in zip(ps_by_cell, qs_by_cell, strict=True):
        v10 = [u_statistic(ps, [q]) / len(ps) for q in qs]
        v01 = [u_statistic([p], qs) / len(qs) for p in ps]
        weight = len(ps) / total
        a_hat += weight * sum(v10) / len(qs)
        variance += weight**2 * (sample_variance(v10) / len(qs) + sample_variance(v01) / len(ps))
    return a_hat, variance
