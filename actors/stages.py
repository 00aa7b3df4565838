"""The stages of an audit. Each plans what is missing, has workers do it, and hands on names and small records.

A stage that finds its output in the store does nothing, so every stage may be repeated; `score` alone hands its
result to the caller, who stores it, and computes it again from the nearest distances. No image and no vector passes
through here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import NamedTuple, TypeVar

from actors.embedder import Embedder, EmbedShard, EncoderResolver
from actors.encoder_config import EncoderConfig, EncoderFacts
from actors.partitioner import FitLayer, Partitioner
from actors.scorer import JoinLayers, LayerResult, Profiler, ScoreLayer, Scorer
from actors.searcher import Metric, Searcher, SearchLayer
from actors.weights import weights_identity
from actors.workbench import Progress as Progress
from actors.workbench import Report as Report
from actors.workbench import Workbench as Workbench
from scoring.profile import Profile
from storage.digest import digest, short
from storage.image_sets import Manifest
from storage.objects import ObjectStore
from storage.vectors import EmbeddingTable, VectorStore, embedding_schema

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EmbedSettings:
    """How a machine embeds; it does not change the embeddings."""

    device: str = "cpu"
    threads: int = 1
    readers: int = 8
    batch_size: int = 32


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """What decides a partition, besides the train images and the encoder."""

    components: int
    cells: int
    seed: int


# -- encoder -------------------------------------------------------------------------------------------------


def resolve_encoder(bench: Workbench, config: EncoderConfig) -> EncoderFacts:
    """What the encoder is: its digest, layers and preprocessing; remembered in the store.

    Raises:
        InputError: the model or its weights cannot be used.
    """
    request = digest(
        model=config.model,
        weights=weights_identity(config.weights),
        model_args=config.model_args,
        image_size=config.image_size,
        pooling=config.pooling,
        layers=config.layers,
        libraries=[version("timm"), version("torch")],
    )
    key = f"encoders/{short(request)}.json"
    if not bench.store.exists(key):
        ((_, text),) = bench.cluster.pool("embed").run(EncoderResolver(), [config])
        bench.store.put_if_absent(key, text)
    return EncoderFacts.from_json(bench.store.get(key))


# -- embed ---------------------------------------------------------------------------------------------------


def shard_size(images: int) -> int:
    """Images per shard: about 200 shards a set, so that progress shows and fragments stay large.

    >>> [shard_size(n) for n in (500, 100_000, 10_000_000)]
    [256, 500, 4096]
    """
    return min(4096, max(256, images // 200))


def table_name(facts: EncoderFacts, manifest: Manifest) -> str:
    """The embedding table of an image set under an encoder."""
    return f"images-{short(digest(encoder=facts.digest, images=manifest.digest))}"


def plan_shards(store: ObjectStore, manifest: Manifest, table: str) -> tuple[str, list[EmbedShard]]:
    """All shards of a set, and the prefix of their receipts."""
    size = shard_size(len(manifest))
    receipts = f"receipts/{table}/{size}"
    shards = [
        EmbedShard(
            store=store.uri,
            table=table,
            receipts=receipts,
            manifest_key=f"manifests/{short(manifest.digest)}.parquet",
            set_uri=manifest.uri,
            kind=manifest.kind,
            index=shard.index,
            start=shard.start,
            stop=shard.stop,
        )
        for shard in manifest.shards(size)
    ]
    return receipts, shards


class Embedded(NamedTuple):
    """An embedding table, and how many images went through the encoder for it now."""

    table: EmbeddingTable
    forward_images: int


def embed(
    bench: Workbench,
    config: EncoderConfig,
    facts: EncoderFacts,
    manifest: Manifest,
    settings: EmbedSettings,
    label: str,
) -> Embedded:
    """Embed an image set: every image once, whatever was interrupted before.

    Raises:
        InputError: the set or the encoder cannot be used.
        StageError: workers failed after their restarts.
    """
    name = table_name(facts, manifest)
    vectors = VectorStore(bench.store)
    stage, total = f"embed {label}", len(manifest)
    done = vectors.committed(name)
    if done is not None:
        bench.report(Progress(stage, "images", total, total, skipped=total))
        return Embedded(done, 0)
    receipts, shards = plan_shards(bench.store, manifest, name)
    bench.store.put_if_absent(shards[0].manifest_key, manifest.to_bytes())
    schema = embedding_schema(facts.dims)
    vectors.create(name, schema)
    found = vectors.receipts(receipts)
    missing = [shard for shard in shards if shard.index not in found]
    skipped = total - sum(shard.stop - shard.start for shard in missing)
    forward = 0
    bench.report(Progress(stage, "images", skipped, total, skipped))
    worker = Embedder(config, facts.digest, settings.device, settings.threads, settings.readers, settings.batch_size)
    if missing:
        handled = skipped
        for index, receipt in bench.cluster.pool("embed").run(worker, missing):
            handled += missing[index].stop - missing[index].start
            forward += receipt.rows
            bench.report(Progress(stage, "images", handled, total, skipped))
        found = vectors.receipts(receipts)
    return Embedded(vectors.commit(name, schema, [found[shard.index] for shard in shards]), forward)


# -- partition -----------------------------------------------------------------------------------------------


def partition_prefix(train: EmbeddingTable, settings: PartitionSettings) -> str:
    """Where the partition of a train table lives."""
    code = digest(train=train.name, components=settings.components, cells=settings.cells, seed=settings.seed)
    return f"partitions/{short(code)}"


def layer_key(prefix: str, layer: int, suffix: str) -> str:
    """The object of one layer under a prefix.

    >>> layer_key("nearest/ab", 3, "parquet")
    'nearest/ab/layer_03.parquet'
    """
    return f"{prefix}/layer_{layer:02d}.{suffix}"


def fit_partitions(bench: Workbench, train: EmbeddingTable, layers: Sequence[int], settings: PartitionSettings) -> str:
    """PCA, cells and index of every layer, fitted on train once; returns their prefix in the store."""
    prefix = partition_prefix(train, settings)
    tasks = [
        FitLayer(
            store=bench.store.uri,
            table=train.name,
            version=train.version,
            layer=layer,
            components=settings.components,
            cells=settings.cells,
            seed=settings.seed,
            key=layer_key(prefix, layer, "npz"),
            index_table=f"train-{prefix.rpartition('/')[2]}-layer_{layer:02d}",
        )
        for layer in layers
    ]
    missing = _missing(bench.store, prefix, tasks)
    bench.run("layers", Partitioner(), missing, "partition train", len(tasks) - len(missing))
    return prefix


# -- search --------------------------------------------------------------------------------------------------


def search(
    bench: Workbench, table: EmbeddingTable, layers: Sequence[int], partition: str, metric: Metric, label: str
) -> str:
    """The nearest distances of a set in every layer; returns their prefix in the store."""
    prefix = f"nearest/{short(digest(table=table.name, partition=partition, metric=metric))}"
    tasks = [
        SearchLayer(
            store=bench.store.uri,
            table=table.name,
            version=table.version,
            layer=layer,
            partition_key=layer_key(partition, layer, "npz"),
            metric=metric,
            key=layer_key(prefix, layer, "parquet"),
        )
        for layer in layers
    ]
    missing = _missing(bench.store, prefix, tasks)
    bench.run("layers", Searcher(), missing, f"search {label}", len(tasks) - len(missing))
    return prefix


def _missing(store: ObjectStore, prefix: str, tasks: Sequence[T]) -> list[T]:
    there = {info.key for info in store.list(prefix + "/")}
    return [task for task in tasks if getattr(task, "key") not in there]  # noqa: B009


# -- score ---------------------------------------------------------------------------------------------------


class Scored(NamedTuple):
    """All layers of one release, and its profile over the informative ones (None when there are none)."""

    layers: dict[int, LayerResult]
    profile_layers: list[int]
    profile: Profile | None


def score(
    bench: Workbench,
    layers: Sequence[int],
    partition: str,
    nearest: Mapping[str, str],
    images: Mapping[str, int],
    label: str,
) -> Scored:
    """Score a release against held-out images in every layer, then join the layers into its profile.

    Args:
        bench: Store, cluster and progress.
        layers: Layer numbers.
        partition: Prefix of the partitions.
        nearest: ``held_out`` and ``release`` → prefix of their nearest distances.
        images: ``held_out`` and ``release`` → number of images, n and m.
        label: What progress calls the release.
    """
    influence = f"influence/{short(digest(**nearest))}"
    tasks = [
        ScoreLayer(
            store=bench.store.uri,
            layer=layer,
            partition_key=layer_key(partition, layer, "npz"),
            held_out_key=layer_key(nearest["held_out"], layer, "parquet"),
            release_key=layer_key(nearest["release"], layer, "parquet"),
            influence_key=layer_key(influence, layer, "npz"),
            held_out_images=images["held_out"],
            release_images=images["release"],
        )
        for layer in layers
    ]
    results = bench.run("layers", Scorer(), tasks, f"score {label}")
    by_layer = {tasks[index].layer: result for index, result in sorted(results.items())}
    a_hat = {k: r.score.a_hat for k, r in by_layer.items() if r.score.a_hat is not None}
    if not a_hat:
        return Scored(by_layer, [], None)
    keys = tuple(layer_key(influence, layer, "npz") for layer in a_hat)
    join = JoinLayers(bench.store.uri, tuple(a_hat.values()), keys)
    ((_, profile),) = bench.cluster.pool("layers").run(Profiler(), [join])
    return Scored(by_layer, list(a_hat), profile)
