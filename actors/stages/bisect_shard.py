"""Embeds shards although some images kill the process that embeds them, and leaves out only those images.

A decoder that crashes, or an image that takes all memory, takes its whole shard with it. A shard that killed three
processes is cut into halves, a half that kills one into quarters, down to a single image; when that has killed three
processes it is a reject like an undecodable file, with its reason. All other images of the shard are kept.

Only a single image is ever judged. Where all parts die, or very many, it is not the images but the machine: then the
stage fails, nothing is held against any image, and the next run tries the shards again that have no receipt.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from actors.metrics import IMAGES_REJECTED, add, reject_class
from actors.ray_cluster.dispatch import DEATHS
from actors.ray_cluster.failures import Lost
from actors.ray_cluster.pool import KILLED_REMEDY
from actors.stages.context import TaskPool
from actors.workers.embed import Embedder, EmbedShard
from storage.errors import StageError
from storage.image_sets.manifest import Manifest
from storage.vectors.tables import EmbeddingTable, Receipt, VectorStore, merge_receipts

KILLED = f"killed its process {DEATHS} times"
"""How the reason of such a reject begins."""

LOST_IN_A_ROW = 3
MOST_LOST, MOST_LOST_AT_FIRST = 64, 8
"""Parts of one shard that may die: enough for four images among 4,096; and before any of its parts is embedded."""

_log = logging.getLogger(__name__)


def embed_shards(
    pool: TaskPool, worker: Embedder, shards: Sequence[EmbedShard], manifest: Manifest, vectors: VectorStore
) -> Iterator[tuple[EmbedShard, Receipt]]:
    """Embed shards and leave their receipts; yields (shard, receipt) as they are done, those with killers last.

    Raises:
        StageError: processes die whatever they are given.
    """
    lost: list[EmbedShard] = []
    in_a_row = 0
    for index, found in pool.attempt(worker, shards):
        if isinstance(found, Receipt):
            in_a_row = 0
            yield shards[index], found
            continue
        lost.append(shards[index])
        in_a_row += 1
        if in_a_row == LOST_IN_A_ROW:
            raise _machine(f"{in_a_row} shards in a row killed their processes", found)
    for shard in lost:
        receipt = without_killers(pool, worker, shard, manifest)
        vectors.leave_receipt(shard.receipts, receipt)
        yield shard, receipt


def without_killers(pool: TaskPool, worker: Embedder, shard: EmbedShard, manifest: Manifest) -> Receipt:
    """The receipt of a shard less the images that kill their process, which are among its rejects."""
    _log.warning("a shard of %d images killed %d processes: its parts are tried", shard.images, DEATHS)
    receipts: dict[int, Receipt] = {}  # by the part's first row
    deaths: Counter[EmbedShard] = Counter()
    suspects = [shard]
    while suspects:
        parts = [part for suspect in suspects for part in halves(suspect)]
        suspects = []
        for index, found in pool.attempt(worker, parts, suspect=True):
            part = parts[index]
            if isinstance(found, Receipt):
                receipts[part.start] = found
                continue
            deaths[part] += 1
            if deaths.total() > (MOST_LOST if receipts else MOST_LOST_AT_FIRST):
                raise _machine(f"{deaths.total()} parts of one shard killed their processes", found)
            if deaths[part] == DEATHS:
                receipts[part.start] = _rejected(part, manifest, found)
            else:
                suspects.append(part)
    return merge_receipts([receipts[start] for start in sorted(receipts)])


def halves(shard: EmbedShard) -> list[EmbedShard]:
    """Two parts of a shard, which leave no receipt; of a single image the image."""
    middle = (shard.start + shard.stop) // 2
    cuts = [(shard.start, middle), (middle, shard.stop)]
    return [replace(shard, part=True, start=start, stop=stop) for start, stop in cuts if start < stop]


def killers(table: EmbeddingTable) -> list[str]:
    """The keys of the images that were left out of a table because they killed their process."""
    return [reject["key"] for reject in table.rejects if reject["reason"].startswith(KILLED)]


def _rejected(part: EmbedShard, manifest: Manifest, lost: Lost) -> Receipt:
    key, reason = manifest.image(part.start).key, f"{KILLED}; the last time {lost.reason}"
    _log.warning("%s is left out: it %s", key, reason)
    add(IMAGES_REJECTED, 1, reason=reject_class(reason))
    return Receipt(part.index, 0, [], [{"key": key, "reason": reason}], {}, {}, 0, 0.0)


def _machine(what: str, lost: Lost) -> StageError:
    return StageError(f"embed: {what}, so it is not the images; the last time {lost.reason}", KILLED_REMEDY)
