"""The last stages of an audit: the scores of a release, and the comparison of two releases.

Unlike the earlier stages they return their result to the caller, who stores it; they are always computed from the
nearest distances in the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from actors.stages.context import StageContext
from actors.stages.reference import ReferenceTables
from actors.workers.compare_releases import CompareLayers, compare_layers
from actors.workers.release_tests import (
    PERMUTATION_PARTS,
    FitLastLayer,
    Joined,
    PermuteLayers,
    joined,
    run_release_test,
)
from actors.workers.score import LayerResult, ScoreLayer, score_layer_of_release
from scoring.attribution.paired import Comparison
from storage import layout
from storage.layout import keys_under, layer_key
from storage.vectors.tables import EmbeddingTable


class Scored(NamedTuple):
    """All layers of one release, and the joint results of the informative ones (None when there are none)."""

    layers: dict[int, LayerResult]
    joined: Joined | None

    @property
    def informative(self) -> list[int]:
        """The layers that carry information, in the order of the joint results."""
        return [layer for layer, result in self.layers.items() if result.score.informative]


def influence_prefix(reference: ReferenceTables, nearest: str) -> str:
    """Where the influences of a scored release live."""
    return layout.influence_prefix(reference.nearest, nearest, reference.contaminated)


def score(context: StageContext, reference: ReferenceTables, table: EmbeddingTable, nearest: str, label: str) -> Scored:
    """Score a release against held-out images in every layer, then join the layers.

    Args:
        context: Store, cluster and progress.
        reference: The reference.
        table: The release's embedding table.
        nearest: Prefix of the release's nearest distances.
        label: The release's name in progress reports.
    """
    by_layer = score_layers(context, reference, nearest, table.rows, label)
    return Scored(by_layer, join_layers(context, reference, table, nearest, by_layer))


def score_layers(
    context: StageContext, reference: ReferenceTables, nearest: str, images: int, label: str
) -> dict[int, LayerResult]:
    """Score every layer by itself; `nearest` and `images` belong to the release."""
    influence = influence_prefix(reference, nearest)
    tasks = [
        ScoreLayer(
            store=context.store.uri,
            layer=layer,
            partition_key=layer_key(reference.partition, layer, "npz"),
            held_out_key=layer_key(reference.nearest, layer, "parquet"),
            release_key=layer_key(nearest, layer, "parquet"),
            contaminated_key=reference.contaminated,
            influence_key=layer_key(influence, layer, "npz"),
            held_out_images=reference.held_out_images,
            release_images=images,
        )
        for layer in reference.layers
    ]
    results = context.run("layers", score_layer_of_release, tasks, f"score {label}")
    return {tasks[index].layer: result for index, result in sorted(results.items())}


def join_layers(
    context: StageContext,
    reference: ReferenceTables,
    table: EmbeddingTable,
    nearest: str,
    by_layer: Mapping[int, LayerResult],
) -> Joined | None:
    """The joint results of the informative layers; None when there are none."""
    influence = influence_prefix(reference, nearest)
    layers = [layer for layer, result in by_layer.items() if result.score.informative]
    if not layers:
        return None
    permutations = [
        PermuteLayers(
            store=context.store.uri,
            held_out_keys=tuple(layer_key(reference.nearest, layer, "parquet") for layer in layers),
            release_keys=tuple(layer_key(nearest, layer, "parquet") for layer in layers),
            influence_keys=tuple(layer_key(influence, layer, "npz") for layer in layers),
            contaminated_key=reference.contaminated,
            seed=reference.seed,
            part=part,
        )
        for part in range(PERMUTATION_PARTS)
    ]
    last = FitLastLayer(
        store=context.store.uri,
        layer=max(layers),
        contaminated_key=reference.contaminated,
        partition_key=layer_key(reference.partition, max(layers), "npz"),
        tables=tuple((t.name, t.version) for t in (reference.train, reference.held_out, table)),
        seed=reference.seed,
    )
    tasks: list[PermuteLayers | FitLastLayer] = [last, *permutations]
    return joined(context.run_all(run_release_test, tasks))


def compare_releases(
    context: StageContext,
    reference: ReferenceTables,
    layers: Sequence[int],
    nearest: tuple[str, str],
    a_hats: tuple[Mapping[int, float], Mapping[int, float]],
) -> Comparison:
    """Compare two scored releases in these layers, on the same held-out images.

    A release is scored again if its influences are not in the store: they were broken, and set aside.
    """
    for release in nearest:
        prefix = influence_prefix(reference, release)
        if not {layer_key(prefix, layer, "npz") for layer in layers} <= keys_under(context.store, prefix):
            score_layers(context, reference, release, 0, "again")  # the count is that of constant layers only
    first, second = (tuple(a_hat[layer] for layer in layers) for a_hat in a_hats)
    keys_first, keys_second = (
        tuple(layer_key(influence_prefix(reference, prefix), layer, "npz") for layer in layers) for prefix in nearest
    )
    task = CompareLayers(context.store.uri, (first, second), (keys_first, keys_second), reference.seed)
    return context.run_one(compare_layers, task)
