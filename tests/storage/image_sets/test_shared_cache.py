from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.image_sets.shared_cache import SharedCache


class Loads:
    """Counts the loads of each key."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def load(self, cache: SharedCache[str], key: str, size: int = 1) -> str:
        def value() -> str:
            self.keys.append(key)
            return key.upper()

        return cache.get(key, size, value)


def test_what_was_not_used_for_the_longest_time_is_forgotten() -> None:
    loads, cache = Loads(), SharedCache[str](entries=3, total=100)
    for key in "abcabcadabac":  # d pushes b out, the next b pushes c out, the last c pushes d out
        assert loads.load(cache, key) == key.upper()
    assert "".join(loads.keys) == "abcdbc"


def test_sizes_add_up_to_no_more_than_the_total() -> None:
    loads, cache = Loads(), SharedCache[str](entries=10, total=10)
    for key, size in (("a", 4), ("b", 6), ("a", 4), ("c", 5), ("a", 4), ("b", 6), ("large", 99), ("large", 99)):
        loads.load(cache, key, size)
    assert loads.keys == ["a", "b", "c", "b", "large"]


def test_threads_that_want_the_same_wait_for_one_load() -> None:
    cache = SharedCache[int](entries=2, total=100)
    began, go_on = threading.Event(), threading.Event()
    loads: list[int] = []

    def load() -> int:
        loads.append(1)
        began.set()
        assert go_on.wait(10)
        return 7

    with ThreadPoolExecutor(8) as pool:
        wanted = [pool.submit(cache.get, "slow", 1, load) for _ in range(7)]
        assert began.wait(10)
        assert pool.submit(cache.get, "other", 1, lambda: 8).result(10) == 8  # nobody waits for another key
        go_on.set()
        assert [future.result(10) for future in wanted] == [7] * 7
    assert len(loads) == 1


def test_a_failed_load_is_not_kept() -> None:
    cache = SharedCache[int](entries=2, total=100)

    def fail() -> int:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        cache.get("a", 1, fail)
    assert cache.get("a", 1, lambda: 3) == 3
