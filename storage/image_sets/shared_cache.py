"""What was loaded last, for threads that want the same things at about the same time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

V = TypeVar("V")


class SharedCache(Generic[V]):
    """The values used last; each is loaded once, even when several threads want it at the same time.

    Args:
        entries: Values to keep at most.
        total: Their sizes add up to no more than this, unless there is only one.
    """

    def __init__(self, entries: int, total: int) -> None:
        self._entries, self._total, self._lock = entries, total, Lock()
        self._kept: OrderedDict[Hashable, tuple[int, Future[V]]] = OrderedDict()

    def get(self, key: Hashable, size: int, load: Callable[[], V]) -> V:
        """The value of this key, loaded unless it is kept; what `load` raises, all that wait for it get."""
        with self._lock:
            size, found = self._kept.pop(key, (size, None))
            future: Future[V] = found or Future()
            self._kept[key] = size, future
            while len(self._kept) > self._entries or (len(self._kept) > 1 and self._size() > self._total):
                self._kept.popitem(last=False)
        if found is None:
            try:
                future.set_result(load())
            except Exception as error:  # not kept: the next one tries again
                future.set_exception(error)
                with self._lock:
                    self._kept.pop(key, None)
        return future.result()

    def _size(self) -> int:
        return sum(size for size, _ in self._kept.values())
