"""Damaged tables: the message names the table and what to delete; the next run makes it anew, as it was."""

from __future__ import annotations

import re

import numpy as np
import pytest

from storage.errors import StoreError
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import VectorStore, layer_column
from storage.vectors.train_index import nearest_indexed, write_indexed
from tests.storage.small_run import ROWS, found_rows, run

DAMAGE = ["missing", "cut short", "garbage", "no end"]


def _damaged(data: bytes, how: str) -> bytes:
    noise = np.random.default_rng(0).bytes(len(data))
    match how:
        case "cut short":
            return data[: len(data) // 2]
        case "no end":
            return data[:-64] + noise[:64]
        case _:
            return noise


def _damage(store: ObjectStore, table: str, how: str) -> None:
    """Damage the table's first data file."""
    key = min(info.key for info in store.list(f"vectors/{table}.lance/data/"))
    if how == "missing":
        store.delete(key)
    else:
        store.put(key, _damaged(store.get(key), how))


def _delete_what_it_says(store: ObjectStore, error: StoreError) -> None:
    places = re.match(r"delete (\S+?)(?: and (\S+))?, then", error.remedy)
    assert places is not None
    for place in filter(None, places.groups()):
        key = place.removeprefix(f"{store.uri}/")
        keys = [info.key for info in store.list(f"{key}/")] or [key]
        assert store.exists(keys[0])
        for name in keys:
            store.delete(name)


@pytest.mark.parametrize("how", DAMAGE)
def test_an_embedding_table(store: ObjectStore, how: str) -> None:
    vectors = VectorStore(store)
    table = run(vectors)
    _damage(store, "t", how)
    for read in (
        lambda: vectors.read("t", table.version, ["key"]),
        lambda: list(vectors.scan("t", table.version, layer_column(7))),
        lambda: vectors.take("t", table.version, layer_column(0), np.arange(len(ROWS))),
        lambda: vectors.identities(table, ROWS),
    ):
        with pytest.raises(StoreError, match=r"vectors/t\.lance: the table is damaged") as caught:
            read()
    _delete_what_it_says(store, caught.value)
    fresh = VectorStore(open_store(store.uri))
    again = run(fresh)
    assert again.version > table.version
    assert found_rows(fresh, again) == ROWS
    assert [x[:, 0].tolist() for _, x in fresh.scan("t", again.version, layer_column(7))] == [
        [float(row) for row in shard] for shard in ([0, 1, 2, 3], [4, 5, 6, 7, 8], [9, 10])
    ]


@pytest.mark.parametrize("how", DAMAGE)
def test_an_index(store: ObjectStore, how: str) -> None:
    vectors, name = VectorStore(store), "train-0123456789abcdef-layer_03-01234567"
    x = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    version = write_indexed(vectors, name, [(np.arange(300), x)], x[:2])
    store.put("partitions/0123456789abcdef/layer_03.npz", b"names the index")
    _damage(store, name, how)
    with pytest.raises(StoreError, match=rf"{name}\.lance: the table is damaged") as caught, vectors.guarded(name):
        nearest_indexed(vectors.open(name, version), x[:5])
    _delete_what_it_says(store, caught.value)
    assert list(store.list("partitions/")) == []


def test_what_is_not_storage_is_not_called_damage(store: ObjectStore) -> None:
    vectors = VectorStore(store)
    run(vectors)
    with pytest.raises(ValueError, match="nothing to do with it"), vectors.guarded("t"):
        raise ValueError("nothing to do with it")
    with pytest.raises(Exception, match="no_such_column") as caught:
        vectors.read("t", 2, ["no_such_column"])
    assert not isinstance(caught.value, StoreError)
