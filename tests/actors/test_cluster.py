from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.cluster import IN_FLIGHT_PER_HOST, Cluster, ClusterSettings, Pool, PoolSize
from storage.errors import InputError, StageError, StoreError

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's processes cannot import a test


@dataclass(frozen=True)
class Diary:
    """A worker that writes its calls, with its process, to a folder; subclasses say what a task does."""

    folder: str
    name: str = "diary"

    def setup(self) -> None:
        self.note("setup")

    def process(self, task: int) -> tuple[int, int]:
        """The task's square, and the process that it ran in."""
        return task**2, os.getpid()

    def close(self) -> None:
        time.sleep(0.2)
        self.note("close")

    def note(self, event: str) -> None:
        (Path(self.folder) / f"{self.name}-{event}-{os.getpid()}-{time.monotonic_ns()}").touch()

    def noted(self, event: str) -> list[int]:
        """The process of every such event."""
        return [int(path.name.split("-")[2]) for path in Path(self.folder).glob(f"{self.name}-{event}-*")]


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
    """Task 3 raises; in ``setup``, when told so."""

    error: str = "ValueError"
    early: bool = False

    def setup(self) -> None:
        if self.early:
            self._raise()

    def process(self, task: int) -> tuple[int, int]:
        if task == 3:
            self._raise()
        return super().process(task)

    def _raise(self) -> None:
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
    """Its process is killed in task 5: the first time, or every time."""

    always: bool = False

    def process(self, task: int) -> tuple[int, int]:
        if task == 5:
            first = not self.noted("death")
            if first or self.always:
                self.note("death")
                os.kill(os.getpid(), signal.SIGKILL)
        return super().process(task)


@pytest.fixture
def pool(local_ray: None) -> Iterator[Pool]:
    """A pool of two hosts of its own."""
    made = Pool("test", PoolSize(2, cpus=0.1))
    yield made
    made.close()


def _run(pool: Pool, worker: Diary, tasks: int) -> dict[int, tuple[int, int]]:
    return dict(pool.run(worker, list(range(tasks))))


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_for_end(processes: set[int]) -> None:
    deadline = time.monotonic() + 20
    while any(_alive(pid) for pid in processes) and time.monotonic() < deadline:
        time.sleep(0.05)


class TestTasks:
    def test_every_result_comes_once(self, pool: Pool, tmp_path: Path) -> None:
        results = list(pool.run(Diary(str(tmp_path)), list(range(100))))
        assert sorted((index, square) for index, (square, _) in results) == [(i, i**2) for i in range(100)]
        assert len({process for _, (_, process) in results}) == 2

    def test_no_tasks(self, pool: Pool, tmp_path: Path) -> None:
        assert _run(pool, Diary(str(tmp_path)), 0) == {}

    def test_one_task_starts_one_host(self, pool: Pool, tmp_path: Path) -> None:
        _run(pool, Diary(str(tmp_path)), 1)
        assert len(pool._hosts) == 1
        _run(pool, Diary(str(tmp_path)), 9)
        assert len(pool._hosts) == 2

    def test_a_worker_is_set_up_once_per_host(self, pool: Pool, tmp_path: Path) -> None:
        worker = Diary(str(tmp_path))
        hosts = {process for _, process in _run(pool, worker, 40).values()}
        assert sorted(worker.noted("setup")) == sorted(hosts)
        assert {process for _, process in _run(pool, replace(worker), 40).values()} == hosts
        assert sorted(worker.noted("setup")) == sorted(hosts)
        other = replace(worker, name="other")
        _run(pool, other, 40)
        assert sorted(other.noted("setup")) == sorted(hosts)

    def test_at_most_two_calls_wait_at_a_host(self, pool: Pool, tmp_path: Path) -> None:
        results = pool.run(Waits(str(tmp_path)), list(range(60)))
        before = dict(next(results) for _ in range(60 - IN_FLIGHT_PER_HOST))
        assert set(range(60)) - set(before) == {0, 2}  # the host of task 0 was given one more, the other all else
        assert len({process for _, process in before.values()}) == 1
        (tmp_path / "go").touch()
        assert dict(results).keys() == {0, 2}

    def test_tasks_are_taken_as_they_are_needed(self, pool: Pool, tmp_path: Path) -> None:
        taken = 0

        class Counted(list[int]):
            def __iter__(self) -> Iterator[int]:
                nonlocal taken
                for task in super().__iter__():
                    taken += 1
                    yield task

        ahead = []
        for received, _ in enumerate(pool.run(Diary(str(tmp_path)), Counted(range(50))), start=1):
            ahead.append(taken - received)
        assert max(ahead) == 2 * IN_FLIGHT_PER_HOST
        assert taken == 50


class TestErrors:
    @pytest.mark.parametrize("early", [False, True], ids=["process", "setup"])
    def test_an_input_error_arrives_as_it_was_raised(self, pool: Pool, tmp_path: Path, early: bool) -> None:
        with pytest.raises(InputError) as raised:
            _run(pool, Raises(str(tmp_path), error="InputError", early=early), 9)
        assert (raised.value.found, raised.value.remedy) == ("releases.3 is empty", "give images")

    def test_a_store_error_too(self, pool: Pool, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="no such bucket"):
            _run(pool, Raises(str(tmp_path), error="StoreError"), 9)

    def test_any_other_is_a_stage_error_that_names_it(self, pool: Pool, tmp_path: Path) -> None:
        with pytest.raises(StageError, match="test: task 3 raised ValueError: seven is no colour"):
            _run(pool, Raises(str(tmp_path)), 9)

    def test_one_that_cannot_travel(self, pool: Pool, tmp_path: Path) -> None:
        with pytest.raises(StageError, match=r"test: task 3 raised .*UnlikeOtherError: here and there"):
            _run(pool, Raises(str(tmp_path), error="UnlikeOtherError"), 9)

    def test_the_pool_can_be_used_again(self, pool: Pool, tmp_path: Path) -> None:
        with pytest.raises(StageError):
            _run(pool, Raises(str(tmp_path)), 30)
        assert len(_run(pool, Diary(str(tmp_path)), 30)) == 30


class TestDeaths:
    def test_a_task_whose_host_dies_is_done_by_the_next(self, pool: Pool, tmp_path: Path) -> None:
        worker = Dies(str(tmp_path))
        results = _run(pool, worker, 30)
        assert {index: square for index, (square, _) in results.items()} == {i: i**2 for i in range(30)}
        (dead,) = worker.noted("death")
        assert results[5][1] != dead
        assert len(worker.noted("setup")) == 3  # two hosts, and the one that came back

    def test_one_that_always_dies_is_a_stage_error(self, pool: Pool, tmp_path: Path) -> None:
        worker = Dies(str(tmp_path), always=True)
        with pytest.raises(StageError, match="a worker process died 4 times"):
            _run(pool, worker, 30)
        assert len(worker.noted("death")) == 4
        assert len(_run(pool, Diary(str(tmp_path)), 30)) == 30  # another host takes the place of the dead one


class TestClose:
    def test_workers_are_closed_and_processes_end(self, pool: Pool, tmp_path: Path) -> None:
        worker = Diary(str(tmp_path))
        hosts = {process for _, process in _run(pool, worker, 20).values()}
        assert all(_alive(pid) for pid in hosts)
        pool.close()
        assert set(worker.noted("close")) == hosts
        _wait_for_end(hosts)
        assert not any(_alive(pid) for pid in hosts)
        pool.close()  # again is no error
        assert not hosts & {process for _, process in _run(pool, worker, 20).values()}

    def test_a_host_at_work_is_not_waited_for_long(
        self, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("actors.cluster.CLOSE_TIMEOUT_S", 0.2)
        results = pool.run(Waits(str(tmp_path)), list(range(9)))
        next(results)
        began = time.monotonic()
        pool.close()
        assert time.monotonic() - began < 5


class TestCluster:
    def test_a_pool_is_made_once_and_has_its_size(self, local_ray: None, tmp_path: Path) -> None:
        settings = ClusterSettings(embed=PoolSize(1, cpus=0.1), layers=PoolSize(2, cpus=0.2))
        with Cluster(settings) as cluster:
            assert cluster.pool("embed") is cluster.pool("embed")
            assert (cluster.pool("embed").size, cluster.pool("layers").size) == (settings.embed, settings.layers)
            hosts = {process for _, process in _run(cluster.pool("layers"), Diary(str(tmp_path)), 20).values()}
        _wait_for_end(hosts)
        assert not any(_alive(pid) for pid in hosts)
        assert ray.is_initialized()  # it was not started by this cluster

    def test_workers_have_the_s3_settings(self, cluster: Cluster, s3: Any) -> None:
        @dataclass(frozen=True)
        class Environment:
            def setup(self) -> None:
                """Nothing to load."""

            def process(self, name: str) -> str | None:
                return os.environ.get(name)

            def close(self) -> None:
                """Nothing to give back."""

        (found,) = dict(cluster.pool("layers").run(Environment(), ["AWS_ENDPOINT_URL"])).values()
        assert found == s3.endpoint

    def test_ray_starts_with_the_first_pool_and_ends_with_the_cluster(self, tmp_path: Path) -> None:
        code = f"""
import ray
from actors.cluster import Cluster, ClusterSettings, PoolSize
from tests.actors.test_cluster import Raises, _run
size = PoolSize(2, cpus=0.5)
with Cluster(ClusterSettings(embed=size, layers=size)) as cluster:
    print(ray.is_initialized())
    pool = cluster.pool("layers")
    print(ray.is_initialized(), int(ray.cluster_resources()["CPU"]))
    try:
        _run(pool, Raises({str(tmp_path)!r}, error="InputError", early=True), 9)
    except Exception as error:
        print(type(error).__name__)
print(ray.is_initialized())
"""
        root = Path(__file__).parents[2]
        child = subprocess.run(
            [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60, check=True
        )
        assert child.stdout.split() == ["False", "True", "3", "InputError", "False"]
        assert "raise InputError" not in child.stderr  # nor do the other tasks that failed print a traceback
