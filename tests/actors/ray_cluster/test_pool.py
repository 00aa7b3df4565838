from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from actors.ray_cluster.dispatch import IN_FLIGHT_PER_HOST
from actors.ray_cluster.hosts import PoolSize
from actors.ray_cluster.pool import Pool
from actors.task_pool import LostTask
from storage.errors import InputError, StageError, StoreError
from tests.actors.diaries import Diary, Dies, Meets, Raises, Waits, run, wait_for_end
from tests.processes import alive


@pytest.fixture(scope="module")
def shared(local_ray: None) -> Iterator[Pool]:
    """A pool of two hosts."""
    made = Pool("test", PoolSize(2, cpus=0.1))
    yield made
    made.close()


@pytest.fixture
def pool(shared: Pool, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """The pool, when both hosts have started."""
    monkeypatch.setattr("actors.ray_cluster.dispatch.BACK_OFF_S", 0.05)
    run(shared, Meets(str(tmp_path_factory.mktemp("meet"))), 2)
    return shared


class TestTasks:
    def test_every_result_comes_once(self, pool: Pool, tmp_path: Path) -> None:
        results = list(pool.run(Diary(str(tmp_path)).process, range(100)))
        assert sorted((index, square) for index, (square, _) in results) == [(i, i**2) for i in range(100)]
        assert len({process for _, (_, process) in results}) == 2

    def test_no_tasks(self, pool: Pool, tmp_path: Path) -> None:
        assert run(pool, Diary(str(tmp_path)), 0) == {}

    def test_one_task_starts_one_host(self, local_ray: None, tmp_path: Path) -> None:
        pool = Pool("test", PoolSize(2, cpus=0.1))
        run(pool, Diary(str(tmp_path)), 1)
        assert len(pool.hosts) == 1
        run(pool, Diary(str(tmp_path)), 9)
        assert len(pool.hosts) == 2
        pool.close()

    def test_hosts_are_kept_for_other_tasks(self, pool: Pool, tmp_path: Path) -> None:
        hosts = {process for _, process in run(pool, Diary(str(tmp_path)), 40).values()}
        assert {process for _, process in run(pool, Diary(str(tmp_path)), 40).values()} == hosts
        assert {process for _, process in run(pool, Raises(str(tmp_path), tasks=()), 40).values()} == hosts

    def test_at_most_two_calls_wait_at_a_host(self, pool: Pool, tmp_path: Path) -> None:
        results = pool.run(Waits(str(tmp_path)).process, range(60))
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
        for received, _ in enumerate(pool.run(Diary(str(tmp_path)).process, Counted(range(50))), start=1):
            ahead.append(taken - received)
        assert max(ahead) == 2 * IN_FLIGHT_PER_HOST
        assert taken == 50


class TestErrors:
    def test_an_input_error_arrives_as_it_was_raised(self, pool: Pool, tmp_path: Path) -> None:
        with pytest.raises(InputError) as raised:
            run(pool, Raises(str(tmp_path), error="InputError"), 9)
        assert (raised.value.found, raised.value.remedy) == ("releases.3 is empty", "give images")

    def test_a_store_error_too(self, pool: Pool, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="no such bucket"):
            run(pool, Raises(str(tmp_path), error="StoreError"), 9)

    def test_any_other_is_a_stage_error_that_names_it(self, pool: Pool, tmp_path: Path) -> None:
        with pytest.raises(StageError, match="test: task 3 raised ValueError: seven is no colour"):
            run(pool, Raises(str(tmp_path)), 9)

    def test_one_that_cannot_travel(self, pool: Pool, tmp_path: Path) -> None:
        with pytest.raises(StageError, match=r"test: task 3 raised .*UnlikeOtherError: here and there"):
            run(pool, Raises(str(tmp_path), error="UnlikeOtherError"), 9)

    def test_the_pool_can_be_used_again(self, pool: Pool, tmp_path: Path) -> None:
        with pytest.raises(StageError):
            run(pool, Raises(str(tmp_path)), 30)
        assert len(run(pool, Diary(str(tmp_path)), 30)) == 30


class TestFailures:
    @pytest.mark.parametrize("way", ["killed", "memory"])
    def test_a_task_whose_host_dies_is_done_by_another(self, pool: Pool, tmp_path: Path, way: str) -> None:
        diary = Dies(str(tmp_path), way=way)
        results = run(pool, diary, 30)
        assert {index: square for index, (square, _) in results.items()} == {i: i**2 for i in range(30)}
        (dead,) = diary.noted("death5")
        assert results[5][1] != dead
        wait_for_end({dead})
        both = {process for _, process in run(pool, Meets(str(tmp_path), name="after"), 2).values()}
        assert len(both - {dead}) == 2  # another came in its place

    def test_hardly_a_task_is_done_twice(self, pool: Pool, tmp_path: Path) -> None:
        diary = Dies(str(tmp_path), times=2)
        run(pool, diary, 12)
        again = [len(diary.noted(f"done{i}")) - 1 for i in range(12)]
        assert min(again) == 0
        assert sum(again) <= 2  # whose answer was lost with the process, if any

    @pytest.mark.parametrize("way", ["killed", "memory"])
    def test_a_task_is_lost_when_it_has_killed_three_hosts(self, pool: Pool, tmp_path: Path, way: str) -> None:
        diary = Dies(str(tmp_path), times=99, way=way)
        results = dict(pool.attempt(diary.process, range(12)))
        lost = results.pop(5)
        assert isinstance(lost, LostTask)
        expected = {"killed": "it was killed or it crashed", "memory": "it ran out of memory: no room for an array"}
        assert lost == LostTask(3, expected[way])
        assert sorted(results) == [i for i in range(12) if i != 5]
        assert len(set(diary.noted("death5"))) in (3, 4)  # the first may be put down to the task that ended before

    def test_the_one_that_waited_behind_it_is_innocent(
        self, local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On one host the task after a killer is always in flight when it dies, and dies with it each time."""
        monkeypatch.setattr("actors.ray_cluster.dispatch.BACK_OFF_S", 0.05)
        pool = Pool("alone", PoolSize(1, cpus=0.1))
        diary = Dies(str(tmp_path), tasks=(2, 3), times=2)
        results = dict(pool.attempt(diary.process, range(10)))
        pool.close()
        assert all(not isinstance(result, LostTask) for result in results.values())
        assert sorted(results) == list(range(10))
        assert [len(diary.noted(f"death{i}")) for i in (2, 3)] == [2, 2]

    def test_a_pool_that_must_do_all_says_which_task_it_was(self, pool: Pool, tmp_path: Path) -> None:
        diary = Dies(str(tmp_path), times=99)
        with pytest.raises(StageError, match="test: task 5 killed its process 3 times; the last time it was killed"):
            run(pool, diary, 30)
        assert len(run(pool, Diary(str(tmp_path)), 30)) == 30  # other hosts take the place of the dead ones

    def test_each_failure_is_logged(self, pool: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        run(pool, Dies(str(tmp_path), times=2), 8)  # the first may be put down to the task that ended before
        message = [record.getMessage() for record in caplog.records if record.name == "actors.ray_cluster.dispatch"][-1]
        assert message == (
            "test: a process died at task 5, because it was killed or it crashed; it is sent to another process"
        )


class TestRoom:
    def test_hosts_without_room_are_not_waited_for(self, local_ray: None, tmp_path: Path) -> None:
        room = ray.cluster_resources()["CPU"]
        pool = Pool("wide", PoolSize(3, cpus=room // 2))  # the third never starts
        results = run(pool, Diary(str(tmp_path)), 40)
        assert len(results) == 40
        assert len(pool.hosts) == 3
        pool.close()

    def test_no_room_at_all_is_an_error(
        self, local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("actors.ray_cluster.dispatch.NOTICE_S", 0.2)
        monkeypatch.setattr("actors.ray_cluster.dispatch.START_TIMEOUT_S", 0.5)
        asked: list[bool] = []
        pool = Pool("greedy", PoolSize(1, cpus=999))
        pool.make_room = lambda: asked.append(True)
        with pytest.raises(StageError, match=r"greedy: no process could start .*: each needs 999 CPUs and 0 GPUs"):
            run(pool, Diary(str(tmp_path)), 3)
        assert "greedy: waits for room on the cluster" in caplog.text
        assert asked == [True]
        pool.close()


class TestClose:
    def test_processes_end(self, pool: Pool, tmp_path: Path) -> None:
        diary = Diary(str(tmp_path))
        hosts = {process for _, process in run(pool, diary, 20).values()}
        assert all(alive(pid) for pid in hosts)
        pool.close()
        wait_for_end(hosts)
        pool.close()  # again is no error
        assert not hosts & {process for _, process in run(pool, diary, 20).values()}

    def test_a_host_at_work_is_not_waited_for(self, pool: Pool, tmp_path: Path) -> None:
        results = pool.run(Waits(str(tmp_path)).process, range(9))
        next(results)
        began = time.monotonic()
        pool.close()
        assert time.monotonic() - began < 5
