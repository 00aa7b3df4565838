"""Scores one layer of one release from the nearest distances, and joins the layers into its profile."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.partitioner import StoredPartition
from actors.searcher import NearestTable
from scoring.layer_score import LayerScore, score_layer, uninformative_layer
from scoring.profile import Profile, logit_profile
from storage.objects import ObjectStore, open_store

EVIDENCE_PAIRS = 20


@dataclass(frozen=True, slots=True)
class ScoreLayer:
    """One layer of one release to score; ``influence_key`` is where the per-image contributions go."""

    store: str
    layer: int
    partition_key: str
    held_out_key: str
    release_key: str
    influence_key: str
    held_out_images: int
    release_images: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A generated image and its nearest train image, by rows of their manifests."""

    rank: int
    image_row: int
    train_row: int
    distance: float
    p_value: float


@dataclass(frozen=True, slots=True)
class LayerResult:
    """What one layer says about one release, with its closest pairs."""

    score: LayerScore
    pairs: list[Pair]


@dataclass(unsafe_hash=True)
class Scorer:
    """A worker that scores one layer of one release at a time."""

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, task: ScoreLayer) -> LayerResult:
        """Score one layer.

        Raises:
            ValueError: too few images for one cell (the flow checks this before any work).
        """
        store = open_store(task.store)
        partition = StoredPartition.load(store, task.partition_key).partition
        if not partition.informative:
            return LayerResult(uninformative_layer(task.layer, task.held_out_images, task.release_images), [])
        held_out = NearestTable.load(store, task.held_out_key)
        release = NearestTable.load(store, task.release_key)
        scored = score_layer(
            task.layer, held_out.distance, held_out.cell, release.distance, release.cell, partition.centroids
        )
        _save_influence(store, task.influence_key, scored.influence_p, scored.influence_q)
        return LayerResult(scored.score, closest_pairs(release, scored.conformal_p))

    def close(self) -> None:
        """Nothing to give back."""


def closest_pairs(release: NearestTable, p_values: NDArray[np.float64]) -> list[Pair]:
    """The pairs at the smallest distances, closest first; equal distances in the order of the manifest."""
    order = np.lexsort((release.row, release.distance))[:EVIDENCE_PAIRS]
    return [
        Pair(
            rank,
            int(release.row[i]),
            int(release.train_row[i]),
            float(release.distance[i]),
            float(p_values[i]),
        )
        for rank, i in enumerate(order, start=1)
    ]


@dataclass(frozen=True, slots=True)
class JoinLayers:
    """The informative layers of one release to join: Â of each, and where their contributions are."""

    store: str
    a_hat: tuple[float, ...]
    influence_keys: tuple[str, ...]


@dataclass(unsafe_hash=True)
class Profiler:
    """A worker that makes a release's profile: logit Â of all layers with their covariance."""

    def setup(self) -> None:
        """Nothing to load."""

    def process(self, task: JoinLayers) -> Profile:
        store = open_store(task.store)
        loaded = [_load_influence(store, key) for key in task.influence_keys]
        held_out, release = ([pair[side] for pair in loaded] for side in (0, 1))
        return logit_profile(np.array(task.a_hat), _columns(held_out), _columns(release))

    def close(self) -> None:
        """Nothing to give back."""


def _columns(layers: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.stack(layers, axis=1)


def _save_influence(store: ObjectStore, key: str, held_out: NDArray[np.float64], release: NDArray[np.float64]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, held_out=held_out, release=release)
    store.put_if_absent(key, buffer.getvalue())


def _load_influence(store: ObjectStore, key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with np.load(io.BytesIO(store.get(key)), allow_pickle=False) as arrays:
        return arrays["held_out"], arrays["release"]
