"""Tests of a release over all its layers: the permutation test, and the fit of the last layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.workers.contamination import contaminated_rows
from actors.workers.nearest_table import NearestTable
from actors.workers.partition import StoredPartition
from actors.workers.score import LayerInfluence
from scoring.score.frechet import FrechetFit, frechet_fit, moment_blocks
from scoring.score.permutation import Counted, LayerSample, PermutationResult, count_permuted, p_values
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import VectorStore, layer_column, vector_matrix

PERMUTATIONS = 2000
PERMUTATION_PARTS = 4
"""Tasks that the permutations of a release are divided into."""

FRECHET_IMAGES = 20_000
"""Largest number of images that the Fréchet distance uses of a set, the first ones of the table."""


@dataclass(frozen=True, slots=True)
class PermuteLayers:
    """Part ``part`` of the permutations of the labels of one release; keys by informative layer, in order."""

    store: str
    held_out_keys: tuple[str, ...]
    release_keys: tuple[str, ...]
    influence_keys: tuple[str, ...]
    contaminated_key: str
    seed: int
    part: int


@dataclass(frozen=True, slots=True)
class FitLastLayer:
    """The Fréchet distance of one release in one layer; ``tables`` are train, held-out and release: (name, version)."""

    store: str
    layer: int
    contaminated_key: str
    partition_key: str
    tables: tuple[tuple[str, int], ...]
    seed: int


class Joined(NamedTuple):
    """The results of all layers together: the permutation test, and the fit of the last layer."""

    permutation: PermutationResult
    frechet: FrechetFit


def run_release_test(task: PermuteLayers | FitLastLayer) -> Counted | FrechetFit:
    """Run a part of the tests of a release; `joined` combines the parts."""
    store = open_store(task.store)
    excluded = contaminated_rows(store, task.contaminated_key)
    if isinstance(task, PermuteLayers):
        return _permute(store, task, excluded)
    return _frechet(store, task, excluded)


def _permute(store: ObjectStore, task: PermuteLayers, excluded: NDArray[np.int64]) -> Counted:
    influences = [LayerInfluence.load(store, key) for key in task.influence_keys]
    samples = [
        layer_sample(NearestTable.load(store, p).without(excluded), NearestTable.load(store, q), influence.groups)
        for p, q, influence in zip(task.held_out_keys, task.release_keys, influences, strict=True)
    ]
    return count_permuted(samples, permutations=PERMUTATIONS, seed=task.seed, part=task.part, parts=PERMUTATION_PARTS)


def _frechet(store: ObjectStore, task: FitLastLayer, excluded: NDArray[np.int64]) -> FrechetFit:
    stored = StoredPartition.load(store, task.partition_key)
    vectors = VectorStore(store)
    blocks = []
    for i, (name, version) in enumerate(task.tables):
        table = vectors.read(name, version, ["row", layer_column(task.layer)], limit=FRECHET_IMAGES)
        rows, x = table["row"].to_numpy(), vector_matrix(table[layer_column(task.layer)])
        kept = ~np.isin(rows, excluded) if i == 1 else np.ones(len(rows), np.bool_)
        blocks.append(moment_blocks(stored.partition.project(x[kept]), seed=task.seed))
    train, held_out, release = blocks
    return frechet_fit(release, held_out, train)


def joined(parts: Sequence[Counted | FrechetFit]) -> Joined:
    """Combine all permutations of a release, and its one Fréchet distance."""
    (frechet,) = (part for part in parts if isinstance(part, FrechetFit))
    return Joined(p_values([part for part in parts if isinstance(part, Counted)]), frechet)


def layer_sample(held_out: NearestTable, release: NearestTable, groups: NDArray[np.int32]) -> LayerSample:
    """One layer's distances with the merged cells of its images."""
    return LayerSample(held_out.distance, groups[held_out.cell], release.distance, groups[release.cell])
