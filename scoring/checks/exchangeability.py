"""Whether the reference can serve: halves of held-out against each other, and train against held-out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scoring.checks.check import Check, Severity
from scoring.score.effect import Effect, effect_size
from scoring.score.permutation import LayerSample, permutation_p

ERROR = 0.01
"""Chance that a check fails though the two sets are exchangeable."""

MATERIAL = 0.02
"""A difference of Â from ½ below this is left alone: with many images a harmless one becomes significant."""


class Located(NamedTuple):
    """Nearest distances of one set in one layer.

    Attributes:
        distance: (n,) float64.
        cells: (n,) integer, cells of the layer; negative = left out.
    """

    distance: NDArray[np.float64]
    cells: NDArray[np.integer]


def random_halves(
    held_out: Mapping[int, Located], *, seed: int, permutations: int = 2000, error: float = ERROR
) -> Check:
    """A seeded random half of the held-out images against the other.

    The halves are exchangeable by construction, whatever the data. What this can detect is a fault of the
    program: distances and images that lost their pairing, a test that does not keep its level. It says
    nothing about the data and fails by chance with probability ``error``.

    Args:
        held_out: Layer → held-out images, the same images in the same order.
        seed: Seed of the split and of the permutations.
        permutations: See :func:`scoring.score.permutation.permutation_p`.
        error: Error of the check.

    >>> one = Located(np.arange(40.0), np.zeros(40, int))
    >>> random_halves({3: one}, seed=0, permutations=99).passed
    True
    """
    n = _count(held_out)
    first = np.random.default_rng(seed).permutation(n) < n // 2
    found = _compare(_split(held_out, first), seed, permutations)
    remedy = "run again with another seed; when it fails twice, report it: the program is at fault"
    return _check("random halves of held-out", found, error, 0.0, remedy, "invalid")


def ordered_halves(
    held_out: Mapping[int, Located], *, seed: int, permutations: int = 2000, error: float = ERROR
) -> Check:
    """The first half of the held-out images, in the order of the manifest, against the second.

    It can detect order: files sorted by class, source or time, or a processing that changed half-way. Order
    alone harms no audit that uses all images, so that a failure is a note; it does harm when the set was cut from
    a longer list by position instead of drawn at random.

    Args:
        held_out: Layer → held-out images, in the order of the manifest.
        seed: Seed of the permutations.
        permutations: See :func:`scoring.score.permutation.permutation_p`.
        error: Error of the check.

    >>> one = Located(np.arange(40.0), np.zeros(40, int))
    >>> ordered_halves({3: one}, seed=0, permutations=199).passed
    False
    """
    n = _count(held_out)
    found = _compare(_split(held_out, np.arange(n) < n // 2), seed, permutations)
    remedy = "if held-out images were taken by position from a sorted list, draw them at random instead"
    return _check("order of held-out", found, error, MATERIAL, remedy, "note")


def train_likeness(
    train: Mapping[int, Located],
    held_out: Mapping[int, Located],
    *,
    seed: int,
    permutations: int = 2000,
    error: float = ERROR,
    material: float = MATERIAL,
) -> Check:
    """Train images, each left out of train in turn, against held-out images.

    When train and held-out images are draws from one distribution, a train image is as far from the nearest
    *other* train image as a held-out image is from its nearest one. It can detect held-out images of another
    source, year or processing, many near-duplicates inside train, and held-out images taken from train. Such a
    difference moves Â of every release by as much. Take a random sample of at most a fifth of train: two
    train images that are each other's nearest count twice when both are in it.

    A failure is a note: published test sets often differ from their train sets a little (MNIST's, by other writers,
    gives .42), and the same held-out images then still rank releases against each other.

    Args:
        train: Layer → sampled train images with their leave-one-out nearest distances (in the cell where
            the search is).
        held_out: Layer → held-out images.
        seed: Seed of the permutations.
        permutations: See :func:`scoring.score.permutation.permutation_p`.
        error: Error of the check.
        material: Least difference of Â from ½ that fails.

    Raises:
        ValueError: The layers differ.

    >>> near, far = Located(np.arange(40.0), np.zeros(40, int)), Located(np.arange(40.0) + 30, np.zeros(40, int))
    >>> train_likeness({3: near}, {3: far}, seed=0, permutations=199).sentence
    'train and held-out images differ: most at layer 3, where Â = 0.0312 instead of .5 (p = 0.005 over 1 layer)'
    """
    if set(train) != set(held_out):
        raise ValueError(f"layers differ: train has {sorted(train)}, held-out {sorted(held_out)}")
    samples = {layer: LayerSample(*held_out[layer], *train[layer]) for layer in sorted(train)}
    found = _compare(samples, seed, permutations)
    remedy = "draw train and held-out images at random from one collection, processed alike and without duplicates"
    return _check("train and held-out", found, error, material, remedy, "note")


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


def _check(name: str, found: _Compared, error: float, material: float, remedy: str, severity: Severity) -> Check:
    passed = found.p > error or abs(found.a_hat - 0.5) < material
    over = f"{found.layers} layer" + ("s" if found.layers > 1 else "")
    where = f"most at layer {found.layer}, where Â = {found.a_hat:.3g} instead of .5 (p = {found.p:.2g} over {over})"
    what = f"{name} images" if name.startswith("train") else f"the halves of the held-out images ({name.split()[0]})"
    sentence = f"{what} {'are alike' if passed else 'differ'}: {where}"
    return Check(name, passed, found.p, error, sentence, "" if passed else remedy, severity)


def _split(held_out: Mapping[int, Located], first: NDArray[np.bool_]) -> dict[int, LayerSample]:
    return {
        layer: LayerSample(one.distance[first], one.cells[first], one.distance[~first], one.cells[~first])
        for layer, one in sorted(held_out.items())
    }


def _count(held_out: Mapping[int, Located]) -> int:
    sizes = {one.distance.size for one in held_out.values()}
    if len(sizes) != 1 or min(sizes) < 4:
        raise ValueError(f"layers must hold the same images, at least 4, got {sorted(sizes)}")
    return sizes.pop()
