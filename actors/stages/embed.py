"""The first stages of an audit: the facts of the encoder, and the embedding of image sets.

A stage plans the missing work, has workers do it, and returns names and small records. It reuses output that is already
in the store, so it may be repeated. No image and no vector passes through here.
"""

from __future__ import annotations

import json
import logging
from importlib.metadata import version
from typing import NamedTuple

from actors.encoder.config import EncoderConfig, EncoderFacts, unusual
from actors.encoder.weights import weights_identity
from actors.stages.bisect_shard import KILLED, embed_shards, killers
from actors.stages.context import Progress, StageContext
from actors.workers.embed import EmbedSettings, EmbedShard, describe_encoder, embed_shard
from actors.workers.tokens import TokenPlan
from storage import layout
from storage.digest import digest
from storage.errors import StoreError, may_pass
from storage.image_sets.manifest import Manifest
from storage.objects.open import ObjectMissingError, ObjectStore
from storage.seal import parse_json, read_sealed, sealed_json
from storage.vectors.reuse import EarlierTable, recall, remember
from storage.vectors.tables import EmbeddingTable, VectorStore, embedding_schema

_log = logging.getLogger(__name__)


# -- encoder -------------------------------------------------------------------------------------------------


def resolve_encoder(context: StageContext, config: EncoderConfig) -> EncoderFacts:
    """The facts of an encoder: its digest, layers and preprocessing; remembered in the store.

    Raises:
        InputError: The model or its weights cannot be used.
        BrokenObjectError: What the store remembers is not what was written.
    """
    known = known_encoder(context.store, config)
    if known is None:
        ((_, text),) = context.cluster.pool("embed").run(describe_encoder, [config])
        context.store.put_if_absent(_encoder_key(config), sealed_json(parse_json(text)))
        known = _read_encoder(context.store, _encoder_key(config))
    return known


def known_encoder(store: ObjectStore, config: EncoderConfig) -> EncoderFacts | None:
    """The same if it was resolved before, else None.

    Raises:
        InputError: The weights are missing.
    """
    try:
        return _read_encoder(store, _encoder_key(config))
    except ObjectMissingError:
        return None


def _read_encoder(store: ObjectStore, key: str) -> EncoderFacts:
    return read_sealed(store, key, lambda data: EncoderFacts.from_json(json.dumps(parse_json(data)).encode()))


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
    """Images per shard: about 200 shards per set, so that progress shows and fragments stay large.

    A multiple of 256, so that batches are full up to the end of a shard.

    >>> [shard_size(n) for n in (500, 100_000, 10_000_000)]
    [256, 512, 4096]
    """
    return min(4096, 256 * max(1, round(images / 200 / 256)))


def table_name(facts: EncoderFacts, manifest: Manifest, tokens: TokenPlan | None = None) -> str:
    """The embedding table of an image set under an encoder, or its token table."""
    return layout.embedding_table(_content(facts, tokens), manifest.digest)


def _content(facts: EncoderFacts, tokens: TokenPlan | None) -> str:
    """Digest of what the vectors depend on besides the images."""
    return facts.digest if tokens is None else tokens.digest


def plan_shards(
    store: ObjectStore,
    manifest: Manifest,
    table: str,
    config: EncoderConfig,
    encoder_digest: str,
    settings: EmbedSettings,
    earlier: EarlierTable | None = None,
    tokens: TokenPlan | None = None,
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
            config=config,
            encoder_digest=encoder_digest,
            settings=settings,
            earlier=earlier,
            tokens=tokens,
        )
        for shard in manifest.shards(size)
    ]
    return receipts, shards


class Embedded(NamedTuple):
    """An embedding table, and the number of images that went through the encoder for it this time."""

    table: EmbeddingTable
    forward_images: int


def embed(
    context: StageContext,
    config: EncoderConfig,
    facts: EncoderFacts,
    manifest: Manifest,
    settings: EmbedSettings,
    label: str,
    tokens: TokenPlan | None = None,
) -> Embedded:
    """Embed an image set, every image once, also after an interruption; of a changed set only the changed images.

    Args:
        context: Store, cluster and progress.
        config: What the encoder is loaded from.
        facts: What it is.
        manifest: The images.
        settings: How a machine embeds.
        label: The set's name in progress reports.
        tokens: Patch tokens to keep instead of embeddings.

    Raises:
        InputError: The set or the encoder cannot be used.
        StageError: Processes died on any shard.
    """
    stage, total = f"{'embed' if tokens is None else 'tokens'} {label}", len(manifest)
    done = VectorStore(context.store).committed(table_name(facts, manifest, tokens))
    if done is not None:
        context.report_progress(Progress(stage, "images", total, total, skipped=total))
        if keys := killers(done):
            _log.warning("%s: %d images were left out before since each %s: %s …", stage, len(keys), KILLED, keys[0])
        embedded = Embedded(done, 0)
    else:
        embedded = _embed_missing(context, config, facts, manifest, settings, stage, tokens)
    try:
        _note_use(context.store, _content(facts, tokens), manifest, embedded.table)
    except StoreError as error:  # a store that may only be read: an audit that is finished needs no note
        if done is None or may_pass(error):
            raise
        _log.info("%s: its use could not be noted", stage, exc_info=True)
    return embedded


def _note_use(store: ObjectStore, content: str, manifest: Manifest, table: EmbeddingTable) -> None:
    """Note the latest table of the set, also a reused one: upkeep sees that it is in use. See that its list exists."""
    key = layout.manifest_key(manifest.digest)
    if not store.exists(key):  # it was broken, and set aside
        store.put_if_absent(key, manifest.to_bytes())
    remember(store, content, manifest.uri, EarlierTable(key, table.name, table.version))


def _embed_missing(
    context: StageContext,
    config: EncoderConfig,
    facts: EncoderFacts,
    manifest: Manifest,
    settings: EmbedSettings,
    stage: str,
    tokens: TokenPlan | None,
) -> Embedded:
    """Embed the shards that have no receipt, and commit all of them."""
    name, total = table_name(facts, manifest, tokens), len(manifest)
    vectors = VectorStore(context.store)
    earlier = recall(context.store, _content(facts, tokens), manifest.uri)
    receipts, shards = plan_shards(context.store, manifest, name, config, facts.digest, settings, earlier, tokens)
    context.store.put_if_absent(shards[0].manifest_key, manifest.to_bytes())
    schema = embedding_schema(facts.dims) if tokens is None else tokens.schema
    vectors.create(name, schema)
    done = vectors.receipts(receipts)
    missing = [shard for shard in shards if shard.index not in done]
    skipped = total - sum(shard.images for shard in missing)
    forward = 0
    context.report_progress(Progress(stage, "images", skipped, total, skipped))
    if missing:
        handled = skipped
        for shard, receipt in embed_shards(context.cluster.pool("embed"), embed_shard, missing, manifest, vectors):
            handled += shard.images
            forward += receipt.rows - receipt.reused
            context.report_progress(Progress(stage, "images", handled, total, skipped))
        done = vectors.receipts(receipts)
    return Embedded(vectors.commit(name, schema, [done[shard.index] for shard in shards]), forward)
