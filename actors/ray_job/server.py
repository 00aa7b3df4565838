"""The Ray job behind a `JobCluster`: it serves requests, one after the other, on its own pools.

    python -m actors.ray_job.server STORE FOLDER NAMESPACE VERSION          (the secret is in LAYERPRINT_JOB_SECRET)

Requests, results and progress are objects under ``jobs/<job>/`` of the audit's store. All are signed with a secret that
only users of the cluster's Jobs API know, so that whoever may write to the store can make a job fail, but not run code
in it. The job ends on request, or when it has been idle for a while.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import ray

from actors.ray_cluster.hosts import PoolSize
from actors.ray_cluster.local import Cluster, ClusterSettings
from actors.ray_cluster.pool import Pool
from actors.ray_job.signed import get_signed, put_signed
from storage.errors import LayerprintError, StageError
from storage.objects.open import ObjectInfo, ObjectMissingError, ObjectStore, open_store

SECRET = "LAYERPRINT_JOB_SECRET"
PREFIX = "layerprint: "
"""Beginning of the line that says why a job could not serve."""

IDLE_S = 120.0
"""Seconds without requests after which a job ends."""

POLL_S, SLOWEST_POLL_S = 0.3, 3.0
"""Seconds between two checks for requests: at first, and at most when idle."""

REPORT_S = 0.5
"""Seconds between two writes of progress."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A function and its tasks for a pool of a cluster; ``name`` is unique to the request."""

    name: str
    pool: str
    cluster: ClusterSettings
    function: Callable[[Any], Any]
    tasks: Sequence[Any]
    suspect: bool


@dataclass(slots=True)
class JobProgress:
    """Progress of a request: the tasks with results, and whether it has ended, perhaps with an error."""

    done: list[int] = field(default_factory=list)
    ended: bool = False
    error: LayerprintError | None = None


def progress_key(folder: str, request: str) -> str:
    """The key of the progress of a request."""
    return f"{folder}/{request}/progress"


def result_key(folder: str, request: str, index: int) -> str:
    """The key of the result of a task.

    >>> result_key("jobs/ab", "r", 3)
    'jobs/ab/r/000003'
    """
    return f"{folder}/{request}/{index:06d}"


def requests_prefix(folder: str) -> str:
    """The prefix of the requests."""
    return f"{folder}/requests/"


def close_key(folder: str) -> str:
    """The key of the object that makes a job end when it has no requests left."""
    return f"{folder}/close"


def fitted(settings: ClusterSettings, resources: Mapping[str, float]) -> ClusterSettings:
    """Fit the pools to a cluster of these resources (see `fitted_size`)."""
    embed, layers = (fitted_size(size, resources) for size in (settings.embed, settings.layers))
    return replace(settings, embed=embed, layers=layers)


def fitted_size(size: PoolSize, resources: Mapping[str, float]) -> PoolSize:
    """A size of 0 hosts becomes as many as the cluster has room for.

    >>> fitted_size(PoolSize(0, cpus=4, gpus=0.5), {"CPU": 64, "GPU": 4})
    PoolSize(hosts=8, cpus=4, gpus=0.5)
    """
    if size.hosts:
        return size
    room = [resources.get(name, 0) / each for name, each in (("CPU", size.cpus), ("GPU", size.gpus)) if each]
    return replace(size, hosts=max(1, int(min(room, default=1))))


class Job:
    """Serves the requests in a folder of the store.

    Args:
        store: The audit's store.
        folder: ``jobs/<job>``.
        secret: Signs requests and results.
    """

    def __init__(self, store: ObjectStore, folder: str, secret: str) -> None:
        self.store = store
        self.folder = folder
        self._secret = secret
        self._cluster: Cluster | None = None
        self._ended: set[ObjectInfo] = set()

    def serve(self, idle_s: float = IDLE_S) -> None:
        """Serve requests until asked to end, or idle for `idle_s`; then delete everything in the folder."""
        last = time.monotonic()
        while time.monotonic() - last < idle_s:
            waiting = [info for info in self.store.list(requests_prefix(self.folder)) if info not in self._ended]
            for info in sorted(waiting):
                self._ended.add(info)
                with suppress(ObjectMissingError):  # withdrawn before it began
                    self._serve(info.key)
                last = time.monotonic()
            if not waiting:
                if self.store.exists(close_key(self.folder)):
                    break
                time.sleep(min(POLL_S * (1 + (time.monotonic() - last)), SLOWEST_POLL_S))
        if self._cluster is not None:
            self._cluster.close()
        for info in list(self.store.list(f"{self.folder}/")):
            self.store.delete(info.key)

    def _serve(self, key: str) -> None:
        request: JobRequest = get_signed(self.store, key, self._secret)
        print(f"{request.name}: {len(request.tasks)} tasks of {request.function.__name__}", flush=True)
        progress, reported = JobProgress(), 0.0
        try:
            for index, result in self._pool(request).attempt(request.function, request.tasks, request.suspect):
                self._put(result_key(self.folder, request.name, index), result)
                progress.done.append(index)
                if time.monotonic() - reported > REPORT_S:
                    if not self.store.exists(key):
                        print(f"{request.name}: withdrawn", flush=True)
                        return
                    self._put(progress_key(self.folder, request.name), progress)
                    reported = time.monotonic()
        except LayerprintError as error:
            progress.error = error
        progress.ended = True
        self._put(progress_key(self.folder, request.name), progress)
        print(f"{request.name}: {progress.error or 'done'}", flush=True)

    def _pool(self, request: JobRequest) -> Pool:
        """The pool of this name, in a cluster that is kept: all requests of a job have the same settings.

        So hosts and their encoders are reused, and pools make room for each other.
        """
        if self._cluster is None:
            self._cluster = Cluster(replace(request.cluster, fit=partial(fitted, request.cluster)))
        return self._cluster.pool(request.pool)

    def _put(self, key: str, value: object) -> None:
        put_signed(self.store, key, value, self._secret)


def main(store_uri: str, folder: str, namespace: str, expected_version: str) -> int:
    """Serve; the exit code of the job."""
    try:
        if (here := version("layerprint")) != expected_version:
            raise StageError(
                f"the cluster runs layerprint {here}, this audit {expected_version}", "give both the same version"
            )
        ray.init("auto", namespace=namespace or None, log_to_driver=False)
        Job(open_store(store_uri), folder, os.environ[SECRET]).serve()
    except LayerprintError as error:
        print(f"{PREFIX}{type(error).__name__}: {error}", flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
