"""A pool of processes that run tasks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

from actors.ray_cluster.dispatch import Dispatch
from actors.ray_cluster.hosts import Hosts, PoolSize
from actors.task_pool import LostTask, Result, Task, none_lost


class Pool:
    """Hosts that run tasks; they start with the first task and live until `close`.

    A host takes part as soon as the cluster has room for it; the others do not wait for it.

    Args:
        name: For messages.
        size: Number and resources of the hosts.

    ``make_room`` is called when no host finds room: pools take turns, and an idle one may hold what is needed.
    """

    def __init__(self, name: str, size: PoolSize) -> None:
        self.name = name
        self.hosts = Hosts(name, size)
        self.make_room: Callable[[], None] = lambda: None

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """See `TaskPool.run`."""
        yield from none_lost(self.name, self.attempt(function, tasks))

    def attempt(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], suspect: bool = False
    ) -> Generator[tuple[int, Result | LostTask]]:
        """See `TaskPool.attempt`."""
        yield from Dispatch(self.hosts, self.make_room, function, tasks, suspect).results()

    def close(self) -> None:
        """End the hosts, at work or not."""
        self.hosts.close()

    def release(self) -> None:
        """End the idle hosts, so that another pool has room."""
        self.hosts.close(idle_only=True)
