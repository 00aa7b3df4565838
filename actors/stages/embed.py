"""The first stages of an audit: what the encoder is, and the embedding of image sets.

A stage plans what is missing, has workers do it, and hands on names and small records. It finds its output in the
store when it is there, so it may be repeated. No image and no vector passes through here.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.metadata import version
from typing import NamedTuple

from actors.encoder.config import EncoderConfig, EncoderFacts, unusual
from actors.encoder.weights import weights_identity
from actors.stages.bisect_shard import KILLED, embed_shards, killers
from actors.stages.context import Progress, Workbench
from actors.workers.embed import Embedder, EmbedShard, EncoderResolver
from storage import layout
from storage.digest import digest
from storage.image_sets.manifest import Manifest
from storage.objects.open import ObjectStore
from storage.vectors.reuse import EarlierTable, recall, remember
from storage.vectors.tables import EmbeddingTable, VectorStore, embedding_schema

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EmbedSettings:
    """How a machine embeds; it does not change the embeddings."""

    device: str = "cpu"
    threads: int = 1
    readers: int = 8
    batch_size: int = 32


# -- encoder -------------------------------------------------------------------------------------------------


def resolve_encoder(bench: Workbench, config: EncoderConfig) -> EncoderFacts:
    """What the encoder is: its digest, layers and preprocessing; remembered in the store.

    Raises:
        InputError: the model or its weights cannot be used.
    """
    key = _encoder_key(config)
    if not bench.store.exists(key):
        ((_, text),) = bench.cluster.pool("embed").run(EncoderResolver(), [config])
        bench.store.put_if_absent(key, text)
    return EncoderFacts.from_json(bench.store.get(key))


def known_encoder(store: ObjectStore, config: EncoderConfig) -> EncoderFacts | None:
    """The same, if it was resolved before.

    Raises:
        InputError: its weights are not there.
    """
    key = _encoder_key(config)
    return EncoderFacts.from_json(store.get(key)) if store.exists(key) else None


def _encoder_key(config: EncoderConfig) -> str:
    request = digest(
        model=config.model,
        weights=weights_identity(config.weights),
        model_args=config.model_args,
        image_size=config.image_size,
        pooling=config.pooling,
        layers=config.layers,
        harmonise=config.harmonise,
        **unusual(config.precision),
        libraries=[version("timm"), version("torch")],
    )
    return layout.encoder_key(request)


# -- embed ---------------------------------------------------------------------------------------------------


def shard_size(images: int) -> int:
    """Images per shard: about 200 shards a set, so that progress shows and fragments stay large.

    A multiple of 256, so that batches are full up to a shard's end.

    >>> [shard_size(n) for n in (500, 100_000, 10_000_000)]
    [256, 512, 4096]
    """
    return min(4096, 256 * max(1, round(images / 200 / 256)))


def table_name(facts: EncoderFacts, manifest: Manifest) -> str:
    """The embedding table of an image set under an encoder."""
    return layout.embedding_table(facts.digest, manifest.digest)


def plan_shards(
    store: ObjectStore, manifest: Manifest, table: str, earlier: EarlierTable | None = None
) -> tuple[str, list[EmbedShard]]:
    """All shards of a set, and the prefix of their receipts."""
    size = shard_size(len(manifest))
    receipts = layout.receipts_prefix(table, size)
    shards = [
        EmbedShard(
            store=store.uri,
            table=table,
            receipts=receipts,
            manifest_key=layout.manifest_key(manifest.digest),
            set_uri=manifest.uri,
            kind=manifest.kind,
            index=shard.index,
            start=shard.start,
            stop=shard.stop,
            earlier=earlier,
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
    """Embed an image set: every image once, whatever was interrupted before; of a changed set what changed.

    Raises:
        InputError: the set or the encoder cannot be used.
        StageError: processes died whatever they were given.
    """
    stage, total = f"embed {label}", len(manifest)
    done = VectorStore(bench.store).committed(table_name(facts, manifest))
    if done is not None:
        bench.tell(Progress(stage, "images", total, total, skipped=total))
        if found := killers(done):
            _log.warning("%s: %d images were left out before since each %s: %s …", stage, len(found), KILLED, found[0])
        embedded = Embedded(done, 0)
    else:
        worker = Embedder(
            config, facts.digest, settings.device, settings.threads, settings.readers, settings.batch_size
        )
        embedded = _embed_missing(bench, worker, facts, manifest, stage)
    latest = EarlierTable(layout.manifest_key(manifest.digest), embedded.table.name, embedded.table.version)
    remember(bench.store, facts.digest, manifest.uri, latest)  # a found one too: upkeep sees that it is in use
    return embedded


def _embed_missing(bench: Workbench, worker: Embedder, facts: EncoderFacts, manifest: Manifest, stage: str) -> Embedded:
    """Embed the shards that have no receipt, and commit all of them."""
    name, total = table_name(facts, manifest), len(manifest)
    vectors = VectorStore(bench.store)
    earlier = recall(bench.store, facts.digest, manifest.uri)
    receipts, shards = plan_shards(bench.store, manifest, name, earlier)
    bench.store.put_if_absent(shards[0].manifest_key, manifest.to_bytes())
    schema = embedding_schema(facts.dims)
    vectors.create(name, schema)
    found = vectors.receipts(receipts)
    missing = [shard for shard in shards if shard.index not in found]
    skipped = total - sum(shard.images for shard in missing)
    forward = 0
    bench.tell(Progress(stage, "images", skipped, total, skipped))
    if missing:
        handled = skipped
        for shard, receipt in embed_shards(bench.cluster.pool("embed"), worker, missing, manifest, vectors):
            handled += shard.images
            forward += receipt.rows - receipt.reused
            bench.tell(Progress(stage, "images", handled, total, skipped))
        found = vectors.receipts(receipts)
    return Embedded(vectors.commit(name, schema, [found[shard.index] for shard in shards]), forward)
