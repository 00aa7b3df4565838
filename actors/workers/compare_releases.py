"""The comparison of two scored releases on the same held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.workers.score import LayerInfluence
from scoring.attribution.paired import Comparison, Influenced, compare
from storage.objects.open import open_store


@dataclass(frozen=True, slots=True)
class CompareLayers:
    """Two scored releases on one reference: Â and influences of the same layers."""

    store: str
    a_hats: tuple[tuple[float, ...], tuple[float, ...]]
    influence_keys: tuple[tuple[str, ...], tuple[str, ...]]
    seed: int


def compare_layers(task: CompareLayers) -> Comparison:
    """Compare two releases, paired on the held-out images."""
    store = open_store(task.store)
    first, second = (
        _influenced(a_hat, [LayerInfluence.load(store, key) for key in keys])
        for a_hat, keys in zip(task.a_hats, task.influence_keys, strict=True)
    )
    return compare(first, second, seed=task.seed)


def _influenced(a_hat: Sequence[float], loaded: Sequence[LayerInfluence]) -> Influenced:
    return Influenced(
        np.array(a_hat),
        np.stack([influence.held_out for influence in loaded], axis=1),
        np.stack([influence.release for influence in loaded], axis=1),
    )
