"""Values that a command makes at most once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Values by key, each made when it is first asked for.

    >>> squares: Once[int] = Once()
    >>> squares.get("3", lambda: 9), squares.get("3", lambda: 0)
    (9, 9)
    """

    def __init__(self) -> None:
        self._values: dict[str, T] = {}

    def get(self, key: str, make: Callable[[], T]) -> T:
        """The value of this key; an error of ``make`` is raised and nothing is kept."""
        if key not in self._values:
            self._values[key] = make()
        return self._values[key]

    def values(self) -> Collection[T]:
        """The values made so far."""
        return self._values.values()
