"""One test over all layers: the step-down maximum of ``|Z_S|`` under permutation of the image labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from scoring.score.placements import by_cell, check_sample

_ENTRIES = 4_000_000
"""Most labels in memory at once as float64."""

_STREAM = 100
"""Permutations per random stream; a part of a test has whole streams."""

_ROUNDING = 1e-9


class LayerSample(NamedTuple):
    """Nearest distances and groups of one layer. Row i is the same image in every layer.

    Attributes:
        dist_p: (n,) float64, held-out images.
        groups_p: (n,) integer, their merged cells; negative = dropped.
        dist_q: (m,) float64, generated images.
        groups_q: (m,) integer, their merged cells.
    """

    dist_p: NDArray[np.float64]
    groups_p: NDArray[np.integer]
    dist_q: NDArray[np.float64]
    groups_q: NDArray[np.integer]


class PermutationResult(NamedTuple):
    """Permutation test of each layer.

    Attributes:
        p_adjusted: (L,) float64, probability that any layer looks this different when none is.
        p_raw: (L,) float64, the same for this layer alone.
        z: (L,) float64, observed Z_S; negative = closer to the training images than held-out images.
        permutations: Number B of permutations; the smallest possible p is 1/(B + 1).
    """

    p_adjusted: NDArray[np.float64]
    p_raw: NDArray[np.float64]
    z: NDArray[np.float64]
    permutations: int


class Counted(NamedTuple):
    """Counts over some of the permutations of a test.

    Attributes:
        z: (L,) float64, observed Z_S.
        exceeding: (L,) int64, permutations in which this layer differs at least as much as observed.
        exceeding_max: (L,) int64, permutations in which it, or a layer that differs less, does.
        permutations: Number of permutations.
    """

    z: NDArray[np.float64]
    exceeding: NDArray[np.int64]
    exceeding_max: NDArray[np.int64]
    permutations: int


def permutation_p(layers: Sequence[LayerSample], *, permutations: int = 2000, seed: int) -> PermutationResult:
    """Compute two-sided p-values of Z_S by permuting the labels P and Q of the images jointly for all layers.

    Distances and groups stay with their image, so that the layers keep their dependence. Inside a group the midranks
    are fixed; a permutation changes only which of them are summed, and the counts n_c and m_c. With centred midranks r,
    U - n_c·m_c/2 = Σ r over the generated images of the group, so that all groups of all layers are one matrix product.
    The sums are exact (half-integers below 2⁵³ in float64; float32 is exact only up to 2²⁴, and a rank sum of 20,000
    images reaches 10⁸).

    A group without images of one set has no weight. The groups count as known: they were merged by the counts of the
    true labels, never by distances.

    Args:
        layers: One sample per layer, all of the same images in the same order.
        permutations: Number B.
        seed: Seed of the permutations, which do not depend on the layers.

    Raises:
        ValueError: No layer, or layers of different images, or NaN distances.

    Source:
        Westfall & Young 1993, Algorithm 4.1 (step-down max T); Phipson & Smyth 2010 (the added one).

    >>> p, q, group = np.linspace(1, 2, 40), np.linspace(0, 1, 40), np.zeros(40, int)
    >>> result = permutation_p([LayerSample(p, group, q, group)], permutations=99, seed=0)
    >>> result.p_adjusted.tolist(), result.z.round(3).tolist()
    ([0.01], [-7.693])
    """
    return p_values([count_permuted(layers, permutations=permutations, seed=seed)])


def count_permuted(
    layers: Sequence[LayerSample], *, permutations: int, seed: int, part: int = 0, parts: int = 1
) -> Counted:
    """Run one part of `permutation_p`. All parts together have the same permutations; `p_values` joins them."""
    n, m = _check(layers)
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    table = _table(layers)
    observed = _z(np.concatenate([np.zeros(n), np.ones(m)])[None], table)[0]
    order = np.argsort(-np.abs(observed), kind="stable")
    height = np.abs(observed)[order] - _ROUNDING
    exceeding, exceeding_max, done = np.zeros(len(layers), np.int64), np.zeros(len(layers), np.int64), 0
    for labels in label_blocks(n, m, permutations, seed, part, parts):
        z = np.abs(_z(labels.astype(np.float64), table))[:, order]
        exceeding[order] += (z >= height).sum(axis=0)
        largest = np.maximum.accumulate(z[:, ::-1], axis=1)[:, ::-1]
        exceeding_max[order] += (largest >= height).sum(axis=0)
        done += len(labels)
    return Counted(observed, exceeding, exceeding_max, done)


def p_values(parts: Sequence[Counted]) -> PermutationResult:
    """Join the parts of a test."""
    z, permutations = parts[0].z, sum(part.permutations for part in parts)
    p_raw, p_max = (
        (1 + np.sum(counts, axis=0)) / (permutations + 1)
        for counts in ([part.exceeding for part in parts], [part.exceeding_max for part in parts])
    )
    order = np.argsort(-np.abs(z), kind="stable")
    p_adjusted = np.empty(len(z))
    p_adjusted[order] = np.maximum.accumulate(p_max[order])
    return PermutationResult(p_adjusted, p_raw, z, permutations)


def label_blocks(
    n: int, m: int, permutations: int, seed: int, part: int = 0, parts: int = 1
) -> Iterator[NDArray[np.bool_]]:
    """Generate random labels in blocks of bounded size; the b-th labelling does not depend on the block size.

    Args:
        n: Images labelled False (held-out).
        m: Images labelled True (generated).
        permutations: Number of labellings in all parts.
        seed: Seed.
        part: Part to generate, from 0.
        parts: Number of parts.

    Yields:
        (b, n + m) bool.

    >>> [block.sum(axis=1).tolist() for block in label_blocks(3, 2, 4, seed=0)]
    [[2, 2, 2, 2]]
    """
    plain = np.repeat([False, True], [n, m])
    step = max(1, _ENTRIES // (n + m))
    for stream in range(part, -(-permutations // _STREAM), parts):
        rng = np.random.default_rng([seed, stream])
        left = min(_STREAM, permutations - stream * _STREAM)
        for start in range(0, left, step):
            yield rng.permuted(np.broadcast_to(plain, (min(step, left - start), n + m)), axis=1)


class _Table(NamedTuple):
    """Constants of all permutations, for the G groups of all layers together.

    Attributes:
        ranks: (N, G) float64, centred midranks inside each group; 0 outside.
        members: (N, G) float32, 1 inside; counts are exact up to 2²⁴ images.
        size: (G,) images of the group.
        spread: (G,) σ²/(n_c·m_c).
        starts: (L,) first group of each layer.
    """

    ranks: NDArray[np.float64]
    members: NDArray[np.float32]
    size: NDArray[np.float64]
    spread: NDArray[np.float64]
    starts: NDArray[np.intp]


def _table(layers: Sequence[LayerSample]) -> _Table:
    ranks: list[NDArray[np.float64]] = []
    members: list[NDArray[np.float32]] = []
    spread: list[float] = []
    starts: list[int] = []
    for layer in layers:
        starts.append(len(ranks))
        distance = np.concatenate([layer.dist_p, layer.dist_q])
        for rows in by_cell(np.concatenate([layer.groups_p, layer.groups_q])).values():
            rank, member = np.zeros(distance.size), np.zeros(distance.size, np.float32)
            centred = rankdata(distance[rows]) - (rows.size + 1) / 2
            rank[rows], member[rows] = centred, 1.0
            ranks.append(rank)
            members.append(member)
            # Σr²/(N(N - 1)) of centred midranks is the tie-corrected σ²/(nm) of docs/method.md: "One layer".
            spread.append(float(centred @ centred) / (rows.size * max(1, rows.size - 1)))
        if len(ranks) == starts[-1]:
            raise ValueError(f"layer {len(starts) - 1} of the sequence has no group")
    size = np.array([float(member.sum()) for member in members])
    return _Table(np.stack(ranks, axis=1), np.stack(members, axis=1), size, np.array(spread), np.array(starts))


def _z(labels: NDArray[np.float64], table: _Table) -> NDArray[np.float64]:
    """(b, L) Z_S under each row of labels (1 = generated)."""
    above = labels @ table.ranks
    m = (labels.astype(np.float32) @ table.members).astype(np.float64)
    n = table.size - m
    variance = n * m * table.spread
    z = np.divide(above, np.sqrt(variance), out=np.zeros_like(above), where=variance > 0)
    weight = np.where((n > 0) & (m > 0), n, 0.0)
    power = np.add.reduceat(weight**2, table.starts, axis=1)
    total = np.add.reduceat(weight * z, table.starts, axis=1)
    return np.divide(total, np.sqrt(power), out=np.zeros_like(total), where=power > 0)


def _check(layers: Sequence[LayerSample]) -> tuple[int, int]:
    if not layers:
        raise ValueError("no layer to test")
    for layer in layers:
        check_sample("dist_p", layer.dist_p, layer.groups_p)
        check_sample("dist_q", layer.dist_q, layer.groups_q)
    sizes = [(layer.dist_p.size, layer.dist_q.size) for layer in layers]
    if len(set(sizes)) > 1:
        raise ValueError(f"layers must hold the same images, got (n, m) = {sizes}")
    return sizes[0]
