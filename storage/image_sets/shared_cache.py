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

    def get(self, key: Hashable, size: int, load: Callable[[], V], measure: Callable[[V], int] | None = None) -> V:
        """The value of this key, loaded if absent; all waiting threads receive what `load` raises.

        Args:
            key: Names the value.
            size: Its size, as far as it is known before it is loaded.
            load: Makes it.
            measure: Its size, if that shows only afterwards.
        """
        with self._lock:
            size, cached = self._kept.pop(key, (size, None))
            future: Future[V] = cached or Future()
            self._keep(key, size, future)
        if cached is None:
            try:
                value = load()
            except Exception as error:  # not kept: the next caller tries again
                future.set_exception(error)
                with self._lock:
                    self._kept.pop(key, None)
            else:
                future.set_result(value)
                with self._lock:
                    if measure and key in self._kept:
                        self._keep(key, measure(value), future)
        return future.result()

    def _keep(self, key: Hashable, size: int, future: Future[V]) -> None:
        self._kept[key] = size, future
        self._kept.move_to_end(key)
        while len(self._kept) > self._entries or (len(self._kept) > 1 and self._size() > self._total):
            self._kept.popitem(last=False)

    def _size(self) -> int:
        return sum(size for size, _ in self._kept.values())
