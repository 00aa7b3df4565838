"""The stage that profiles a set of images, for audits, enrolment and attribution alike."""

from __future__ import annotations

from actors.stages.context import StageContext
from actors.stages.reference import ReferenceTables
from actors.workers.profile import JoinProfile, ProfileLayer, SetProfile, join_profile, profile_layer
from storage.layout import layer_key, profile_prefix
from storage.vectors.tables import EmbeddingTable


def profile(
    context: StageContext, reference: ReferenceTables, table: EmbeddingTable, nearest: str, label: str
) -> SetProfile | None:
    """Profile a set in every layer, then join the informative ones; None when there are none.

    Layers that are already in the store are not computed again.

    Args:
        context: Store, cluster and progress.
        reference: The reference.
        table: The set's embedding table.
        nearest: Prefix of the set's nearest distances.
        label: The set's name in progress reports.
    """
    prefix = profile_prefix(
        reference.nearest, nearest, reference.contaminated, table.name, table.version, reference.seed
    )
    keys = {layer: layer_key(prefix, layer, "npz") for layer in reference.layers}
    tasks = [
        ProfileLayer(
            store=context.store.uri,
            table=table.name,
            version=table.version,
            layer=layer,
            partition_key=layer_key(reference.partition, layer, "npz"),
            held_out_key=layer_key(reference.nearest, layer, "parquet"),
            release_key=layer_key(nearest, layer, "parquet"),
            contaminated_key=reference.contaminated,
            seed=reference.seed,
            key=key,
        )
        for layer, key in keys.items()
        if not context.store.exists(key)
    ]
    context.run("layers", profile_layer, tasks, f"profile {label}", skipped=len(keys) - len(tasks))
    return context.run_one(join_profile, JoinProfile(context.store.uri, tuple(keys), tuple(keys.values())))
