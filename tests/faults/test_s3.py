"""S3 that is busy, silent, slow or cuts off: a run goes on, or fails with the reason and the next run completes it."""

from __future__ import annotations

import time

import numpy as np
import pytest

from storage.errors import StoreUnavailableError
from storage.objects.open import S3Store, open_store
from storage.objects.s3_client import MAX_ATTEMPTS
from storage.vectors.tables import EmbeddingTable, VectorStore
from tests.faults.proxy import Answer, Cut, Fault, FaultyProxy, Request, Silence, Trickle, healthy
from tests.storage.small_run import ROWS, SCHEMA, found_rows, run

BUSY = Answer(503, "SlowDown")
TOO_MANY = Answer(429, "TooManyRequests")
DATA = np.random.default_rng(0).bytes(200_000)


@pytest.fixture
def store(proxy: FaultyProxy, s3_prefix: str) -> S3Store:
    """An empty store behind the proxy."""
    opened = open_store(s3_prefix)
    assert isinstance(opened, S3Store)
    return opened


def _check(store: S3Store, table: EmbeddingTable) -> None:
    """All rows once, and a run after it has nothing to do."""
    assert found_rows(VectorStore(store), table) == ROWS
    assert run(VectorStore(store)) == table


class TestForAWhile:
    @pytest.mark.parametrize("fault", [BUSY, TOO_MANY, Answer(500, "InternalError"), Cut(0)])
    def test_every_request_fails_twice(self, store: S3Store, proxy: FaultyProxy, fault: Fault) -> None:
        transactions: list[Request] = []

        def breaks(request: Request) -> Fault | None:
            # Lance names each attempt's transaction anew: counted by name, every attempt would be broken for ever.
            if "/_transactions/" in request.path:
                transactions.append(request)
                return fault if len(transactions) <= 2 else None
            return fault if request.number < 2 else None

        proxy.rule = breaks
        table = run(VectorStore(store))
        assert len(proxy.broken) >= 20
        _check(store, table)

    def test_no_answer(self, store: S3Store, proxy: FaultyProxy, impatient: None) -> None:
        proxy.rule = lambda request: Silence(3) if "receipts" in request.path and request.number == 0 else None
        _check(store, run(VectorStore(store)))
        assert len(proxy.broken) == 6  # three receipts, written and read

    @pytest.mark.parametrize("after", [0, 1, 100_000, len(DATA) - 1])
    def test_a_body_that_breaks_off(self, store: S3Store, proxy: FaultyProxy, after: int) -> None:
        store.put("k", DATA)
        proxy.rule = lambda request: Cut(after) if request.method == "GET" and request.number < 2 else None
        assert store.get("k") == DATA
        assert store.get_range("k", 5, len(DATA) - 10) == DATA[5:-5]
        assert len(proxy.broken) == 2

    def test_a_slow_body_is_waited_for(self, store: S3Store, proxy: FaultyProxy) -> None:
        store.put("k", DATA)
        proxy.rule = lambda _: Trickle(10_000, 0.05)
        began = time.monotonic()
        assert store.get("k") == DATA
        assert time.monotonic() - began > 0.9
        assert len(proxy.broken) == 1

    def test_a_body_that_hardly_moves_is_asked_for_again(
        self, store: S3Store, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("storage.objects.s3.READ_TIMEOUT_S", 0.3)
        monkeypatch.setattr("storage.objects.s3.SLOWEST_BYTES_PER_S", 1e6)
        store.put("k", DATA)
        proxy.rule = lambda request: Trickle(2_000, 0.05) if request.number == 0 else None  # 5 s of it
        began = time.monotonic()
        assert store.get("k") == DATA
        assert time.monotonic() - began < 3


class TestForLong:
    """Longer than all attempts: a clear error, and the run after it completes."""

    @pytest.mark.parametrize(
        ("part", "fault"),
        [
            ("/t.lance/data/", BUSY),
            ("/receipts/", BUSY),
            ("/receipts/", Silence(2)),
            ("/t.lance/_versions/", BUSY),
            ("/tables/", BUSY),
            ("/receipts/", TOO_MANY),
            ("/t.lance/_versions/", TOO_MANY),
        ],
        ids=["fragments", "receipts", "receipts, silence", "commit", "marker", "receipts, 429", "commit, 429"],
    )
    def test_a_later_run_completes(
        self, store: S3Store, proxy: FaultyProxy, impatient: None, part: str, fault: Fault
    ) -> None:
        vectors = VectorStore(store)
        vectors.create("t", SCHEMA)

        def breaks(request: Request) -> Fault | None:
            return fault if request.method == "PUT" and part in request.path else None

        proxy.rule = breaks
        with pytest.raises(StoreUnavailableError) as caught:
            run(vectors)
        assert caught.value.exit_code == 2
        assert store.uri in caught.value.found
        assert caught.value.remedy
        proxy.rule = healthy
        assert vectors.committed("t") is None
        _check(store, run(vectors))

    def test_a_body_that_always_breaks_off(self, store: S3Store, proxy: FaultyProxy) -> None:
        store.put("k", DATA)
        proxy.rule = lambda _: Cut(1000)
        with pytest.raises(StoreUnavailableError, match=f"/k: its transfer broke off, {MAX_ATTEMPTS} times"):
            store.get("k")
        assert len(proxy.broken) == MAX_ATTEMPTS
