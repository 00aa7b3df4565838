"""What runs on a cluster for a `JobCluster`: a Ray job that does requests, one after the other, on its own pools.

    python -m actors.ray_job.server STORE FOLDER NAMESPACE VERSION          (the secret is in LAYERPRINT_JOB_SECRET)

Requests, results and progress are objects under ``jobs/<job>/`` of the audit's store. All are sealed with a secret that
only those know who may use the cluster's Jobs API, so that who may write to the store can make a job fail, not run
code in it. The job ends when it is told to, or has had nothing to do for a while.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import ray

from actors.ray_cluster.local import Cluster, ClusterSettings
from actors.ray_cluster.pool import Pool, PoolSize, Worker
from actors.ray_job.signed import get_sealed, put_sealed
from storage.errors import LayerprintError, StageError
from storage.objects.open import ObjectInfo, ObjectMissingError, ObjectStore, open_store

SECRET = "LAYERPRINT_JOB_SECRET"
PREFIX = "layerprint: "
"""Begins the line that says why a job could not serve."""

IDLE_S = 120.0
"""A job that nobody asks anything for so long ends."""

LOOK_S, SLOWEST_LOOK_S = 0.3, 3.0
"""Seconds between two looks for requests: at first, and when it has idled for a while."""

TELL_S = 0.5
"""Seconds between two writings of progress."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Tasks of one worker for a pool of a cluster; ``name`` differs between two requests of the same."""

    name: str
    pool: str
    cluster: ClusterSettings
    worker: Worker[Any, Any]
    tasks: Sequence[Any]
    suspect: bool


@dataclass(slots=True)
class JobProgress:
    """How far a request is: tasks whose results are there, and whether it has ended, well or with an error."""

    done: list[int] = field(default_factory=list)
    ended: bool = False
    error: LayerprintError | None = None


def progress_key(folder: str, request: str) -> str:
    """Where the progress of a request lies."""
    return f"{folder}/{request}/progress"


def result_key(folder: str, request: str, index: int) -> str:
    """Where the result of a task lies.

    >>> result_key("jobs/ab", "r", 3)
    'jobs/ab/r/000003'
    """
    return f"{folder}/{request}/{index:06d}"


def requests_prefix(folder: str) -> str:
    """Where requests lie."""
    return f"{folder}/requests/"


def close_key(folder: str) -> str:
    """The object that tells a job to end when nothing is left to do."""
    return f"{folder}/close"


def fitted(settings: ClusterSettings, resources: Mapping[str, float]) -> ClusterSettings:
    """Settings whose pools fit a cluster of these resources (see `fitted_size`)."""
    embed, layers = (fitted_size(size, resources) for size in (settings.embed, settings.layers))
    return replace(settings, embed=embed, layers=layers)


def fitted_size(size: PoolSize, resources: Mapping[str, float]) -> PoolSize:
    """A size whose hosts are as many as a cluster has room for, where it does not say how many.

    >>> fitted_size(PoolSize(0, cpus=4, gpus=0.5), {"CPU": 64, "GPU": 4})
    PoolSize(hosts=8, cpus=4, gpus=0.5)
    """
    if size.hosts:
        return size
    room = [resources.get(name, 0) / each for name, each in (("CPU", size.cpus), ("GPU", size.gpus)) if each]
    return replace(size, hosts=max(1, int(min(room, default=1))))


class Job:
    """Does the requests that come into a folder of the store.

    Args:
        store: The audit's store.
        folder: ``jobs/<job>``.
        secret: Seals requests and results.
    """

    def __init__(self, store: ObjectStore, folder: str, secret: str) -> None:
        self.store = store
        self.folder = folder
        self._secret = secret
        self._cluster: Cluster | None = None
        self._ended: set[ObjectInfo] = set()

    def serve(self, idle_s: float = IDLE_S) -> None:
        """Do requests until told to end, or idle for so long; then take everything away."""
        last = time.monotonic()
        while time.monotonic() - last < idle_s:
            waiting = [info for info in self.store.list(requests_prefix(self.folder)) if info not in self._ended]
            for info in sorted(waiting):
                self._ended.add(info)
                with suppress(ObjectMissingError):  # withdrawn before it began
                    self._do(info.key)
                last = time.monotonic()
            if not waiting:
                if self.store.exists(close_key(self.folder)):
                    break
                time.sleep(min(LOOK_S * (1 + (time.monotonic() - last)), SLOWEST_LOOK_S))
        if self._cluster is not None:
            self._cluster.close()
        for info in list(self.store.list(f"{self.folder}/")):
            self.store.delete(info.key)

    def _do(self, key: str) -> None:
        request: JobRequest = get_sealed(self.store, key, self._secret)
        print(f"{request.name}: {len(request.tasks)} tasks of {type(request.worker).__name__}", flush=True)
        progress, told = JobProgress(), 0.0
        try:
            for index, result in self._pool(request).attempt(request.worker, request.tasks, request.suspect):
                self._put(result_key(self.folder, request.name, index), result)
                progress.done.append(index)
                if time.monotonic() - told > TELL_S:
                    if not self.store.exists(key):
                        print(f"{request.name}: withdrawn", flush=True)
                        return
                    self._put(progress_key(self.folder, request.name), progress)
                    told = time.monotonic()
        except LayerprintError as error:
            progress.error = error
        progress.ended = True
        self._put(progress_key(self.folder, request.name), progress)
        print(f"{request.name}: {progress.error or 'done'}", flush=True)

    def _pool(self, request: JobRequest) -> Pool:
        """The pool of this name, of one cluster: all requests of a job have the same settings.

        Its hosts and what they have loaded are kept; pools of one cluster make room for each other.
        """
        if self._cluster is None:
            self._cluster = Cluster(replace(request.cluster, fit=partial(fitted, request.cluster)))
        return self._cluster.pool(request.pool)

    def _put(self, key: str, value: object) -> None:
        put_sealed(self.store, key, value, self._secret)


def main(store_uri: str, folder: str, namespace: str, wanted_version: str) -> int:
    """Serve; the exit code of the job."""
    try:
        if (here := version("layerprint")) != wanted_version:
            raise StageError(
                f"the cluster runs layerprint {here}, this audit {wanted_version}", "give both the same version"
            )
        ray.init("auto", namespace=namespace or None, log_to_driver=False)
        Job(open_store(store_uri), folder, os.environ[SECRET]).serve()
    except LayerprintError as error:
        print(f"{PREFIX}{type(error).__name__}: {error}", flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
