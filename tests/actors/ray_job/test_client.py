from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.job_submission import JobStatus

from actors.ray_cluster.hosts import PoolSize
from actors.ray_job.client import JobCluster
from actors.ray_job.server import fitted_size
from actors.ray_job.signed import get_signed, put_signed
from storage.errors import InputError, StageError, StoreError
from storage.objects.open import ObjectStore, open_store
from tests.paths import ROOT
from tests.ray_head import RayHead

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's processes cannot import a test


@pytest.fixture
def store(s3_prefix: str) -> ObjectStore:
    return open_store(s3_prefix)


@dataclass(frozen=True)
class Square:
    """A number to square; its task is noted in the store, may wait, and may raise."""

    store: str
    number: int
    wait_s: float = 0.0
    raises: str = ""


def square(task: Square) -> int:
    open_store(task.store).put(f"seen/{task.number}-{time.time_ns()}", b"")
    if task.raises == "InputError" and task.number == 3:
        raise InputError("task 3 has no image", "give it one")
    if task.raises == "ValueError" and task.number == 3:
        raise ValueError("three is odd")
    time.sleep(task.wait_s)
    return task.number**2


def squares(
    cluster: JobCluster, pool: str, numbers: int, wait_s: float = 0.0, raises: str = ""
) -> Iterator[tuple[int, int]]:
    """Square the numbers below `numbers` in a pool."""
    tasks = [Square(cluster.store.uri, number, wait_s, raises) for number in range(numbers)]
    return cluster.pool(pool).run(square, tasks)


def _seen(store: ObjectStore) -> list[int]:
    return sorted(int(info.key.split("/")[1].split("-")[0]) for info in store.list("seen/"))


@contextmanager
def _cluster(head: RayHead, store: ObjectStore, hosts: int = 2, **changed: Any) -> Iterator[JobCluster]:
    cluster = JobCluster(replace(head.settings(hosts), **changed), store)
    try:
        yield cluster
    finally:
        cluster.close()


def _end(running: Iterator[Any]) -> None:
    """A consumer that wants no more."""
    assert isinstance(running, Generator)
    running.close()


def _wait_for(what: Any, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)
    return result


def test_results_come_once_each_and_nothing_is_left_in_the_store(head: RayHead, store: ObjectStore) -> None:
    with _cluster(head, store) as cluster:
        for name in ("layers", "embed", "layers"):
            assert dict(squares(cluster, name, 7)) == {i: i**2 for i in range(7)}
        assert len(head.jobs().unfinished()) == 1
        assert _seen(store) == sorted([*range(7)] * 3)
    _wait_for(lambda: not head.jobs().unfinished(), 20)
    assert list(store.list("jobs/")) == []


def test_a_pool_that_rests_makes_room_for_the_other(head: RayHead, store: ObjectStore) -> None:
    everything = PoolSize(0, cpus=1)  # of the cores of the cluster, each of them
    with _cluster(head, store, embed=everything, layers=everything) as cluster:
        for name in ("embed", "layers"):
            assert dict(squares(cluster, name, 6)) == {i: i**2 for i in range(6)}


def test_an_error_of_the_function_is_the_error_here_and_the_job_goes_on(head: RayHead, store: ObjectStore) -> None:
    with _cluster(head, store) as cluster:
        with pytest.raises(InputError, match="task 3 has no image") as caught:
            list(squares(cluster, "layers", 5, raises="InputError"))
        assert caught.value.remedy == "give it one"
        with pytest.raises(StageError, match="three is odd"):
            list(squares(cluster, "layers", 5, raises="ValueError"))


def test_a_consumer_that_stops_stops_the_job(head: RayHead, store: ObjectStore) -> None:
    running = squares(JobCluster(head.settings(1), store), "layers", 30, 2.0)
    next(running)
    began = time.monotonic()
    _end(running)
    _wait_for(lambda: not head.jobs().unfinished())
    assert time.monotonic() - began < 15
    assert len(_seen(store)) < 10


FLOW = """
import sys
from actors.ray_cluster.hosts import PoolSize
from actors.ray_job.client import JobCluster, JobSettings
from storage.objects.open import open_store
from tests.actors.ray_job.test_client import squares
import json, ray, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process has it switched off
ray.cloudpickle.register_pickle_by_value(sys.modules["tests.actors.ray_job.test_client"])
address, token, store = sys.argv[1:]
size = PoolSize(1, cpus=0.5)
cluster = JobCluster(JobSettings(address, size, size, token=token), open_store(store))
for result in squares(cluster, "layers", 8, 1.0):
    print(json.dumps(result), flush=True)
cluster.close()
"""


def _flow(head: RayHead, store: ObjectStore) -> subprocess.Popen[str]:
    """The same request from a process of its own."""
    settings = head.settings()
    command = [sys.executable, "-c", FLOW, settings.address, str(settings.token), store.uri]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_flow_that_was_lost_attaches_to_its_job(head: RayHead, store: ObjectStore) -> None:
    with _flow(head, store) as lost:
        assert lost.stdout is not None
        assert json.loads(lost.stdout.readline())[1] in {i**2 for i in range(8)}
        lost.send_signal(signal.SIGKILL)
    assert len(head.jobs().unfinished()) == 1
    with _flow(head, store) as again:
        assert again.stdout is not None
        results = dict(json.loads(line) for line in again.stdout)
    assert again.returncode == 0
    assert results == {i: i**2 for i in range(8)}
    assert _seen(store) == list(range(8)), "no task ran twice"


def test_an_interrupted_flow_stops_its_job_and_the_next_begins_another(head: RayHead, store: ObjectStore) -> None:
    with _flow(head, store) as first:
        assert first.stdout is not None
        first.stdout.readline()
        first.send_signal(signal.SIGINT)
    _wait_for(lambda: not head.jobs().unfinished(), 15)
    with _flow(head, store) as second:
        assert second.stdout is not None
        assert dict(json.loads(line) for line in second.stdout) == {i: i**2 for i in range(8)}


def test_two_flows_share_a_job_and_one_that_ends_leaves_it_to_the_other(head: RayHead, store: ObjectStore) -> None:
    with _cluster(head, store) as one, _cluster(head, store) as other:
        first = squares(one, "layers", 6, 0.5)
        second = squares(other, "layers", 4, 0.6)
        results: dict[int, int] = {}
        waiting = threading.Thread(target=lambda: results.update(second))
        next(first)
        waiting.start()
        _wait_for(lambda: len(list(store.list(f"jobs/{one.job().name}/requests/"))) == 2)
        _end(first)
        waiting.join()
        assert len(head.jobs().unfinished()) == 1
    assert results == {i: i**2 for i in range(4)}


def test_a_job_that_ray_stops_is_an_error_with_its_name(head: RayHead, store: ObjectStore) -> None:
    running = squares(JobCluster(head.settings(1), store), "layers", 30, 2.0)
    next(running)
    (job,) = head.jobs().unfinished()
    head.jobs().stop(job)
    with pytest.raises(StageError, match=rf"{job} ended as STOPPED after \d+ of 30 tasks"):
        list(running)


def test_a_job_says_whose_it_is_and_takes_no_result_that_it_did_not_write(head: RayHead, store: ObjectStore) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.abort, ()

    cluster = JobCluster(replace(head.settings(1), labels={"flow_run": "f-1"}), store)
    running = squares(cluster, "layers", 3, 3.0)
    next(running)
    ((job, labels),) = head.jobs().unfinished().items()
    assert labels == {"store": store.uri, "flow_run": "f-1"}
    (result,) = _wait_for(lambda: [info.key for info in store.list(f"jobs/{job}/") if info.key.endswith("/000001")])
    store.put(result, ray.cloudpickle.dumps(Bomb()))
    with pytest.raises(StoreError, match="not what was written there"):
        list(running)


def test_a_wrong_token_and_a_wrong_address_say_so(
    head: RayHead, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = JobCluster(replace(head.settings(), token="another" * 8), store)
    with pytest.raises(InputError, match="refuses the token"):
        list(squares(wrong, "layers", 1))
    monkeypatch.setattr("actors.ray_job.api.FIRST_CONTACT_S", 0.5)
    nowhere = JobCluster(replace(head.settings(), address="http://127.0.0.1:9"), store)
    with pytest.raises(StageError, match="does not answer"):
        list(squares(nowhere, "layers", 1))


def test_a_cluster_with_another_version_says_so(
    head: RayHead, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.ray_job.client.version", lambda name: "99.0")
    with pytest.raises(StageError, match=r"the cluster runs layerprint .*, this audit 99\.0"):
        list(squares(JobCluster(head.settings(), store), "layers", 1))


def test_a_signature_is_of_its_key_and_its_secret(tmp_path: Path) -> None:
    folder = open_store(str(tmp_path))
    put_signed(folder, "a", 1, "secret")
    assert get_signed(folder, "a", "secret") == 1
    assert not put_signed(folder, "a", 2, "secret", replace=False)
    folder.put("b", folder.get("a"))
    for key, secret in (("a", "another"), ("b", "secret")):
        with pytest.raises(StoreError, match="not what was written there"):
            get_signed(folder, key, secret)


@pytest.mark.parametrize(
    ("size", "resources", "hosts"),
    [
        (PoolSize(3, cpus=4), {"CPU": 1.0}, 3),
        (PoolSize(0, cpus=4), {"CPU": 18.0}, 4),
        (PoolSize(0, cpus=1, gpus=0.5), {"CPU": 64.0, "GPU": 2.0}, 4),
        (PoolSize(0, cpus=4, gpus=1), {"CPU": 8.0}, 1),
    ],
)
def test_hosts_are_as_many_as_there_is_room_for(size: PoolSize, resources: dict[str, float], hosts: int) -> None:
    assert fitted_size(size, resources).hosts == hosts


def test_a_pending_job_is_unfinished() -> None:
    assert {JobStatus.PENDING, JobStatus.RUNNING} == {status for status in JobStatus if not status.is_terminal()}
