"""Broken files are set aside and made again, once; a store that cannot be written keeps them."""

from __future__ import annotations

import json

import pytest

from storage.errors import StoreError
from storage.objects.open import BrokenObjectError, LocalStore, ObjectMissingError, ObjectStore
from storage.seal import read_json, sealed_json
from storage.set_aside import set_aside, with_repairs
from storage.vectors.lance_errors import damaged_table
from storage.vectors.tables import VectorStore
from tests.storage.small_run import ROWS, found_rows, run


def _made(store: ObjectStore, key: str) -> int:
    """Work that finds its output in the store."""
    if not store.exists(key):
        store.put_if_absent(key, sealed_json(7))
    return int(read_json(store, key))


def test_a_broken_file_is_made_again(store: ObjectStore) -> None:
    store.put("checks/a.json", b"{")
    store.put("checks/b.json", b"")
    store.put("checks/c.json", json.dumps(3).encode())
    forgot: list[bool] = []
    assert with_repairs(store, lambda: _made(store, "checks/a.json"), lambda: forgot.append(True)) == 7
    assert forgot == [True]
    kept = {info.key: store.get(info.key) for info in store.list("broken/")}
    assert {key.partition("/checks/")[2]: data for key, data in kept.items()} == {"a.json": b"{", "b.json": b""}
    assert {info.key for info in store.list("checks/")} == {"checks/a.json", "checks/c.json"}


def test_what_another_process_has_made_again_stays(store: ObjectStore) -> None:
    store.put("checks/a.json", b"{")
    with pytest.raises(BrokenObjectError) as caught:
        read_json(store, "checks/a.json")
    store.put("checks/a.json", sealed_json(7))
    assert set_aside(store, caught.value)
    assert read_json(store, "checks/a.json") == 7
    store.delete("checks/a.json")
    assert set_aside(store, caught.value)
    assert not list(store.list("broken/"))


class _ReadOnly(LocalStore):
    def move(self, key: str, to: str) -> None:
        raise StoreError(f"{key}: access denied", "ask")


def test_a_store_that_can_only_be_read(tmp_path: object) -> None:
    store = _ReadOnly(str(tmp_path))
    store.put("checks/a.json", b"{")
    with pytest.raises(BrokenObjectError, match="checks/a"):
        with_repairs(store, lambda: _made(store, "checks/a.json"))
    assert store.get("checks/a.json") == b"{"


def test_a_file_that_breaks_each_time_ends_the_work(store: ObjectStore) -> None:
    attempts: list[bytes] = []

    def work() -> None:
        attempts.append(b"{" * (len(attempts) + 1))
        store.put("checks/a.json", attempts[-1])
        read_json(store, "checks/a.json")

    with pytest.raises(BrokenObjectError):
        with_repairs(store, work)
    assert len(attempts) == 30


def test_a_damaged_table_is_written_again(store: ObjectStore) -> None:
    vectors = VectorStore(store)
    table = run(vectors)
    keys = {info.key for info in store.list("vectors/")}
    assert set_aside(store, damaged_table(store, "t", "a file is gone"))
    with pytest.raises(ObjectMissingError):
        store.get("tables/t.json")
    assert {info.key.split("/", 2)[2] for info in store.list("broken/")} >= keys
    again = run(VectorStore(store))
    assert again.rows == table.rows
    assert found_rows(VectorStore(store), again) == ROWS
