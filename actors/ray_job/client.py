"""A Ray cluster elsewhere: one Ray job there runs the tasks, and is sent requests through the store.

`JobCluster` and `JobPool` replace `Cluster` and `Pool`; `server` is the other end. The job's id follows from the work,
so a flow that was lost and runs again attaches to its job and takes the results that are ready. A flow that ends before
its job withdraws its request, and stops the job unless others wait for it.
"""

from __future__ import annotations

import json
import secrets
import shlex
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, NamedTuple

from ray.job_submission import JobStatus

from actors.ray_cluster.failures import lacks_layerprint, no_layerprint
from actors.ray_cluster.hosts import PoolSize
from actors.ray_cluster.local import ClusterSettings
from actors.ray_job.api import ID_PREFIX, UNFINISHED, Jobs
from actors.ray_job.by_name import with_values
from actors.ray_job.server import (
    PREFIX,
    SECRET,
    JobProgress,
    JobRequest,
    close_key,
    progress_key,
    requests_prefix,
    result_key,
)
from actors.ray_job.signed import get_signed, put_signed
from actors.task_pool import LostTask, Result, Task, none_lost
from storage.digest import digest, short
from storage.errors import LayerprintError, StageError
from storage.layout import job_folder
from storage.objects.open import ObjectMissingError, ObjectStore

POLL_S = (0.2, 2.0)
"""Seconds between two reads of the progress: at first, and at most."""

CHECK_JOB_S = 3.0


@dataclass(frozen=True, slots=True)
class JobSettings:
    """Where the job is submitted, and its resources there.

    Args:
        address: The Jobs API, ``http://head:8265``.
        embed: Hosts that embed; 0 for as many as there is room for.
        layers: Hosts for the work on layers.
        namespace: Ray namespace of the job.
        runtime_env: Ray runtime environment of the job, as JSON; variables that are secret by name (see `by_name`).
        token: Ray's authentication token; None for the one in the environment.
        labels: Metadata of the job, which name its owner.
    """

    address: str
    embed: PoolSize
    layers: PoolSize
    namespace: str | None = None
    runtime_env: str = "{}"
    token: str | None = field(default=None, repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)


class RunningJob(NamedTuple):
    """A job that takes requests: its id, and the secret that signs them."""

    name: str
    secret: str

    @property
    def folder(self) -> str:
        return job_folder(self.name)


class JobCluster:
    """Pools whose tasks run in a job on a cluster, which is submitted with the first task and ends with `close`.

    Args:
        settings: The cluster.
        store: The audit's store; the cluster must reach it too.
    """

    def __init__(self, settings: JobSettings, store: ObjectStore) -> None:
        self.settings = settings
        self.store = store
        self._jobs: Jobs | None = None
        self._job: RunningJob | None = None

    @property
    def jobs(self) -> Jobs:
        """The Jobs API."""
        if self._jobs is None:
            self._jobs = Jobs(self.settings.address, self.settings.token)
        return self._jobs

    def pool(self, name: str) -> JobPool:
        """The pool of this name."""
        return JobPool(self, name)

    def close(self) -> None:
        """Ask the job to end, unless others wait for it."""
        if self._job is not None:
            self.store.put(close_key(self._job.folder), b"")
        self._job = None

    def job(self) -> RunningJob:
        """The job that takes our requests: the running one for this work, else a new one."""
        if self._job is None:
            self._job = self._attach()
        return self._job

    def stop(self, job: RunningJob) -> None:
        """Stop the job, unless others wait for it."""
        if any(self.store.list(requests_prefix(job.folder))):
            return
        self.jobs.stop(job.name)
        self.ended(job)

    def ended(self, job: RunningJob) -> None:
        """Forget a job that has ended, and delete its objects."""
        self._job = None
        for info in list(self.store.list(f"{job.folder}/")):
            self.store.delete(info.key)

    def _attach(self) -> RunningJob:
        sizes = [repr(self.settings.embed), repr(self.settings.layers)]
        work = digest(store=self.store.uri, sizes=sizes, environment=self.settings.runtime_env)
        attempt = 1
        while True:
            name = f"{ID_PREFIX}{short(work)}-{attempt}"
            info = self.jobs.info(name)
            if info is None and (secret := self._submit(name)):
                return RunningJob(name, secret)
            if info is not None and info.status in UNFINISHED and not self.store.exists(close_key(job_folder(name))):
                return RunningJob(name, str((info.runtime_env or {})["env_vars"][SECRET]))
            attempt += info is not None

    def _submit(self, name: str) -> str | None:
        """Submit a job; returns its secret, or None when another flow was first."""
        secret, environment = secrets.token_hex(32), with_values(json.loads(self.settings.runtime_env))
        environment = {**environment, "env_vars": {**environment.get("env_vars", {}), SECRET: secret}}
        words = [self.store.uri, job_folder(name), self.settings.namespace or "", version("layerprint")]
        labels = {"store": self.store.uri, **self.settings.labels}
        entrypoint = shlex.join(["python", "-m", "actors.ray_job.server", *words])
        return secret if self.jobs.submit(name, entrypoint, environment, labels) else None


class JobPool:
    """Has the job of a cluster run tasks."""

    def __init__(self, cluster: JobCluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """See `TaskPool.run`.

        Raises:
            StageError: Also where the job failed or was stopped, or the cluster cannot be reached.
        """
        yield from none_lost(self.name, self.attempt(function, tasks))

    def attempt(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], suspect: bool = False
    ) -> Generator[tuple[int, Result | LostTask]]:
        """See `TaskPool.attempt`."""
        if not tasks:
            return
        store, job = self.cluster.store, self.cluster.job()
        name = f"{function.__module__}.{function.__qualname__}"
        code = digest(pool=self.name, function=name, tasks=[repr(task) for task in tasks], suspect=suspect)
        key = f"{requests_prefix(job.folder)}{short(code)}"
        settings = ClusterSettings(self.cluster.settings.embed, self.cluster.settings.layers, address="auto")
        request = JobRequest(uuid.uuid4().hex, self.name, settings, function, tasks, suspect)
        if not put_signed(store, key, request, job.secret, replace=False):
            request = get_signed(store, key, job.secret)  # a lost flow sent the same request
        try:
            yield from self._results(job, request)
        except LayerprintError:  # of the function or of the job
            store.delete(key)
            raise
        except BaseException:  # an interrupt, or a consumer that stopped
            store.delete(key)
            with suppress(LayerprintError):  # if unreachable: without requests it ends by itself
                self.cluster.stop(job)
            raise
        store.delete(key)

    def _results(self, job: RunningJob, request: JobRequest) -> Iterator[tuple[int, Any]]:
        store, taken, wait, checked = self.cluster.store, 0, POLL_S[0], time.monotonic()
        while True:
            progress = self._progress(job, request)
            for index in progress.done[taken:]:
                yield index, self._result(job, request, index)
            wait = POLL_S[0] if len(progress.done) > taken else min(POLL_S[1], wait * 1.3)
            taken = len(progress.done)
            if progress.error is not None:
                raise progress.error
            if progress.ended:
                break
            if time.monotonic() - checked > CHECK_JOB_S:
                self._check_job(job, taken, len(request.tasks))
                checked = time.monotonic()
            time.sleep(wait)
        for index in progress.done:
            store.delete(result_key(job.folder, request.name, index))
        store.delete(progress_key(job.folder, request.name))

    def _progress(self, job: RunningJob, request: JobRequest) -> JobProgress:
        try:
            progress: JobProgress = get_signed(self.cluster.store, progress_key(job.folder, request.name), job.secret)
        except ObjectMissingError:
            return JobProgress()
        return progress

    def _result(self, job: RunningJob, request: JobRequest, index: int) -> Any:
        try:
            return get_signed(self.cluster.store, result_key(job.folder, request.name, index), job.secret)
        except ObjectMissingError as error:
            raise StageError(
                f"{self.name}: another flow that waited for Ray job {job.name} has taken its results",
                "run again: what it finished is reused",
            ) from error

    def _check_job(self, job: RunningJob, done: int, tasks: int) -> None:
        """Check that the job of our request still runs.

        Raises:
            StageError: It does not.
        """
        info = self.cluster.jobs.info(job.name)
        if info is not None and info.status in UNFINISHED:
            return
        self.cluster.ended(job)
        status: JobStatus | None = info.status if info is not None else None
        lines = self.cluster.jobs.last_lines(job.name)
        if lines and lines[-1].startswith(("→", PREFIX)):
            raise StageError("cluster.ray: " + " ".join(lines).partition(PREFIX)[2], "fix the cluster, then run again")
        if lacks_layerprint(" ".join(lines)):
            raise no_layerprint(f"cluster.ray, job {job.name}")
        message = " ".join(str(info.message if info is not None else "").split())[:300]
        raise StageError(
            f"{self.name}: Ray job {job.name} ended as {status.value if status else 'lost'} after {done} of {tasks} "
            f"tasks: {' | '.join([message, *lines])}",
            f"run again: what is finished is kept; its log: ray job logs --address {self.cluster.settings.address} "
            f"{job.name}",
        )
