from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest

from storage.errors import StageError
from storage.objects.open import ObjectStore, open_store
from storage.vectors.tables import (
    EmbeddingTable,
    ImageIdentity,
    Receipt,
    VectorStore,
    layer_column,
    vector_array,
    vector_matrix,
)
from tests.paths import ROOT
from tests.storage.small_run import POINTS, ROWS, SCHEMA, SHARDS, commit_all, embed_shard, found_rows, receipt_of, run


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
            assert embed_shard(vectors, index)
        table = commit_all(vectors)
        assert found_rows(vectors, table) == ROWS
        assert table == vectors.committed("t")
        assert (table.rows, table.codecs, table.sizes) == (11, {"PNG": 11}, {"8×9": 11})
        assert [reject["key"] for reject in table.rejects] == ["bad-0.png", "bad-1.png", "bad-2.png"]
        assert table.seconds == 1.5

    def test_nothing_is_visible_before_the_commit(self, vectors: VectorStore) -> None:
        for index in range(3):
            embed_shard(vectors, index)
        assert vectors.open("t", 1).count_rows() == 0
        assert vectors.committed("t") is None

    def test_the_table_is_one_of_lancedb_with_the_full_schema(self, vectors: VectorStore) -> None:
        for index in range(3):
            embed_shard(vectors, index)
        opened = vectors.open("t", commit_all(vectors).version)
        assert opened.count_rows() == 11
        assert opened.schema == SCHEMA

    def test_receipts_are_read_back_as_they_were_left(self, vectors: VectorStore) -> None:
        left = receipt_of(vectors, 1)
        assert vectors.leave_receipt("receipts/t", left)
        assert vectors.receipts("receipts/t") == {1: left}
        assert vectors.receipts("receipts/other") == {}

    def test_a_set_without_a_readable_image(self, vectors: VectorStore) -> None:
        empty = [Receipt(i, 0, vectors.write_shard("t", SCHEMA.empty_table()), [], {}, {}, 0, 0.0) for i in range(2)]
        table = vectors.commit("t", SCHEMA, empty)
        assert (table.rows, found_rows(vectors, table)) == (0, [])


class TestRepetition:
    def test_a_second_worker_s_fragments_do_not_count(self, vectors: VectorStore) -> None:
        for index in range(3):
            assert embed_shard(vectors, index)
        assert not embed_shard(vectors, 1, worker=0.5)
        table = commit_all(vectors)
        assert _scanned(vectors, table, 0) == {row: float(row) for row in ROWS}

    def test_a_second_commit_changes_nothing(self, vectors: VectorStore) -> None:
        for index in range(3):
            embed_shard(vectors, index)
        first = commit_all(vectors)
        assert commit_all(vectors) == first
        assert found_rows(vectors, first) == ROWS
        assert vectors.open("t", first.version).list_versions()[-1]["version"] == first.version

    def test_creating_again_keeps_the_rows(self, vectors: VectorStore) -> None:
        for index in range(3):
            embed_shard(vectors, index)
        table = commit_all(vectors)
        vectors.create("t", SCHEMA)
        assert found_rows(vectors, table) == ROWS

    def test_drivers_that_commit_at_the_same_moment(
        self, vectors: VectorStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for index in range(3):
            embed_shard(vectors, index)
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
            tables = list(drivers.map(lambda _: commit_all(VectorStore(open_store(vectors.store.uri))), range(3)))
        assert len(refused) == 2  # all three had read the empty table
        assert tables[0] == tables[1] == tables[2] == vectors.committed("t")
        assert found_rows(vectors, tables[0]) == ROWS

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


def _start(vectors: VectorStore, worker: float, point: str = "") -> subprocess.Popen[str]:
    """A run in a process of its own; it waits for `_go`."""
    arguments = [vectors.store.uri, str(worker), *([point] if point else [])]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.storage.small_run", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _go(*children: subprocess.Popen[str]) -> list[str]:
    """Let runs begin at the same moment; the last line that each printed."""
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    return [child.communicate(timeout=60)[0] for child in children]


@pytest.mark.usefixtures("processes")
class TestCrashes:
    """Runs that SIGKILL ends at every point of the protocol; the one after it has every row once."""

    @pytest.mark.parametrize("point", POINTS)
    def test_the_next_run_has_every_row_once(self, store: ObjectStore, point: str) -> None:
        vectors = VectorStore(store)
        killed = _start(vectors, 0.0, point)
        assert _go(killed) == [""]
        assert killed.returncode == -signal.SIGKILL
        assert (vectors.committed("t") is not None) == (point == "after marker")
        left = vectors.receipts("receipts/t")
        assert sorted(left) == {
            "after the table's creation": [],
            "after fragments before receipt": [0],
            "after a receipt": [0, 1],
        }.get(point, [0, 1, 2])
        assert vectors.open("t", 1).count_rows() == 0

        table = run(VectorStore(open_store(store.uri)), worker=0.25)
        assert found_rows(vectors, table) == ROWS
        again = {row for index in {0, 1, 2} - set(left) for row in SHARDS[index]}
        assert _scanned(vectors, table, 7) == {row: row + 0.25 * (row in again) for row in ROWS}
        assert (table.rows, table.version, sorted(vectors.receipts("receipts/t"))) == (11, 2, [0, 1, 2])
        assert run(vectors) == table

    def test_two_drivers_at_once(self, store: ObjectStore) -> None:
        vectors = VectorStore(store)
        markers = _go(_start(vectors, 0.25), _start(vectors, 0.5))
        table = vectors.committed("t")
        assert table is not None
        assert [EmbeddingTable(**json.loads(marker)) for marker in markers] == [table, table]
        assert found_rows(vectors, table) == ROWS
        fractions = {row: value - row for row, value in _scanned(vectors, table, 0).items()}
        assert all(len({fractions[row] for row in shard}) == 1 for shard in SHARDS)
        assert set(fractions.values()) <= {0.25, 0.5}

    def test_of_two_drivers_one_is_killed(self, store: ObjectStore) -> None:
        vectors = VectorStore(store)
        _, marker = _go(_start(vectors, 0.25, "after commit before marker"), _start(vectors, 0.5))
        table = EmbeddingTable(**json.loads(marker))
        assert table == vectors.committed("t") == run(vectors)
        assert found_rows(vectors, table) == ROWS

    def test_other_files_of_as_many_rows_are_replaced(self, vectors: VectorStore) -> None:
        run(vectors, worker=0.5)
        for key in [info.key for info in vectors.store.list("receipts/")] + ["tables/t.json"]:
            vectors.store.delete(key)
        table = run(vectors, worker=0.25)
        assert _scanned(vectors, table, 0) == {row: row + 0.25 for row in ROWS}

    def test_receipts_that_promise_more_than_there_is(self, vectors: VectorStore) -> None:
        receipt = receipt_of(vectors, 0)
        wrong = Receipt(0, 5, receipt.fragments, [], {}, {}, 0, 0.0)
        with pytest.raises(StageError, match="table t has 4 rows after its commit, its receipts say 5"):
            vectors.commit("t", SCHEMA, [wrong])
        assert vectors.committed("t") is None


class TestReading:
    @pytest.fixture
    def table(self, vectors: VectorStore) -> EmbeddingTable:
        """The committed table."""
        for index in range(3):
            embed_shard(vectors, index)
        return commit_all(vectors)

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
