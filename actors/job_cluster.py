"""A Ray cluster elsewhere, reached through its Jobs API: the same stages, their tasks run as Ray jobs.

A `JobPool` stands where a `Pool` does, and gives the same results: `actors.job` has a `Pool` on the cluster do the
tasks. A job's submission id follows from what it is asked for, so a flow that was lost and runs again attaches to the
job that still runs, or takes the results that it left. A flow that ends before its job stops it.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, TypeVar

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from actors.cluster import PoolSize, Worker
from actors.job import PREFIX, JobRequest, error_of, result_key, sealed, unsealed
from storage.digest import digest, short
from storage.errors import InputError, LayerprintError, StageError
from storage.objects import ObjectMissingError, ObjectStore

Task = TypeVar("Task")
Result = TypeVar("Result")

ID_PREFIX = "layerprint-"
POLL_S = (0.5, 2.0)
"""Seconds between two looks at a job: at first, and at most."""

OUTAGE_S = 120.0
"""How long the Jobs API may be away, for example while the head restarts, before a stage gives up."""

FIRST_CONTACT_S = 10.0

_GOING_ON = (JobStatus.PENDING, JobStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class JobSettings:
    """Where jobs are submitted, and what they get there.

    Args:
        address: The Jobs API, ``http://head:8265``.
        embed: Hosts that embed; 0 hosts: as many as there is room for.
        layers: Hosts for the work on layers.
        namespace: Ray namespace of the job.
        runtime_env: Ray runtime environment of the job, as JSON.
        token: Ray's authentication token; None: what Ray finds in the environment.
        labels: Metadata of every job: whose it is.
    """

    address: str
    embed: PoolSize
    layers: PoolSize
    namespace: str | None = None
    runtime_env: str = "{}"
    token: str | None = field(default=None, repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)


class JobCluster:
    """Pools whose tasks run as jobs of a cluster; nothing is started before the first task.

    Args:
        settings: The cluster.
        store: The audit's store, which the cluster must reach too.
    """

    def __init__(self, settings: JobSettings, store: ObjectStore) -> None:
        self.settings = settings
        self.store = store

    def pool(self, name: str) -> JobPool:
        size = self.settings.embed if name == "embed" else self.settings.layers
        return JobPool(name, size, self.settings, self.store)

    def close(self) -> None:
        """Nothing is held between jobs."""


class JobPool:
    """Runs tasks as one Ray job at a time."""

    def __init__(self, name: str, size: PoolSize, settings: JobSettings, store: ObjectStore) -> None:
        self.name = name
        self.size = size
        self.settings = settings
        self.store = store

    def run(self, worker: Worker[Task, Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Run all tasks; yields (index of the task, its result) as they finish.

        Raises:
            LayerprintError: as the worker raised it.
            StageError: the job failed or was stopped, or the cluster cannot be reached.
        """
        if not tasks:
            return
        jobs = Jobs(self.settings)
        job = self._running(jobs, JobRequest(self.name, self.size, self.settings.namespace, worker, tasks))
        try:
            yield from self._results(jobs, job, len(tasks))
        except BaseException:  # an error, an interrupt, or a consumer that wants no more
            with suppress(LayerprintError):  # not reached: it goes on, and the next run attaches to it
                jobs.stop(job)
                self._clean(job)
            raise
        self._clean(job)

    def _running(self, jobs: Jobs, request: JobRequest) -> str:
        """The id of the job that does this request: one that goes on or has ended well, else a new one."""
        code = digest(store=self.store.uri, worker=repr(request.worker), tasks=[repr(task) for task in request.tasks])
        attempt = 1
        while True:
            job = f"{ID_PREFIX}{short(code)}-{attempt}"
            status = jobs.status(job)
            if status in _GOING_ON or (status == JobStatus.SUCCEEDED and self.store.exists(_request_key(job))):
                return job
            if status is None and self._submit(jobs, job, request):
                return job
            attempt += status is not None

    def _submit(self, jobs: Jobs, job: str, request: JobRequest) -> bool:
        """Submit a job; False when another flow was first."""
        data, sha256 = sealed(request)
        key = _request_key(job)
        self.store.put(key, data)
        words = ["python", "-m", "actors.job", self.store.uri, key, sha256, version("layerprint")]
        labels = {"stage": self.name, "store": self.store.uri, "tasks": str(len(request.tasks)), **self.settings.labels}
        return jobs.submit(job, shlex.join(words), labels)

    def _results(self, jobs: Jobs, job: str, tasks: int) -> Iterator[tuple[int, Any]]:
        seen, found, wait = 0, 0, POLL_S[0]
        while True:
            status = jobs.status(job)  # before the log, so that the log of an ended job is whole
            lines = _lines(jobs.log(job))
            for line in lines[seen:]:
                if "error" in line:
                    raise error_of(line)
                if "task" in line:
                    found += 1
                    yield line["task"], self._result(job, line["task"], line["sha256"])
            if status not in _GOING_ON:
                break
            wait = POLL_S[0] if len(lines) > seen else min(POLL_S[1], wait * 1.5)
            seen = len(lines)
            time.sleep(wait)
        if status != JobStatus.SUCCEEDED or found < tasks:
            raise StageError(
                f"{self.name}: Ray job {job} ended as {status.value if status else 'lost'} after {found} of {tasks} "
                f"tasks{jobs.reason(job)}",
                "run again: what is finished is kept; its whole log: ray job logs "
                f"--address {self.settings.address} {job}",
            )

    def _result(self, job: str, index: int, sha256: str) -> Any:
        try:
            return unsealed(self.store, result_key(_request_key(job), index), sha256)
        except ObjectMissingError as error:
            raise StageError(
                f"{self.name}: another flow that waited for Ray job {job} has taken its results",
                "run again: what it finished is found",
            ) from error

    def _clean(self, job: str) -> None:
        """What the job left in the store has been taken, or is not wanted."""
        for info in list(self.store.list(f"jobs/{job}/")):
            self.store.delete(info.key)


class Jobs:
    """The Jobs API of a cluster; an outage of a while is waited out.

    Raises:
        InputError: there is no such API, or it refuses the token.
    """

    def __init__(self, settings: JobSettings) -> None:
        self.settings = settings
        headers = {"Authorization": f"Bearer {settings.token}"} if settings.token else None
        self._client = self._asked(lambda: JobSubmissionClient(settings.address, headers=headers), FIRST_CONTACT_S)

    def status(self, job: str) -> JobStatus | None:
        """Where a job stands; None when there is none of that id."""
        try:
            return self._asked(lambda: self._client.get_job_status(job))
        except _UnknownJobError:
            return None

    def log(self, job: str) -> str:
        """All that a job has printed; nothing when it has not begun."""
        try:
            return str(self._asked(lambda: self._client.get_job_logs(job)))
        except _UnknownJobError:
            return ""

    def reason(self, job: str) -> str:
        """Why a job ended, as far as Ray and its last lines tell."""
        try:
            message = str(self._asked(lambda: self._client.get_job_info(job)).message or "")
        except _UnknownJobError:
            return ""
        last = [line for line in self.log(job).splitlines() if line.strip() and not line.startswith(PREFIX)][-5:]
        told = " | ".join([" ".join(message.split())[:300], *(line.strip()[:200] for line in last)])
        return f": {told}"

    def submit(self, job: str, entrypoint: str, labels: Mapping[str, str]) -> bool:
        """Submit a job; False when there is one of that id."""
        try:
            self._asked(
                lambda: self._client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=job,
                    runtime_env=json.loads(self.settings.runtime_env),
                    metadata=dict(labels),
                )
            )
        except _DuplicateJobError:
            return False
        return True

    def stop(self, job: str) -> None:
        """Stop a job; one that has ended is left."""
        try:
            self._asked(lambda: self._client.stop_job(job))
        except _UnknownJobError:
            return

    def going_on(self) -> dict[str, dict[str, str]]:
        """The metadata of layerprint's jobs that have not ended, by id."""
        found = self._asked(self._client.list_jobs)
        return {
            job.submission_id: dict(job.metadata or {})
            for job in found
            if (job.submission_id or "").startswith(ID_PREFIX) and job.status in _GOING_ON
        }

    def _asked(self, ask: Callable[[], Any], patience: float = OUTAGE_S) -> Any:
        """The answer of the API; while it is away, or says that it is not ready, it is asked again."""
        attempts = Retrying(
            retry=retry_if_exception_type(_AwayError),
            wait=wait_exponential(multiplier=0.5, max=10),
            stop=stop_after_delay(patience),
            reraise=True,
        )
        try:
            return attempts(lambda: self._once(ask))
        except _AwayError as error:
            raise StageError(
                f"cluster.ray: {self.settings.address} does not answer: {error}",
                "check that the head runs (`ray status` there) and that its dashboard's port can be reached from here",
            ) from error

    def _once(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except AuthenticationError as error:
            raise InputError(
                f"cluster.ray: {self.settings.address} refuses the token", "set cluster.token, or RAY_AUTH_TOKEN"
            ) from error
        except OSError as error:  # those of requests are too
            raise _AwayError(type(error).__name__) from error
        except RuntimeError as error:
            if "status code 404" in str(error):
                raise _UnknownJobError from error
            if "already exists" in str(error):
                raise _DuplicateJobError from error
            raise _AwayError(" ".join(str(error).split())[:300]) from error


class _AwayError(Exception):
    """The API cannot be used now."""


class _UnknownJobError(Exception):
    """There is no job of that id."""


class _DuplicateJobError(Exception):
    """There is one already."""


def _request_key(job: str) -> str:
    return f"jobs/{job}/request"


def _lines(log: str) -> list[dict[str, Any]]:
    """What a job's log says to the flow; a last line without its end is not whole yet."""
    whole = log[: log.rfind("\n") + 1].splitlines()
    return [json.loads(line.removeprefix(PREFIX)) for line in whole if line.startswith(PREFIX)]
