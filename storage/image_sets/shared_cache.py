"""A cache of loaded values for threads that need the same ones at about the same time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

V = TypeVar("V")


class SharedCache(Generic[V]):
    """The most recently used values; each is loaded once, even if several threads request it together.

    Args:
        entries: Maximum number of values.
        total: Maximum sum of their sizes; a single value may exceed it.
    """

    def __init__(self, entries: int, total: int) -> None:
        self._entries, self._total, self._lock = entries, total, Lock()
        self._kept: OrderedDict[Hashable, tuple[int, Future[V]]] = OrderedDict()

    def get(self, key: Hashable, size: int, load: Callable[[], V]) -> V:
        """The value of this key, loaded if absent; all waiting threads receive what `load` raises."""
        with self._lock:
            size, cached = self._kept.pop(key, (size, None))
            future: Future[V] = cached or Future()
            self._kept[key] = size, future
            while len(self._kept) > self._entries or (len(self._kept) > 1 and self._size() > self._total):
                self._kept.popitem(last=False)
        if cached is None:
            try:
                future.set_result(load())
            except Exception as error:  # not kept: the next caller tries again
                future.set_exception(error)
                with self._lock:
                    self._kept.pop(key, None)
        return future.result()

    def _size(self) -> int:
        return sum(size for size, _ in self._kept.values())
