"""What runs on a cluster for a `JobPool`: a Ray job that has a `Pool` do the tasks of one request.

    python -m actors.job STORE KEY SHA256 VERSION

The request lies in the audit's store, and so does each result as soon as it is there. What the flow must be sure of
goes through the job itself, which only the cluster's users can submit and write to: the SHA-256 of the request is an
argument, that of each result a line of the log. Nothing is unpickled that has another one, so that whoever may write
to the store can make a job fail, not run code.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import ray

from actors.cluster import Cluster, ClusterSettings, PoolSize, Worker
from storage.errors import InputError, LayerprintError, StageError, StoreError
from storage.objects import ObjectStore, open_store

PREFIX = "layerprint-job "
"""Begins the lines of a job's log that are meant for the flow."""

_ERRORS = {kind.__name__: kind for kind in (LayerprintError, InputError, StoreError, StageError)}


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Tasks of one worker, for a pool of this name and size."""

    pool: str
    size: PoolSize
    namespace: str | None
    worker: Worker[Any, Any]
    tasks: Sequence[Any]


def sealed(value: object) -> tuple[bytes, str]:
    """A value as bytes, and their SHA-256."""
    data: bytes = ray.cloudpickle.dumps(value)
    return data, hashlib.sha256(data).hexdigest()


def unsealed(store: ObjectStore, key: str, sha256: str) -> Any:
    """The value that was sealed under this key.

    Raises:
        StoreError: it is not there, or not what was sealed.
    """
    data = store.get(key)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise StoreError(
            f"{store.child_uri(key)}: changed since it was written", "who else writes to this store? Run again"
        )
    return ray.cloudpickle.loads(data)


def result_key(request_key: str, index: int) -> str:
    """Where the result of a task lies, beside its request.

    >>> result_key("jobs/ab/request", 3)
    'jobs/ab/result-000003'
    """
    return f"{request_key.rpartition('/')[0]}/result-{index:06d}"


def error_line(error: LayerprintError) -> dict[str, Any]:
    """An error as a line of the log."""
    return {"error": type(error).__name__, "found": error.found, "remedy": error.remedy}


def error_of(line: dict[str, Any]) -> LayerprintError:
    """The error that a line says."""
    return _ERRORS.get(line["error"], LayerprintError)(line["found"], line["remedy"])


def fitted(size: PoolSize, resources: dict[str, float]) -> PoolSize:
    """A size whose hosts are as many as a cluster has room for, where it does not say how many.

    >>> fitted(PoolSize(0, cpus=4, gpus=0.5), {"CPU": 64, "GPU": 4})
    PoolSize(hosts=8, cpus=4, gpus=0.5)
    """
    if size.hosts:
        return size
    room = [resources.get(name, 0) / each for name, each in (("CPU", size.cpus), ("GPU", size.gpus)) if each]
    return replace(size, hosts=max(1, int(min(room, default=1))))


def run_request(store: ObjectStore, key: str, request: JobRequest) -> Iterator[dict[str, Any]]:
    """Do a request's tasks; yields a line for the log as each result is in the store."""
    ray.init("auto", namespace=request.namespace, log_to_driver=False)
    size = fitted(request.size, ray.cluster_resources())
    yield {"hosts": size.hosts}
    with Cluster(ClusterSettings(embed=size, layers=size, address="auto")) as cluster:
        for index, result in cluster.pool(request.pool).run(request.worker, request.tasks):
            data, sha256 = sealed(result)
            store.put(result_key(key, index), data)
            yield {"task": index, "sha256": sha256}
    ray.shutdown()


def main(store_uri: str, key: str, sha256: str, wanted_version: str) -> int:
    """Run the request; the exit code of the job."""
    try:
        if (here := version("layerprint")) != wanted_version:
            raise StageError(
                f"the cluster runs layerprint {here}, this audit {wanted_version}", "give both the same version"
            )
        store = open_store(store_uri)
        for line in run_request(store, key, unsealed(store, key, sha256)):
            _tell(line)
    except LayerprintError as error:
        _tell(error_line(error))
        return error.exit_code
    return 0


def _tell(line: dict[str, Any]) -> None:
    print(PREFIX + json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
