"""The Jobs API of a Ray cluster, with retries and the errors of layerprint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from storage.errors import InputError, StageError

ID_PREFIX = "layerprint-"

OUTAGE_S = 120.0
"""Seconds that the Jobs API may be unreachable, for example while the head restarts, before a stage gives up."""

FIRST_CONTACT_S = 10.0

UNFINISHED = (JobStatus.PENDING, JobStatus.RUNNING)


class Jobs:
    """Layerprint's jobs on a cluster; short outages are waited out.

    Args:
        address: The Jobs API, ``http://head:8265``.
        token: Ray's authentication token; None for the one in the environment.

    Raises:
        InputError: The token is refused.
        StageError: There is no such API, or it does not come back.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        self.address = address
        headers = {"Authorization": f"Bearer {token}"} if token else None
        self._client = self._call(lambda: JobSubmissionClient(address, headers=headers), FIRST_CONTACT_S)

    def info(self, job: str) -> JobDetails | None:
        """The job of this id, or None."""
        try:
            return self._call(lambda: self._client.get_job_info(job))
        except _UnknownJobError:
            return None

    def last_lines(self, job: str, count: int = 5) -> list[str]:
        """The last lines of a job's output."""
        try:
            text = str(self._call(lambda: self._client.get_job_logs(job)))
        except _UnknownJobError:
            return []
        return [line.strip() for line in text.splitlines() if line.strip()][-count:]

    def submit(self, job: str, entrypoint: str, runtime_env: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
        """Submit a job; False when its id is taken."""
        try:
            self._call(
                lambda: self._client.submit_job(
                    entrypoint=entrypoint, submission_id=job, runtime_env=dict(runtime_env), metadata=dict(labels)
                )
            )
        except _DuplicateJobError:
            return False
        return True

    def stop(self, job: str) -> None:
        """Stop a job that has not ended."""
        try:
            self._call(lambda: self._client.stop_job(job))
        except _UnknownJobError:
            return

    def unfinished(self) -> dict[str, dict[str, str]]:
        """The metadata of layerprint's jobs that have not ended, by id."""
        return {
            job.submission_id: dict(job.metadata or {})
            for job in self._call(self._client.list_jobs)
            if (job.submission_id or "").startswith(ID_PREFIX) and job.status in UNFINISHED
        }

    def _call(self, request: Callable[[], Any], patience: float = OUTAGE_S) -> Any:
        """The answer of the API; the request is repeated while the API is unreachable or not ready."""
        attempts = Retrying(
            retry=retry_if_exception_type(_UnreachableError),
            wait=wait_exponential(multiplier=0.5, max=10),
            stop=stop_after_delay(patience),
            reraise=True,
        )
        try:
            return attempts(lambda: self._once(request))
        except _UnreachableError as error:
            raise StageError(
                f"cluster.ray: {self.address} does not answer: {error}",
                "check that the head runs (`ray status` there) and that its dashboard's port can be reached from here",
            ) from error

    def _once(self, request: Callable[[], Any]) -> Any:
        try:
            return request()
        except AuthenticationError as error:
            raise InputError(
                f"cluster.ray: {self.address} refuses the token", "set cluster.token, or RAY_AUTH_TOKEN"
            ) from error
        except OSError as error:  # the errors of requests are OSErrors too
            raise _UnreachableError(type(error).__name__) from error
        except RuntimeError as error:
            if "status code 404" in str(error):
                raise _UnknownJobError from error
            if "already exists" in str(error):
                raise _DuplicateJobError from error
            raise _UnreachableError(" ".join(str(error).split())[:300]) from error


class _UnreachableError(Exception):
    """The API cannot be used now."""


class _UnknownJobError(Exception):
    """There is no job of that id."""


class _DuplicateJobError(Exception):
    """There is a job of that id already."""
