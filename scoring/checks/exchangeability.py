"""Checks of the reference: halves of the held-out images against each other, training against held-out images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scoring.checks.check import Check, Severity
from scoring.score.effect import Effect, effect_size
from scoring.score.permutation import LayerSample, permutation_p

ERROR = 0.01
"""Probability that a check fails although the two sets are exchangeable."""

MATERIAL = 0.02
"""Smaller differences of Â from ½ pass: with many images a harmless one becomes significant."""


class Located(NamedTuple):
    """Nearest distances of one set in one layer.

    Attributes:
        distance: (n,) float64.
        cells: (n,) integer, cells of the layer; negative = dropped.
    """

    distance: NDArray[np.float64]
    cells: NDArray[np.integer]


def random_halves(
    held_out: Mapping[int, Located], *, seed: int, permutations: int = 2000, error: float = ERROR
) -> Check:
    """Compare a seeded random half of the held-out images with the other half.

    The halves are exchangeable for any data, so that the check finds faults of the program: distances that lost their
    images, a test that does not keep its level. It fails by chance with probability ``error``.

    Args:
        held_out: Layer → held-out images, the same images in the same order.
        seed: Seed of the split and of the permutations.
        permutations: See :func:`scoring.score.permutation.permutation_p`.
        error: Error of the check.

    >>> images = Located(np.arange(40.0), np.zeros(40, int))
    >>> random_halves({3: images}, seed=0, permutations=99).passed
    True
    """
    n = _count(held_out)
    first = np.random.default_rng(seed).permutation(n) < n // 2
    compared = _compare(_split(held_out, first), seed, permutations)
    remedy = "run again with another seed; if it fails twice, report it: the program is at fault"
    return _check("random halves of held-out", compared, error, 0.0, remedy, "invalid")


def ordered_halves(
    held_out: Mapping[int, Located], *, seed: int, permutations: int = 2000, error: float = ERROR
) -> Check:
    """Compare the first half of the held-out images, in the order of the manifest, with the second.

    The check finds order: files sorted by class, source or time, or processing that changed half-way. Order does not
    harm an audit that uses all images, so that a failure is a note; it does when the set was cut by position from a
    longer list instead of drawn at random.

    Args:
        held_out: Layer → held-out images, in the order of the manifest.
        seed: Seed of the permutations.
        permutations: See :func:`scoring.score.permutation.permutation_p`.
        error: Error of the check.

    >>> images = Located(np.arange(40.0), np.zeros(40, int))
    >>> ordered_halves({3: images}, seed=0, permutations=199).passed
    False
    """
    n = _count(held_out)
    compared = _compare(_split(held_out, np.arange(n) < n // 2), seed, permutations)
    remedy = "if the held-out images were taken by position from a sorted list, draw them at random instead"
    return _check("order of held-out", compared, error, MATERIAL, remedy, "note")


def train_likeness(
    train: Mapping[int, Located],
    held_out: Mapping[int, Located],
    *,
    seed: int,
    permutations: int = 2000,
    error: float = ERROR,
    material: float = MATERIAL,
) -> Check:
    """Compare training images, each left out of the training set in turn, with held-out images.

    When both are draws from one distribution, a training image is as far from the nearest *other* training image as a
    held-out image is from its nearest one. The check finds held-out images of another source, year or processing, many
    near-duplicates in the training set, and held-out images taken from it. Such a difference shifts Â of every release
    by the same amount. Sample at most a fifth of the training images at random: two that are each other's nearest count
    twice when both are in the sample.

    A failure is a note: published test sets often differ slightly from their training sets (MNIST's, by other writers,
    gives 0.42), and the same held-out images still rank releases against each other.

    Args:
        train: Layer → sampled training images with their leave-one-out nearest distances (in the cell where
            the search is).
        held_out: Layer → held-out images.
        seed: Seed of the permutations.
        permutations: See :func:`scoring.score.permutation.permutation_p`.
        error: Error of the check.
        material: Smallest difference of Â from ½ that fails.

    Raises:
        ValueError: The layers differ.

    >>> near, far = Located(np.arange(40.0), np.zeros(40, int)), Located(np.arange(40.0) + 30, np.zeros(40, int))
    >>> train_likeness({3: near}, {3: far}, seed=0, permutations=199).sentence
    'training and held-out images differ: most at layer 3, where Â = 0.0312 instead of 0.5 (p = 0.005 over 1 layer)'
    """
    if set(train) != set(held_out):
        raise ValueError(f"layers differ: train has {sorted(train)}, held-out {sorted(held_out)}")
    samples = {layer: LayerSample(*held_out[layer], *train[layer]) for layer in sorted(train)}
    compared = _compare(samples, seed, permutations)
    remedy = "draw training and held-out images at random from one collection, processed alike and without duplicates"
    return _check("train and held-out", compared, error, material, remedy, "note")


class _Compared(NamedTuple):
    """The layer that differs most."""

    layer: int
    a_hat: float
    p: float
    layers: int


def _compare(samples: Mapping[int, LayerSample], seed: int, permutations: int) -> _Compared:
    result = permutation_p(list(samples.values()), permutations=permutations, seed=seed)
    most = int(np.abs(result.z).argmax())
    layer = list(samples)[most]
    return _Compared(layer, _effect(samples[layer]).a_hat, float(result.p_adjusted[most]), len(samples))


def _effect(sample: LayerSample) -> Effect:
    """Â over the cells with at least two images of both sets."""
    cells = 1 + max(int(sample.groups_p.max()), int(sample.groups_q.max()), 0)
    counts = [np.bincount(groups[groups >= 0], minlength=cells) for groups in (sample.groups_p, sample.groups_q)]
    kept = np.append(np.where(np.minimum(*counts) >= 2, np.arange(cells), -1), -1)
    return effect_size(sample.dist_p, kept[sample.groups_p], sample.dist_q, kept[sample.groups_q])


def _check(name: str, most: _Compared, error: float, material: float, remedy: str, severity: Severity) -> Check:
    passed = most.p > error or abs(most.a_hat - 0.5) < material
    over = f"{most.layers} layer" + ("s" if most.layers > 1 else "")
    where = f"most at layer {most.layer}, where Â = {most.a_hat:.3g} instead of 0.5 (p = {most.p:.2g} over {over})"
    halves = f"the halves of the held-out images ({name.split()[0]})"
    sets = "training and held-out images" if name == "train and held-out" else halves
    sentence = f"{sets} {'are alike' if passed else 'differ'}: {where}"
    return Check(name, passed, most.p, error, sentence, "" if passed else remedy, severity)


def _split(held_out: Mapping[int, Located], first: NDArray[np.bool_]) -> dict[int, LayerSample]:
    return {
        layer: LayerSample(images.distance[first], images.cells[first], images.distance[~first], images.cells[~first])
        for layer, images in sorted(held_out.items())
    }


def _count(held_out: Mapping[int, Located]) -> int:
    sizes = {images.distance.size for images in held_out.values()}
    if len(sizes) != 1 or min(sizes) < 4:
        raise ValueError(f"layers must hold the same images, at least 4, got {sorted(sizes)}")
    return sizes.pop()
