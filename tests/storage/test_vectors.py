from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest

from storage.errors import StageError
from storage.objects import ObjectStore, open_store
from storage.vectors import (
    EmbeddingTable,
    ImageIdentity,
    Receipt,
    VectorStore,
    embedding_schema,
    layer_column,
    vector_array,
    vector_matrix,
)

DIMS = {0: 3, 7: 5}
SCHEMA = embedding_schema(DIMS)
SHARDS = [range(4), range(4, 9), range(9, 11)]
ROWS = list(range(11))


def _rows(shard: range, worker: float = 0) -> pa.Table:
    """The rows of a shard; all their vectors hold the row's number, and the worker's as a fraction."""
    count = len(shard)
    facts: list[Any] = [
        pa.array(list(shard), pa.int64()),
        pa.array([f"{row:02d}.png" for row in shard]),
        pa.array([f"sha-{row}" for row in shard]),
        pa.array(["PNG"] * count),
        pa.array([8] * count, pa.int32()),
        pa.array([9] * count, pa.int32()),
    ]
    values = np.array(shard, np.float32)[:, None] + np.float32(worker)
    return pa.Table.from_arrays([*facts, *(vector_array(values.repeat(d, 1)) for d in DIMS.values())], schema=SCHEMA)


def _receipt(vectors: VectorStore, index: int, worker: float = 0) -> Receipt:
    rows = _rows(SHARDS[index], worker)
    return Receipt(
        shard=index,
        rows=rows.num_rows,
        fragments=vectors.write_shard("t", rows),
        rejects=[{"key": f"bad-{index}.png", "reason": "why"}],
        codecs={"PNG": rows.num_rows},
        sizes={"8×9": rows.num_rows},
        bytes_read=10,
        seconds=0.5,
    )


def _embed(vectors: VectorStore, index: int, worker: float = 0) -> bool:
    """What a worker does with a shard; False when another was first."""
    return vectors.leave_receipt("receipts/t", _receipt(vectors, index, worker))


def _commit(vectors: VectorStore) -> EmbeddingTable:
    """What a driver does when all shards have their receipts."""
    found = vectors.receipts("receipts/t")
    return vectors.commit("t", SCHEMA, [found[index] for index in range(len(SHARDS))])


def _found_rows(vectors: VectorStore, table: EmbeddingTable) -> list[int]:
    rows: list[int] = vectors.dataset("t", table.version).to_table(columns=["row"])["row"].to_pylist()
    return rows


@pytest.fixture
def vectors(store: ObjectStore) -> VectorStore:
    """A store with the empty table ``t``."""
    found = VectorStore(store)
    found.create("t", SCHEMA)
    return found


class TestOneRun:
    def test_all_shards_are_committed_once_in_the_order_of_shards(self, vectors: VectorStore) -> None:
        assert vectors.committed("t") is None
        for index in (2, 0, 1):
            assert _embed(vectors, index)
        table = _commit(vectors)
        assert _found_rows(vectors, table) == ROWS
        assert table == vectors.committed("t")
        assert (table.rows, table.codecs, table.sizes) == (11, {"PNG": 11}, {"8×9": 11})
        assert [reject["key"] for reject in table.rejects] == ["bad-0.png", "bad-1.png", "bad-2.png"]
        assert table.seconds == 1.5

    def test_nothing_is_visible_before_the_commit(self, vectors: VectorStore) -> None:
        for index in range(3):
            _embed(vectors, index)
        assert vectors.open("t", 1).count_rows() == 0
        assert vectors.committed("t") is None

    def test_the_table_is_one_of_lancedb_with_the_full_schema(self, vectors: VectorStore) -> None:
        for index in range(3):
            _embed(vectors, index)
        opened = vectors.open("t", _commit(vectors).version)
        assert opened.count_rows() == 11
        assert opened.schema == SCHEMA

    def test_receipts_are_read_back_as_they_were_left(self, vectors: VectorStore) -> None:
        left = _receipt(vectors, 1)
        assert vectors.leave_receipt("receipts/t", left)
        assert vectors.receipts("receipts/t") == {1: left}
        assert vectors.receipts("receipts/other") == {}

    def test_a_set_without_a_readable_image(self, vectors: VectorStore) -> None:
        empty = [Receipt(i, 0, vectors.write_shard("t", SCHEMA.empty_table()), [], {}, {}, 0, 0.0) for i in range(2)]
        table = vectors.commit("t", SCHEMA, empty)
        assert (table.rows, _found_rows(vectors, table)) == (0, [])


class TestRepetition:
    def test_a_second_worker_s_fragments_do_not_count(self, vectors: VectorStore) -> None:
        for index in range(3):
            assert _embed(vectors, index)
        assert not _embed(vectors, 1, worker=0.5)
        table = _commit(vectors)
        assert _scanned(vectors, table, 0) == {row: float(row) for row in ROWS}

    def test_a_second_commit_changes_nothing(self, vectors: VectorStore) -> None:
        for index in range(3):
            _embed(vectors, index)
        first = _commit(vectors)
        assert _commit(vectors) == first
        assert _found_rows(vectors, first) == ROWS
        assert vectors.open("t", first.version).list_versions()[-1]["version"] == first.version

    def test_creating_again_keeps_the_rows(self, vectors: VectorStore) -> None:
        for index in range(3):
            _embed(vectors, index)
        table = _commit(vectors)
        vectors.create("t", SCHEMA)
        assert _found_rows(vectors, table) == ROWS

    def test_drivers_that_commit_at_the_same_moment(
        self, vectors: VectorStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for index in range(3):
            _embed(vectors, index)
        together = threading.Barrier(3, timeout=30)
        commit = lance.LanceDataset.commit
        refused: list[Exception] = []

        def at_once(*arguments: Any, **options: Any) -> Any:
            together.wait()
            try:
                return commit(*arguments, **options)
            except Exception as error:
                refused.append(error)
                raise

        monkeypatch.setattr(lance.LanceDataset, "commit", at_once)
        with ThreadPoolExecutor(3) as drivers:
            tables = list(drivers.map(lambda _: _commit(VectorStore(open_store(vectors.store.uri))), range(3)))
        assert len(refused) == 2  # all three had read the empty table
        assert tables[0] == tables[1] == tables[2] == vectors.committed("t")
        assert _found_rows(vectors, tables[0]) == ROWS

    def test_drivers_that_create_at_the_same_moment(self, store: ObjectStore) -> None:
        together = threading.Barrier(3, timeout=30)

        def create(_: int) -> None:
            together.wait()
            VectorStore(open_store(store.uri)).create("t", SCHEMA)

        with ThreadPoolExecutor(3) as drivers:
            list(drivers.map(create, range(3)))
        assert VectorStore(store).open("t", 1).schema == SCHEMA


def _scanned(vectors: VectorStore, table: EmbeddingTable, layer: int) -> dict[int, float]:
    """Row → the value that fills its vector."""
    found: dict[int, float] = {}
    for rows, x in vectors.scan("t", table.version, layer_column(layer)):
        assert (x == x[:, :1]).all()
        found.update(zip(rows.tolist(), x[:, 0].tolist(), strict=True))
    return found


Crash = Callable[[VectorStore], None]


def _after_fragments(vectors: VectorStore) -> None:
    _embed(vectors, 0)
    _receipt(vectors, 1)  # written, and its worker dies before it leaves the receipt


def _after_receipts(vectors: VectorStore) -> None:
    for index in range(3):
        _embed(vectors, index)


def _after_commit(vectors: VectorStore) -> None:
    _after_receipts(vectors)
    found = vectors.receipts("receipts/t")
    vectors._overwrite("t", SCHEMA, [f for i in range(3) for f in found[i].fragments], 11)


def _after_marker(vectors: VectorStore) -> None:
    _after_receipts(vectors)
    _commit(vectors)


class TestCrashes:
    @pytest.mark.parametrize("crash", [_after_fragments, _after_receipts, _after_commit, _after_marker])
    def test_the_next_run_has_every_row_once(self, vectors: VectorStore, crash: Crash) -> None:
        crash(vectors)
        assert (vectors.committed("t") is not None) == (crash is _after_marker)
        resumed = VectorStore(open_store(vectors.store.uri))
        if resumed.committed("t") is None:
            resumed.create("t", SCHEMA)
            for index in {0, 1, 2} - set(resumed.receipts("receipts/t")):
                assert _embed(resumed, index, worker=0.25)
        table = _commit(resumed)
        assert _found_rows(vectors, table) == ROWS
        again = {4, 5, 6, 7, 8, 9, 10} if crash is _after_fragments else set()
        assert _scanned(vectors, table, 7) == {row: row + 0.25 * (row in again) for row in ROWS}
        assert table.rows == 11

    def test_a_driver_killed_between_commit_and_marker(self, vectors: VectorStore) -> None:
        _after_receipts(vectors)
        child = subprocess.run([sys.executable, "-c", _DIES_BEFORE_MARKER, vectors.store.uri], timeout=60, check=False)
        assert child.returncode == -signal.SIGKILL
        assert vectors.committed("t") is None
        assert vectors.open("t", 2).count_rows() == 11  # its commit was done
        table = _commit(vectors)
        assert (table.version, _found_rows(vectors, table)) == (2, ROWS)

    def test_receipts_that_promise_more_than_there_is(self, vectors: VectorStore) -> None:
        receipt = _receipt(vectors, 0)
        wrong = Receipt(0, 5, receipt.fragments, [], {}, {}, 0, 0.0)
        with pytest.raises(StageError, match="table t has 4 rows after its commit, its receipts say 5"):
            vectors.commit("t", SCHEMA, [wrong])
        assert vectors.committed("t") is None


_DIES_BEFORE_MARKER = """
import os, signal, sys
from storage.objects import open_store
from storage.vectors import VectorStore, embedding_schema

store = open_store(sys.argv[1])
put = type(store).put_if_absent
def put_or_die(self, key, data):
    if key == "tables/t.json":
        os.kill(os.getpid(), signal.SIGKILL)
    return put(self, key, data)
type(store).put_if_absent = put_or_die
vectors = VectorStore(store)
vectors.commit("t", embedding_schema({0: 3, 7: 5}), list(vectors.receipts("receipts/t").values()))
"""


class TestReading:
    @pytest.fixture
    def table(self, vectors: VectorStore) -> EmbeddingTable:
        """The committed table."""
        for index in range(3):
            _embed(vectors, index)
        return _commit(vectors)

    def test_a_scan_goes_in_order_in_blocks(self, vectors: VectorStore, table: EmbeddingTable) -> None:
        blocks = list(vectors.scan("t", table.version, layer_column(7), batch_rows=3))
        assert max(len(rows) for rows, _ in blocks) <= 3
        assert np.concatenate([rows for rows, _ in blocks]).tolist() == ROWS
        x = np.concatenate([x for _, x in blocks])
        assert x.dtype == np.float32
        assert (x == np.array(ROWS)[:, None].repeat(5, 1)).all()

    def test_identities_of_some_rows(self, vectors: VectorStore, table: EmbeddingTable) -> None:
        found = vectors.identities(table, {9, 2})
        assert found == {2: ImageIdentity("02.png", "sha-2"), 9: ImageIdentity("09.png", "sha-9")}
        assert vectors.identities(table, []) == {}


def test_vectors_to_arrow_and_back() -> None:
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    column = vector_array(x[:, ::-1])
    assert (vector_matrix(column) == x[:, ::-1]).all()
    assert (vector_matrix(pa.chunked_array([column[:2], column[2:5]])) == x[:5, ::-1]).all()
    assert vector_matrix(vector_array(x[:0])).shape == (0, 4)
