"""The stage that learns how processings move embeddings: of a release, and of the reference's real images."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from actors.encoder.config import EncoderConfig, EncoderFacts
from actors.encoder.processing import PROCESSINGS, VERSION
from actors.stages.context import StageContext
from actors.stages.reference import ReferenceTables
from actors.workers.embed import EmbedSettings
from actors.workers.processed import (
    JoinBackground,
    JoinShifts,
    ProcessBlock,
    join_background,
    join_shifts,
    process_block,
)
from scoring.attribution.background import Background, Shift
from storage.image_sets.manifest import Manifest
from storage.layout import layer_key, processed_block_key, processed_prefix
from storage.vectors.tables import EmbeddingTable

RELEASE_IMAGES, REAL_IMAGES = 80, 300
"""Images of a release, and of the held-out set, on which every processing is tried."""

CONTENT_IMAGES = 3000
"""Held-out images whose covariance and contents count, at most."""

_BLOCK = 40


class Sampler:
    """Embeds samples of image sets as they are and after every processing.

    Args:
        context: Store, cluster and progress.
        config: What the encoder is loaded from.
        facts: What it is.
        settings: How a machine embeds.
        reference: The reference.
    """

    def __init__(
        self,
        context: StageContext,
        config: EncoderConfig,
        facts: EncoderFacts,
        settings: EmbedSettings,
        reference: ReferenceTables,
    ) -> None:
        self.context, self.config, self.facts = context, config, facts
        self.settings, self.reference = settings, reference
        self.partitions = tuple((layer, layer_key(reference.partition, layer, "npz")) for layer in reference.layers)
        self.forward_images = 0

    def shifts(
        self, table: EmbeddingTable, nearest: str, images: Callable[[], Manifest | None], label: str
    ) -> tuple[Mapping[str, Shift], ...]:
        """For each part of a release: processing → how it moves the part's images.

        Args:
            table: The release's embedding table.
            nearest: Prefix of its nearest distances.
            images: Lists its images where they were never processed; None: they are gone.
            label: Its name in progress reports.
        """
        prefix = self._prefix(table, RELEASE_IMAGES)
        key = f"{prefix}/shifts.npz"
        blocks: tuple[str, ...] = ()
        if not self.context.store.exists(key):
            manifest = images()
            if manifest is None:
                return ()
            blocks = self._blocks(prefix, manifest, RELEASE_IMAGES, label)
        release = layer_key(nearest, self.reference.layers[0], "parquet")
        task = JoinShifts(self.context.store.uri, key, blocks, release, self.reference.seed)
        return self.context.run_one(join_shifts, task)

    def background(self, held_out: Manifest) -> Background:
        """What the held-out images say."""
        table = self.reference.held_out
        prefix = self._prefix(table, REAL_IMAGES)
        key = f"{prefix}/background.npz"
        done = self.context.store.exists(key)
        positions = _spread(table.rows, CONTENT_IMAGES)
        task = JoinBackground(
            store=self.context.store.uri,
            key=key,
            blocks=() if done else self._blocks(prefix, held_out, REAL_IMAGES, "held-out"),
            table=(table.name, table.version),
            positions=() if done else positions,
            partitions=self.partitions,
        )
        return self.context.run_one(join_background, task)

    def _prefix(self, table: EmbeddingTable, images: int) -> str:
        method = (VERSION, *PROCESSINGS, images)
        return processed_prefix(table.name, table.version, self.reference.partition, self.facts.digest, method)

    def _blocks(self, prefix: str, manifest: Manifest, images: int, label: str) -> tuple[str, ...]:
        """Process a sample of a set; returns the keys of its blocks."""
        rows = _spread(len(manifest), images)
        tasks = [
            ProcessBlock(
                store=self.context.store.uri,
                key=processed_block_key(prefix, start),
                set_uri=manifest.uri,
                kind=manifest.kind,
                rows=rows[start : start + _BLOCK],
                images=tuple(manifest.image(row) for row in rows[start : start + _BLOCK]),
                config=self.config,
                settings=self.settings,
                partitions=self.partitions,
            )
            for start in range(0, len(rows), _BLOCK)
        ]
        missing = [task for task in tasks if not self.context.store.exists(task.key)]
        self.context.run("embed", process_block, missing, f"process {label}", len(tasks) - len(missing), "blocks")
        self.forward_images += sum(len(task.rows) for task in missing) * (1 + len(PROCESSINGS))
        return tuple(task.key for task in tasks)


def _spread(count: int, most: int) -> tuple[int, ...]:
    """At most so many of the numbers below a count, evenly spread.

    >>> _spread(3, 5), _spread(9, 3)
    ((0, 1, 2), (0, 4, 8))
    """
    return tuple(np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist())
