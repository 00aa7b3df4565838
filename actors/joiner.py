"""Work that needs all layers at once: the checks of a reference, the permutation test and the fit of a release."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.contaminated import contaminated_rows
from actors.partitioner import StoredPartition
from actors.scorer import LayerInfluence
from actors.searcher import NearestTable
from scoring.check import Check
from scoring.exchangeability import Located, ordered_halves, random_halves, train_likeness
from scoring.frechet import FrechetFit, frechet_fit, moment_blocks
from scoring.paired import Comparison, Influenced, compare
from scoring.permutation import Counted, LayerSample, PermutationResult, count_permuted, p_values
from storage.objects import ObjectStore, open_store
from storage.vectors import VectorStore, layer_column, vector_matrix

PERMUTATIONS = 2000
PERMUTATION_PARTS = 4
"""Tasks that the permutations of a release are dealt to."""

FRECHET_IMAGES = 20_000
"""Images of a set that the Fréchet distance uses at most, the first ones of the table."""


# -- checks of a reference -----------------------------------------------------------------------------------


CheckName = Literal["random halves", "ordered halves", "train likeness"]


@dataclass(frozen=True, slots=True)
class CheckReference:
    """One check of a reference; keys by layer, ``left_out_keys`` only where train is compared."""

    store: str
    check: CheckName
    layers: tuple[int, ...]
    held_out_keys: tuple[str, ...]
    left_out_keys: tuple[str, ...]
    contaminated_key: str
    seed: int


@dataclass(unsafe_hash=True)
class ReferenceChecker:
    """A worker that asks whether held-out images can stand for unseen ones."""

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, task: CheckReference) -> Check | None:
        """Make one check; None where no layer is informative."""
        store = open_store(task.store)
        excluded = contaminated_rows(store, task.contaminated_key)
        held_out = _located(store, task.layers, task.held_out_keys, excluded)
        if not held_out:
            return None
        if task.check == "random halves":
            return random_halves(held_out, seed=task.seed, permutations=PERMUTATIONS)
        if task.check == "ordered halves":
            return ordered_halves(held_out, seed=task.seed, permutations=PERMUTATIONS)
        left_out = _located(store, task.layers, task.left_out_keys, np.empty(0, np.int64))
        return train_likeness(left_out, held_out, seed=task.seed, permutations=PERMUTATIONS)

    def close(self) -> None:
        """Nothing to give back."""


def save_checks(store: ObjectStore, key: str, checks: Iterable[Check]) -> None:
    """Publish checks, unless another flow was first."""
    store.put_if_absent(key, json.dumps([asdict(check) for check in checks]).encode())


def load_checks(store: ObjectStore, key: str) -> list[Check]:
    """The checks that `save_checks` published."""
    return [Check(**item) for item in json.loads(store.get(key))]


def _located(
    store: ObjectStore, layers: Sequence[int], keys: Sequence[str], excluded: NDArray[np.int64]
) -> dict[int, Located]:
    """Distances and cells of the informative layers."""
    tables = {layer: NearestTable.load(store, key) for layer, key in zip(layers, keys, strict=True)}
    kept = {layer: table.without(excluded) for layer, table in tables.items() if len(table.row)}
    return {layer: Located(table.distance, table.cell) for layer, table in kept.items()}


# -- test and fit of a release -------------------------------------------------------------------------------


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
    """What the layers say together: the permutation test over layers, the fit of the last layer."""

    permutation: PermutationResult
    frechet: FrechetFit


@dataclass(unsafe_hash=True)
class Joiner:
    """A worker that joins the layers of a release, a part of the work at a time; `joined` puts the parts together."""

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, task: PermuteLayers | FitLastLayer) -> Counted | FrechetFit:
        store = open_store(task.store)
        excluded = contaminated_rows(store, task.contaminated_key)
        if isinstance(task, PermuteLayers):
            return self._permute(store, task, excluded)
        return self._frechet(store, task, excluded)

    def close(self) -> None:
        """Nothing to give back."""

    @staticmethod
    def _permute(store: ObjectStore, task: PermuteLayers, excluded: NDArray[np.int64]) -> Counted:
        influences = [LayerInfluence.load(store, key) for key in task.influence_keys]
        samples = [
            layer_sample(NearestTable.load(store, p).without(excluded), NearestTable.load(store, q), one.groups)
            for p, q, one in zip(task.held_out_keys, task.release_keys, influences, strict=True)
        ]
        return count_permuted(
            samples, permutations=PERMUTATIONS, seed=task.seed, part=task.part, parts=PERMUTATION_PARTS
        )

    @staticmethod
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
    """All permutations of a release, and its one Fréchet distance."""
    (frechet,) = (part for part in parts if isinstance(part, FrechetFit))
    return Joined(p_values([part for part in parts if isinstance(part, Counted)]), frechet)


def layer_sample(held_out: NearestTable, release: NearestTable, groups: NDArray[np.int32]) -> LayerSample:
    """One layer's distances with the merged cells of its images."""
    return LayerSample(held_out.distance, groups[held_out.cell], release.distance, groups[release.cell])


# -- two releases --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CompareLayers:
    """Two scored releases on one reference: Â and influences of the same layers."""

    store: str
    a_hats: tuple[tuple[float, ...], tuple[float, ...]]
    influence_keys: tuple[tuple[str, ...], tuple[str, ...]]
    seed: int


@dataclass(unsafe_hash=True)
class Comparer:
    """A worker that compares two releases, pairing them on the held-out images."""

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, task: CompareLayers) -> Comparison:
        store = open_store(task.store)
        first, second = (
            _influenced(a_hat, [LayerInfluence.load(store, key) for key in keys])
            for a_hat, keys in zip(task.a_hats, task.influence_keys, strict=True)
        )
        return compare(first, second, seed=task.seed)

    def close(self) -> None:
        """Nothing to give back."""


def _influenced(a_hat: Sequence[float], loaded: Sequence[LayerInfluence]) -> Influenced:
    return Influenced(
        np.array(a_hat),
        np.stack([one.held_out for one in loaded], axis=1),
        np.stack([one.release for one in loaded], axis=1),
    )
