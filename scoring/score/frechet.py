"""Fréchet distance between generated and held-out images in one layer, corrected for its bias, with an interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from scoring.partition.moments import Moments

MIN_BLOCKS = 5
BLOCKS = 20


@dataclass(frozen=True, slots=True)
class FrechetFit:
    """Fréchet distance of a release, and of training images, to held-out images.

    Attributes:
        distance: Bias-corrected squared Fréchet distance of Q and P; may be slightly below 0.
        low: Lower end of its interval, not below 0.
        high: Upper end, not below 0.
        raw: The same without the correction, as other tools print it. It grows with fewer images.
        baseline: Corrected distance of training images and P: about 0 when they have the same distribution.
    """

    distance: float
    low: float
    high: float
    raw: float
    baseline: float


class Jackknife(NamedTuple):
    """A bias-corrected statistic with its standard error and degrees of freedom."""

    value: float
    se: float
    degrees: int


def frechet_distance(a: Moments, b: Moments) -> float:
    """``|μ_a - μ_b|² + tr(S_a + S_b - 2 (S_a^½ S_b S_a^½)^½)``, by symmetric eigenvalues.

    Args:
        a: Moments of one set, in projected coordinates.
        b: Moments of the other.

    Returns:
        The squared distance of the two Gaussians, ≥ 0.

    Raises:
        ValueError: Widths differ, or fewer than 2 vectors.

    Source:
        Dowson & Landau 1982; Heusel et al. 2017 (FID).

    >>> a, b = Moments.of(np.float32([[0], [2]])), Moments.of(np.float32([[3], [3], [6]]))
    >>> round(frechet_distance(a, b), 6)
    9.101021
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"widths differ: {a.mean.size} and {b.mean.size}")
    step = a.mean - b.mean
    s_a, s_b = a.covariance, b.covariance
    values, vectors = np.linalg.eigh(s_a)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ s_b @ root), 0.0)).sum()
    return max(0.0, float(step @ step + np.trace(s_a) + np.trace(s_b) - 2 * cross))


def frechet_fit(
    generated: Sequence[Moments], held_out: Sequence[Moments], train: Sequence[Moments], *, level: float = 0.95
) -> FrechetFit:
    """Compute the bias-corrected Fréchet distance with a block-jackknife interval.

    The plain distance is biased upwards by about c/m + c'/n, where c grows with the number of components, so that it
    cannot compare sets of different size. Leaving out each block of each set in turn estimates and removes these
    terms, and gives the standard error. The remaining bias is of order (k/m)²: with 64 components use at least 500
    images. Near 0 the distance is quadratic in the error, and the symmetric interval is approximate.

    Args:
        generated: Moments of blocks of generated images, see :func:`moment_blocks`.
        held_out: Moments of blocks of held-out images.
        train: Moments of blocks of training images, about as many images as held-out ones.
        level: Level of the interval.

    Raises:
        ValueError: Fewer than 5 blocks of a set.

    Source:
        Efron & Stein 1981; Busing et al. 1999 (blocks of unequal size); Chong & Forsyth 2020 (bias of FID).

    >>> x = np.random.default_rng(0).normal(size=(600, 2)).astype(np.float32)
    >>> fit = frechet_fit(moment_blocks(x[:300] + 3), moment_blocks(x[300:]), moment_blocks(x[:300]))
    >>> fit.low < 18 < fit.high, abs(fit.baseline) < 0.1
    (True, True)
    """
    fit = block_jackknife(frechet_distance, generated, held_out)
    base = block_jackknife(frechet_distance, train, held_out)
    reach = float(student.isf((1 - level) / 2, fit.degrees)) * fit.se
    low, high = max(0.0, fit.value - reach), max(0.0, fit.value + reach)
    raw = frechet_distance(merged(generated), merged(held_out))
    return FrechetFit(fit.value, low, high, raw, base.value)


def block_jackknife(
    statistic: Callable[[Moments, Moments], float], a: Sequence[Moments], b: Sequence[Moments]
) -> Jackknife:
    """Delete-one-block jackknife of a statistic of two independent sets.

    Args:
        statistic: A function of the moments of both sets.
        a: Blocks of one set; they may differ in size.
        b: Blocks of the other.

    Returns:
        The statistic less its bias of order 1/size, its standard error, and the smaller number of blocks less 1.

    >>> blocks = moment_blocks(np.arange(40, dtype=np.float32)[:, None], 40)
    >>> corrected = block_jackknife(lambda a, b: float(a.mean[0]), blocks, blocks)
    >>> round(corrected.value, 6), round(corrected.se, 6) == round((np.arange(40).var(ddof=1) / 40).item() ** 0.5, 6)
    (19.5, True)
    """
    for name, blocks in (("a", a), ("b", b)):
        if len(blocks) < MIN_BLOCKS:
            raise ValueError(f"{name} has {len(blocks)} blocks, at least {MIN_BLOCKS} are needed")
    whole_a, whole_b = merged(a), merged(b)
    full = statistic(whole_a, whole_b)
    bias_a, variance_a = _leave_out(full, a, lambda rest: statistic(rest, whole_b))
    bias_b, variance_b = _leave_out(full, b, lambda rest: statistic(whole_a, rest))
    return Jackknife(full - bias_a - bias_b, math.sqrt(variance_a + variance_b), min(len(a), len(b)) - 1)


def _leave_out(full: float, blocks: Sequence[Moments], statistic: Callable[[Moments], float]) -> tuple[float, float]:
    """Contribution of one set to the bias and variance of a statistic."""
    sizes = np.array([block.n for block in blocks], np.float64)
    without = np.array([statistic(rest) for rest in _all_but_one(blocks)])
    total, count = sizes.sum(), len(blocks)
    corrected = count * full - float(((1 - sizes / total) * without).sum())
    share = total / sizes
    pseudo = share * full - (share - 1) * without
    return full - corrected, float(((pseudo - corrected) ** 2 / (share - 1)).mean())


def _all_but_one(blocks: Sequence[Moments]) -> list[Moments]:
    """The moments of all blocks but the i-th, for each i."""
    nothing = Moments(0, np.zeros_like(blocks[0].mean), np.zeros_like(blocks[0].scatter))
    before, after = [nothing], [nothing]
    for block in blocks[:-1]:
        before.append(before[-1].merge(block))
    for block in blocks[:0:-1]:
        after.append(after[-1].merge(block))
    return [left.merge(right) for left, right in zip(before, reversed(after), strict=True)]


def merged(blocks: Sequence[Moments]) -> Moments:
    """Merge the moments of all blocks.

    >>> merged(moment_blocks(np.float32([[1], [2], [3], [4], [5]]), 5)).mean.tolist()
    [3.0]
    """
    whole = blocks[0]
    for block in blocks[1:]:
        whole = whole.merge(block)
    return whole


def moment_blocks(x: NDArray[np.float32], blocks: int = BLOCKS, *, seed: int = 0) -> list[Moments]:
    """Moments of random blocks of nearly equal size.

    Args:
        x: (n, k) float32, projected.
        blocks: Number of blocks.
        seed: Seed of the split.

    Raises:
        ValueError: Fewer images than blocks.

    >>> [block.n for block in moment_blocks(np.zeros((7, 1), np.float32), 3)]
    [3, 2, 2]
    """
    if len(x) < blocks:
        raise ValueError(f"{blocks} blocks need at least as many images, got {len(x)}")
    order = np.random.default_rng(seed).permutation(len(x))
    return [Moments.of(x[rows]) for rows in np.array_split(order, blocks)]
