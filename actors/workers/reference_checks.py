"""The checks of a reference: whether its held-out images are like unseen ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from actors.workers.contamination import contaminated_rows
from actors.workers.nearest_table import NearestTable
from actors.workers.release_tests import PERMUTATIONS
from scoring.checks.check import Check
from scoring.checks.exchangeability import Located, ordered_halves, random_halves, train_likeness
from storage.objects.open import ObjectStore, open_store
from storage.seal import parse_json, read_sealed, sealed_json

CheckName = Literal["random halves", "ordered halves", "train likeness"]


@dataclass(frozen=True, slots=True)
class CheckReference:
    """One check of a reference; keys by layer, ``left_out_keys`` only where training images are compared."""

    store: str
    check: CheckName
    layers: tuple[int, ...]
    held_out_keys: tuple[str, ...]
    left_out_keys: tuple[str, ...]
    contaminated_key: str
    seed: int


def run_reference_check(task: CheckReference) -> Check | None:
    """Run one check; None where no layer is informative."""
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


def save_checks(store: ObjectStore, key: str, checks: Iterable[Check]) -> None:
    """Publish checks, unless another flow was first."""
    store.put_if_absent(key, sealed_json([asdict(check) for check in checks]))


def load_checks(store: ObjectStore, key: str) -> list[Check]:
    """The checks that `save_checks` published."""
    return read_sealed(store, key, lambda data: [Check(**item) for item in parse_json(data)])


def _located(
    store: ObjectStore, layers: Sequence[int], keys: Sequence[str], excluded: NDArray[np.int64]
) -> dict[int, Located]:
    """Distances and cells of the informative layers."""
    tables = {layer: NearestTable.load(store, key) for layer, key in zip(layers, keys, strict=True)}
    kept = {layer: table.without(excluded) for layer, table in tables.items() if len(table.row)}
    return {layer: Located(table.distance, table.cell) for layer, table in kept.items()}
