"""Embeds shards that hold images which kill their process, and leaves out only those images.

An image that crashes the decoder or takes all memory takes its whole shard with it. A shard that killed three processes
is cut into halves, a half that kills one into quarters, down to a single image. A single image that has killed three
processes becomes a reject with its reason, like an undecodable file. All other images of the shard are kept.

Only a single image is ever rejected. Where all or very many parts die, the cause is the machine, not the images: then
the stage fails, no image is rejected, and the next run tries the shards without a receipt again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from actors.metrics import IMAGES_REJECTED, add, reject_class
from actors.task_pool import KILLED_REMEDY, MAX_FAILURES, LostTask, TaskPool
from actors.workers.embed import EmbedShard
from storage.errors import StageError
from storage.image_sets.manifest import Manifest
from storage.vectors.tables import EmbeddingTable, Receipt, VectorStore, merge_receipts

KILLED = f"killed its process {MAX_FAILURES} times"
"""Beginning of the reason of such a reject."""

LOST_IN_A_ROW = 3
MOST_LOST, MOST_LOST_AT_FIRST = 64, 8
"""Failures allowed to the parts of one shard: enough for four images among 4,096; and before any part is embedded."""

Embed = Callable[[EmbedShard], Receipt]

_log = logging.getLogger(__name__)


def embed_shards(
    pool: TaskPool, embed: Embed, shards: Sequence[EmbedShard], manifest: Manifest, vectors: VectorStore
) -> Iterator[tuple[EmbedShard, Receipt]]:
    """Embed shards and leave their receipts; yields (shard, receipt) as they finish, those with killers last.

    Raises:
        StageError: Processes die on any shard.
    """
    lost: list[EmbedShard] = []
    in_a_row = 0
    for index, result in pool.attempt(embed, shards):
        if isinstance(result, Receipt):
            in_a_row = 0
            yield shards[index], result
            continue
        lost.append(shards[index])
        in_a_row += 1
        if in_a_row == LOST_IN_A_ROW:
            raise _machine(f"{in_a_row} shards in a row killed their processes", result)
    for shard in lost:
        receipt = without_killers(pool, embed, shard, manifest)
        vectors.leave_receipt(shard.receipts, receipt)
        yield shard, receipt


def without_killers(pool: TaskPool, embed: Embed, shard: EmbedShard, manifest: Manifest) -> Receipt:
    """Embed a shard without the images that kill their process; the receipt lists them among its rejects."""
    _log.warning("a shard of %d images killed %d processes: its parts are tried", shard.images, MAX_FAILURES)
    receipts: dict[int, Receipt] = {}  # by the part's first row
    failures: Counter[EmbedShard] = Counter()
    suspects = [shard]
    while suspects:
        parts = [part for suspect in suspects for part in halves(suspect)]
        suspects = []
        for index, result in pool.attempt(embed, parts, suspect=True):
            part = parts[index]
            if isinstance(result, Receipt):
                receipts[part.start] = result
                continue
            failures[part] += 1
            if failures.total() > (MOST_LOST if receipts else MOST_LOST_AT_FIRST):
                raise _machine(f"{failures.total()} parts of one shard killed their processes", result)
            if failures[part] == MAX_FAILURES:
                receipts[part.start] = _rejected(part, manifest, result)
            else:
                suspects.append(part)
    return merge_receipts([receipts[start] for start in sorted(receipts)])


def halves(shard: EmbedShard) -> list[EmbedShard]:
    """The two halves of a shard, which leave no receipt; a shard of a single image is its own half."""
    middle = (shard.start + shard.stop) // 2
    cuts = [(shard.start, middle), (middle, shard.stop)]
    return [replace(shard, part=True, start=start, stop=stop) for start, stop in cuts if start < stop]


def killers(table: EmbeddingTable) -> list[str]:
    """Keys of the images that were left out of a table because they killed their process."""
    return [reject["key"] for reject in table.rejects if reject["reason"].startswith(KILLED)]


def _rejected(part: EmbedShard, manifest: Manifest, lost: LostTask) -> Receipt:
    key, reason = manifest.image(part.start).key, f"{KILLED}; the last time {lost.reason}"
    _log.warning("%s is left out: it %s", key, reason)
    add(IMAGES_REJECTED, 1, reason=reject_class(reason))
    return Receipt(part.index, 0, [], [{"key": key, "reason": reason}], {}, {}, 0, 0.0)


def _machine(failure: str, lost: LostTask) -> StageError:
    return StageError(f"embed: {failure}, so it is not the images; the last time {lost.reason}", KILLED_REMEDY)
