"""Joint bootstrap of logit Â over images, for all layers at once: what the closed-form covariance is checked by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from scoring.attribution.curve import LogitCurve
from scoring.score.effect import half_count
from scoring.score.permutation import LayerSample
from scoring.score.placements import by_cell

_ENTRIES = 2_000_000


def bootstrap_logits(layers: Sequence[LayerSample], *, draws: int = 1000, seed: int) -> NDArray[np.float64]:
    """Logit Â of resampled images.

    Held-out and generated images are drawn anew with replacement (as multinomial weights), the same draw for
    all layers, so that the layers keep their dependence. The nearest distances stay: train is given. The
    weights w_c of the groups stay too, as in :func:`scoring.score.effect.effect_size`; a group of which a draw holds
    no image of one set keeps its observed Â. Â is kept half a count away from 0 and 1, as in
    :func:`scoring.attribution.curve.logit_curve`.

    Args:
        layers: One sample a layer, all of the same images in the same order.
        draws: Number of draws.
        seed: Seed.

    Returns:
        (draws, L) float64.

    Raises:
        ValueError: No layer, layers of different images, or no group with both sets.

    Source:
        Efron & Tibshirani 1993, §6 and §8 (two samples).

    >>> rng, one = np.random.default_rng(0), np.zeros(50, int)
    >>> bootstrap_logits([LayerSample(rng.random(50), one, rng.random(50), one)], draws=3, seed=0).shape
    (3, 1)
    """
    sizes = {(layer.dist_p.size, layer.dist_q.size) for layer in layers}
    if len(sizes) != 1:
        raise ValueError(f"layers must hold the same images, got (n, m) = {sorted(sizes)}")
    (n, m) = sizes.pop()
    groups = [_groups(layer) for layer in layers]
    edge = half_count(0.0, min(n, m))
    blocks = [
        np.stack([_a_hat(layer, weight_p, weight_q) for layer in groups], axis=1)
        for weight_p, weight_q in _weights(n, m, draws, seed)
    ]
    drawn: NDArray[np.float64] = logit(np.clip(np.concatenate(blocks), edge, 1 - edge))
    return drawn


def bootstrap_curve(layers: Sequence[LayerSample], *, draws: int = 1000, seed: int) -> LogitCurve:
    """Logit Â with its covariance from :func:`bootstrap_logits`.

    Args:
        layers: One sample a layer.
        draws: Number of draws; the correlations are good to about 1/sqrt(draws).
        seed: Seed.

    >>> rng, one = np.random.default_rng(0), np.zeros(50, int)
    >>> profile = bootstrap_curve([LayerSample(rng.random(50), one, rng.random(50), one)], draws=400, seed=0)
    >>> 0.03 < profile.covariance.item() < 0.3
    True
    """
    drawn = bootstrap_logits(layers, draws=draws, seed=seed)
    ones = (np.ones((1, layers[0].dist_p.size)), np.ones((1, layers[0].dist_q.size)))
    edge = half_count(0.0, min(ones[0].size, ones[1].size))
    observed = np.array([_a_hat(_groups(layer), *ones)[0] for layer in layers])
    return LogitCurve(logit(np.clip(observed, edge, 1 - edge)), np.atleast_2d(np.cov(drawn, rowvar=False)))


class _Group(NamedTuple):
    """One group, its images in ascending distance.

    Attributes:
        share: w_c.
        p: Rows of the held-out images.
        q: Rows of the generated images, any order.
        below: Held-out images nearer than each generated one.
        not_above: Those nearer or as near.
    """

    share: float
    p: NDArray[np.intp]
    q: NDArray[np.intp]
    below: NDArray[np.intp]
    not_above: NDArray[np.intp]


def _groups(layer: LayerSample) -> list[_Group]:
    p_rows, q_rows = by_cell(layer.groups_p), by_cell(layer.groups_q)
    kept = [group for group in p_rows if group in q_rows]
    if not kept:
        raise ValueError("no group holds both held-out and generated images")
    total = sum(p_rows[group].size for group in kept)
    found = []
    for group in kept:
        p, q = p_rows[group][np.argsort(layer.dist_p[p_rows[group]], kind="stable")], q_rows[group]
        ordered, asked = layer.dist_p[p], layer.dist_q[q]
        below, not_above = np.searchsorted(ordered, asked, "left"), np.searchsorted(ordered, asked, "right")
        found.append(_Group(p.size / total, p, q, below, not_above))
    return found


def _a_hat(
    groups: Sequence[_Group], weight_p: NDArray[np.float64], weight_q: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(b,) Â under each row of weights."""
    total = np.zeros(len(weight_p))
    for group in groups:
        inside, asking = weight_p[:, group.p], weight_q[:, group.q]
        nearer = np.concatenate([np.zeros((len(inside), 1)), np.cumsum(inside, axis=1)], axis=1)
        above = (asking * (nearer[:, group.below] + nearer[:, group.not_above])).sum(axis=1) / 2
        pairs = nearer[:, -1] * asking.sum(axis=1)
        observed = (group.below + group.not_above).mean() / 2 / group.p.size
        total += group.share * np.divide(above, pairs, out=np.full(len(pairs), observed), where=pairs > 0)
    return total


def _weights(n: int, m: int, draws: int, seed: int) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Multinomial weights of both sets in blocks of bounded size, each set from a stream of its own."""
    for_p, for_q = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    step = max(1, _ENTRIES // (n + m))
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        yield _multinomial(for_p, rows, n), _multinomial(for_q, rows, m)


def _multinomial(rng: np.random.Generator, rows: int, size: int) -> NDArray[np.float64]:
    drawn = rng.integers(0, size, (rows, size)) + size * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)
