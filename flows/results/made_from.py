"""The tables and distances that an audit was made from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from actors.stages.reference import CELLS_FIT
from flows.results.identity import reference_digest
from scoring.presets import PRESETS
from storage.layout import OWNER_KEY, contaminated_key, embedding_table, nearest_prefix, partition_prefix
from storage.objects.open import BrokenObjectError, ObjectMissingError, ObjectStore
from storage.seal import read_json


class MadeFrom(NamedTuple):
    """What an audit was made from.

    Attributes:
        train_table: Embedding table of the training images.
        held_out_table: Embedding table of the held-out images.
        partition: Prefix of the partitions.
        nearest: Prefix of the nearest distances of the release.
        held_out_nearest: Prefix of the nearest distances of the held-out images.
        train_digest: Digest of the list of training images.
    """

    train_table: str
    held_out_table: str
    partition: str
    nearest: str
    held_out_nearest: str
    train_digest: str

    @property
    def contaminated(self) -> str:
        """Key of the list of held-out images that were left out."""
        return contaminated_key(self.held_out_nearest)


def made_from(store: ObjectStore, audit: Mapping[str, Any]) -> MadeFrom | None:
    """What an audit was made from; None for an old audit whose reference the store no longer has."""
    train_table, held_out_table, train_digest = (
        audit[name] for name in ("train_table", "held_out_table", "train_digest")
    )
    partition, nearest = audit["partition"], audit["nearest"]
    preset = PRESETS.get(audit["preset"])
    metric = preset.metric if preset else ""  # a preset of another version: its distances cannot be found
    if train_table is None:
        owner = owner_contents(store)
        train_digest = owner.get("train", "")
        tables = {name: embedding_table(audit["encoder_digest"], images) for name, images in owner.items()}
        pair = tables_of_old_audit(audit, [tables.get("train", "")], [tables.get("held_out", "")])
        if pair is None:
            return None
        train_table, held_out_table, partition = pair
        release = embedding_table(audit["encoder_digest"], audit["images_digest"])
        nearest = nearest_prefix(release, partition, metric)
    held_out_nearest = nearest_prefix(held_out_table, partition, metric)
    return MadeFrom(train_table, held_out_table, partition, nearest, held_out_nearest, train_digest)


def tables_of_old_audit(
    audit: Mapping[str, Any], trains: Collection[str], held_outs: Collection[str]
) -> tuple[str, str, str] | None:
    """Train table, held-out table and partition of an audit of schema 2 or 1, which recorded only a digest of them.

    Args:
        audit: ``reference_digest`` and the settings of its partition.
        trains: Candidates.
        held_outs: Candidates; the pair with this digest is returned.
    """
    settings = {name: audit[name] for name in ("components", "cells", "seed")}
    for train in trains:
        partition = partition_prefix(train, **settings, search=audit["search"] or "in_cell", fit=CELLS_FIT)
        for held_out in held_outs:
            if reference_digest(partition, held_out) == audit["reference_digest"]:
                return train, held_out, partition
    return None


def owner_contents(store: ObjectStore) -> dict[str, str]:
    """Digests of the lists of training (``train``) and held-out images (``held_out``) at the store's first audit."""
    try:
        contents = read_json(store, OWNER_KEY)["contents"]
        return {name: str(contents[name]) for name in ("train", "held_out")}
    except (ObjectMissingError, BrokenObjectError, KeyError, TypeError):
        return {}
