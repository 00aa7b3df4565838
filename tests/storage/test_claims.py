"""Claims: one holder at a time, over both kinds of store, and none that outlives its holder."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from threading import Barrier

import pytest

from storage.claims import Claim, Claims, process_space
from storage.objects.base import ObjectStore


def put(store: ObjectStore, generation: int, **changes: object) -> None:
    """A claim as another process left it."""
    claim = Claim("x", "elsewhere", "another machine", 1, time.time(), time.time() + 60)
    content = asdict(claim) | changes
    store.put(f"claims/work/{generation:08d}.json", json.dumps(content).encode())


def test_of_many_at_once_exactly_one_holds(store: ObjectStore) -> None:
    start, done = Barrier(8), Barrier(8)

    def take(_: int) -> bool:
        start.wait()
        with Claims(store).hold("work") as mine:
            done.wait()
            return mine

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(8))) == 1


def test_a_claim_ends_with_its_block_even_by_an_error(store: ObjectStore) -> None:
    claims = Claims(store)

    def work() -> None:
        with claims.hold("work") as mine, claims.hold("work") as second, claims.hold("other") as other:
            held = claims.holder("work")
            assert held is not None
            assert held.holder.startswith("process ")
            assert (mine, second, other) == (True, False, True)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert claims.holder("work") is None
    for _ in range(3):
        with claims.hold("work") as mine:
            assert mine
    assert len(list(store.list("claims/work/"))) == 1  # of all generations the last one stays


def test_a_claim_from_elsewhere_lives_as_long_as_it_is_renewed(store: ObjectStore) -> None:
    put(store, 7)
    with Claims(store).hold("work") as mine:
        assert not mine
    put(store, 7, expires=time.time() - 1)
    with Claims(store).hold("work") as mine:
        assert mine
    assert [info.key for info in store.list("claims/work/")] == ["claims/work/00000008.json"]


def test_a_holder_renews_its_claim(store: ObjectStore) -> None:
    claims = Claims(store, lease_s=0.4)
    with claims.hold("work"):
        first = claims.holder("work")
        time.sleep(1.0)
        later = claims.holder("work")
    assert first is not None
    assert later is not None
    assert later.expires > first.expires + 0.4
    assert replace(later, expires=first.expires) == first


@pytest.mark.usefixtures("processes")
def test_a_killed_process_of_this_machine_holds_nothing(store: ObjectStore) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    put(store, 1, space=process_space(), pid=int(ended.stdout))
    assert Claims(store).holder("work") is None
    put(store, 1, space="another machine", pid=int(ended.stdout))
    assert Claims(store).holder("work") is not None


def test_a_taker_that_looked_too_early_gives_way(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = Claims(store)
    put(store, 1, expires=0.0)
    before = claims._latest("work")
    store.delete("claims/work/00000001.json")
    put(store, 3)  # meanwhile others took generation 2 and 3, and cleaned up
    monkeypatch.setattr(claims, "_latest", lambda name: before)
    with claims.hold("work") as mine:
        assert not mine
    assert [info.key for info in store.list("claims/work/")] == ["claims/work/00000003.json"]
