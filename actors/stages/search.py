"""The search stage: the nearest distances of a set in every layer, block by block.

A set is cut into blocks of images, so that a large one is spread over workers and an interrupted search resumes where
it was. A search by an index begins with a sample that is searched exactly and decides the number of probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from actors.stages.context import StageContext
from actors.workers.nearest_table import MergeBlocks, merge_blocks
from actors.workers.search import Metric, SearchLayer, search_layer
from actors.workers.search_sample import SampleSearch, search_sample
from scoring.nearest.search_plan import SearchMode
from storage.layout import block_key, keys_under, layer_key, nearest_prefix, samples_prefix
from storage.objects.open import ObjectStore
from storage.vectors.tables import EmbeddingTable

BLOCK_IMAGES = 50_000
"""Largest number of images that one task searches: ten seconds to a few minutes of work."""


def plan_search(
    store: ObjectStore,
    table: EmbeddingTable,
    layers: Sequence[int],
    partition: str,
    metric: Metric,
    mode: SearchMode,
) -> list[SearchLayer]:
    """One search per layer, of all images."""
    prefix = nearest_prefix(table.name, partition, metric)
    return [
        SearchLayer(
            store=store.uri,
            table=table.name,
            version=table.version,
            layer=layer,
            partition_key=layer_key(partition, layer, "npz"),
            metric=metric,
            key=layer_key(prefix, layer, "parquet"),
            sample_key=layer_key(samples_prefix(prefix), layer, "npz") if mode == "global" else None,
        )
        for layer in layers
    ]


def in_blocks(task: SearchLayer, images: int, most: int) -> list[SearchLayer]:
    """Split a layer's search into blocks of at most `most` images; the search itself when one block is enough.

    >>> whole = SearchLayer("", "t", 1, 3, "", "euclidean", "nearest/ab/layer_03.parquet")
    >>> [block.key for block in in_blocks(whole, 25, 20)]
    ['nearest/ab/layer_03/000000000-000000013.parquet', 'nearest/ab/layer_03/000000013-000000025.parquet']
    """
    if task.left_out or images <= most:
        return [task]
    size = -(-images // -(-images // most))
    parts = [slice(start, min(start + size, images)) for start in range(0, images, size)]
    return [replace(task, key=block_key(task.key, part.start, part.stop), part=part) for part in parts]


def search(
    context: StageContext,
    table: EmbeddingTable,
    layers: Sequence[int],
    partition: str,
    metric: Metric,
    mode: SearchMode,
    label: str,
) -> str:
    """Search the nearest distances of a set in every layer; returns their prefix in the store."""
    tasks = plan_search(context.store, table, layers, partition, metric, mode)
    prefix = tasks[0].key.rpartition("/")[0]
    if mode == "global":
        sample_missing(context, prefix, tasks, table.rows, label)
    run_search(context, prefix, tasks, table.rows, label)
    return prefix


def sample_missing(
    context: StageContext,
    prefix: str,
    tasks: Sequence[SearchLayer],
    images: int,
    label: str,
    *,
    of_searched: bool = False,
) -> None:
    """Search a sample exactly in the layers that have none yet; ``of_searched``: also where the search is finished."""
    existing = keys_under(context.store, prefix)
    missing = [
        SampleSearch(task.store, task.table, task.version, images, task.layer, task.partition_key, task.sample_key)
        for task in tasks
        if task.sample_key and task.sample_key not in existing and (of_searched or task.key not in existing)
    ]
    if missing or not of_searched:
        context.run("layers", search_sample, missing, f"sample {label}", len(tasks) - len(missing))


def run_search(context: StageContext, prefix: str, tasks: Sequence[SearchLayer], images: int, label: str) -> None:
    """Search the missing blocks, and merge each layer's blocks into one table."""
    existing = keys_under(context.store, prefix)
    blocks = {task.key: in_blocks(task, images, BLOCK_IMAGES) for task in tasks}
    missing = [
        block for key, layer in blocks.items() if key not in existing for block in layer if block.key not in existing
    ]
    total = sum(len(layer) for layer in blocks.values())
    unit = "layers" if total == len(tasks) else "blocks"
    context.run("layers", search_layer, missing, f"search {label}", total - len(missing), unit)
    merges = [
        MergeBlocks(context.store.uri, tuple(block.key for block in layer), key)
        for key, layer in blocks.items()
        if len(layer) > 1 and key not in existing
    ]
    if merges:
        context.run("layers", merge_blocks, merges, f"merge {label}")
