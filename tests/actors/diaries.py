"""Task functions that write down what happens to them, for the tests of pools."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import ray

from actors.ray_cluster.pool import Pool
from storage.errors import InputError, StoreError
from tests.processes import alive, wait_until

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's processes cannot import a test


@dataclass(frozen=True)
class Diary:
    """A folder of noted events, each with its process; `process` does a task, differently in each subclass."""

    folder: str
    name: str = "diary"

    def process(self, task: int) -> tuple[int, int]:
        """The task's square, and the process that it ran in."""
        return task**2, os.getpid()

    def note(self, event: str) -> None:
        (Path(self.folder) / f"{self.name}-{event}-{os.getpid()}-{time.monotonic_ns()}").touch()

    def noted(self, event: str) -> list[int]:
        """The process of every such event."""
        return [int(path.name.split("-")[2]) for path in Path(self.folder).glob(f"{self.name}-{event}-*")]


@dataclass(frozen=True)
class Meets(Diary):
    """Each of two tasks waits until both have begun: each has a host of its own."""

    def process(self, task: int) -> tuple[int, int]:
        self.note("begin")
        deadline = time.monotonic() + 60
        while len(self.noted("begin")) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        return super().process(task)


@dataclass(frozen=True)
class Waits(Diary):
    """Task 0 waits for the file ``go``."""

    def process(self, task: int) -> tuple[int, int]:
        deadline = time.monotonic() + 60
        while task == 0 and not (Path(self.folder) / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return super().process(task)


class UnlikeOtherError(Exception):
    """One that cannot be made from its ``args``."""

    def __init__(self, here: str, there: str) -> None:
        super().__init__(f"{here} and {there}")


@dataclass(frozen=True)
class Raises(Diary):
    """Some tasks raise."""

    error: str = "ValueError"
    tasks: tuple[int, ...] = (3,)

    def process(self, task: int) -> tuple[int, int]:
        if task not in self.tasks:
            return super().process(task)
        match self.error:
            case "InputError":
                raise InputError("releases.3 is empty", "give images")
            case "StoreError":
                raise StoreError("no such bucket", "create it")
            case "UnlikeOtherError":
                raise UnlikeOtherError("here", "there")
            case _:
                raise ValueError("seven is no colour")


@dataclass(frozen=True)
class Dies(Diary):
    """Some tasks end their process, each up to `times` times."""

    tasks: tuple[int, ...] = (5,)
    times: int = 1
    way: str = "killed"

    def process(self, task: int) -> tuple[int, int]:
        if task in self.tasks and len(self.noted(f"death{task}")) < self.times:
            self.note(f"death{task}")
            if self.way == "memory":
                raise MemoryError("no room for an array")
            os.kill(os.getpid(), signal.SIGKILL)
        self.note(f"done{task}")
        return super().process(task)


def run(pool: Pool, diary: Diary, tasks: int) -> dict[int, tuple[int, int]]:
    """Results by task."""
    return dict(pool.run(diary.process, range(tasks)))


def wait_for_end(processes: set[int]) -> None:
    """Wait until none of them is there."""
    wait_until(lambda: not any(map(alive, processes)), 20, "the end of processes")
