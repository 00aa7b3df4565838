"""Scores one layer of one release from the nearest distances."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from actors.workers.arrays import load_arrays, save_arrays
from actors.workers.contamination import contaminated_rows
from actors.workers.nearest_table import NearestTable
from actors.workers.partition import StoredPartition
from scoring.checks.search_error import Searched, SearchError, search_error
from scoring.nearest.near_duplicates import MIN_IMAGES, duplicate_threshold
from scoring.score.authenticity import Authenticity, authentic_share, compare_authenticity
from scoring.score.conformal import conformal_p
from scoring.score.false_discovery import discoveries
from scoring.score.layer_score import LayerScore, ScoredLayer, score_layer
from storage.objects.open import ObjectStore, open_store

EVIDENCE_PAIRS = 20


@dataclass(frozen=True, slots=True)
class ScoreLayer:
    """One layer of one release to score; ``influence_key`` is the place of the per-image influences.

    ``held_out_images`` and ``release_images`` are n and m, for a layer without information.
    """

    store: str
    layer: int
    partition_key: str
    held_out_key: str
    release_key: str
    contaminated_key: str
    influence_key: str
    held_out_images: int
    release_images: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A generated image and its nearest training image, by rows of their manifests.

    ``p_value`` and ``ratio_p`` are conformal, of distance and distance ratio; the ratio is None where the search gave
    no further neighbours. ``discovery`` marks the images that Benjamini-Hochberg lists at 10 %.
    """

    rank: int
    image_row: int
    train_row: int
    distance: float
    p_value: float
    discovery: bool
    ratio: float | None
    ratio_p: float | None
    near_duplicate: bool


@dataclass(frozen=True, slots=True)
class IndexSearch:
    """How a layer was searched by an index: pinned version, probes of both sets, and the error of Â."""

    index_table: str
    index_version: int
    held_out_probes: int | None
    release_probes: int | None
    error: SearchError


@dataclass(frozen=True, slots=True)
class LayerResult:
    """The results of one release in one layer: its score, its closest pairs, and the other known measures.

    ``search`` is None where the search was exact.
    """

    score: LayerScore
    pairs: list[Pair]
    discoveries: int | None = None
    near_duplicates: int | None = None
    authentic: Authenticity | None = None
    search: IndexSearch | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LayerInfluence:
    """The influence of each image on Â, held-out (n,) and release (m,), and the merged group of each cell (c,)."""

    held_out: NDArray[np.float64]
    release: NDArray[np.float64]
    groups: NDArray[np.int32]

    @classmethod
    def load(cls, store: ObjectStore, key: str) -> LayerInfluence:
        return cls(**load_arrays(store, key))

    def save(self, store: ObjectStore, key: str) -> None:
        save_arrays(store, key, held_out=self.held_out, release=self.release, groups=self.groups)


def score_layer_of_release(task: ScoreLayer) -> LayerResult:
    """Score one layer.

    Raises:
        ValueError: There are too few images for one cell (the flow checks this before any work).
    """
    store = open_store(task.store)
    stored = StoredPartition.load(store, task.partition_key)
    partition = stored.partition
    if not partition.informative:
        return LayerResult(LayerScore(task.layer, task.held_out_images, task.release_images), [])
    held_out = NearestTable.load(store, task.held_out_key).without(contaminated_rows(store, task.contaminated_key))
    release = NearestTable.load(store, task.release_key)
    scored = score_layer(
        task.layer, held_out.distance, held_out.cell, release.distance, release.cell, partition.centroids
    )
    LayerInfluence(*scored.influence, scored.groups).save(store, task.influence_key)
    result = layer_result(scored.score, held_out, release, conformal_p(held_out.distance, release.distance))
    if stored.search == "in_cell":
        return result
    return replace(result, search=_index_search(stored, held_out, release, scored))


def _index_search(
    stored: StoredPartition, held_out: NearestTable, release: NearestTable, scored: ScoredLayer
) -> IndexSearch:
    p, q = (Searched(x.distance, scored.groups[x.cell], x.exact, x.second) for x in (held_out, release))
    error = search_error(p, q, scored.score.effect.se if scored.score.effect else 0.0)
    return IndexSearch(stored.index_table, stored.index_version, held_out.probes, release.probes, error)


def layer_result(
    score: LayerScore, held_out: NearestTable, release: NearestTable, p_values: NDArray[np.float64]
) -> LayerResult:
    """A score with its evidence.

    The pairs are those with the smallest distances, closest first; equal distances in the order of the manifest.
    """
    listed = discoveries(p_values)
    with_neighbours = bool(np.isfinite(held_out.ratio).all() and np.isfinite(release.ratio).all())
    ratio_p = conformal_p(held_out.ratio, release.ratio) if with_neighbours else None
    near = _near_duplicates(held_out, release) if with_neighbours else None
    pairs = [
        Pair(
            rank=rank,
            image_row=int(release.row[i]),
            train_row=int(release.train_row[i]),
            distance=float(release.distance[i]),
            p_value=float(p_values[i]),
            discovery=bool(listed[i]),
            ratio=None if ratio_p is None else float(release.ratio[i]),
            ratio_p=None if ratio_p is None else float(ratio_p[i]),
            near_duplicate=near is not None and bool(near[i]),
        )
        for rank, i in enumerate(np.lexsort((release.row, release.distance))[:EVIDENCE_PAIRS], start=1)
    ]
    return LayerResult(
        score=score,
        pairs=pairs,
        discoveries=int(listed.sum()),
        near_duplicates=None if near is None else int(near.sum()),
        authentic=_authentic(held_out, release) if with_neighbours else None,
    )


def _near_duplicates(held_out: NearestTable, release: NearestTable) -> NDArray[np.bool_] | None:
    if len(held_out.ratio) < MIN_IMAGES:
        return None
    near: NDArray[np.bool_] = release.ratio <= duplicate_threshold(held_out.ratio).ratio
    return near


def _authentic(held_out: NearestTable, release: NearestTable) -> Authenticity:
    return compare_authenticity(
        authentic_share(release.distance, release.train_gap), authentic_share(held_out.distance, held_out.train_gap)
    )
