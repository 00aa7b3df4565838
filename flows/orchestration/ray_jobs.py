"""The Ray jobs of a flow: their settings, and how to stop jobs whose flow run has ended."""

from __future__ import annotations

import json
import os
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run

from actors.ray_cluster.local import PoolSize
from actors.ray_job import by_name
from actors.ray_job.api import Jobs
from actors.ray_job.client import JobSettings
from flows.orchestration.settings import configured_url
from flows.spec.cluster import ClusterSpec, PoolSpec


def job_settings(cluster: ClusterSpec) -> JobSettings:
    """The settings of the jobs of the current flow run; reads the token now.

    Raises:
        InputError: the token cannot be read where the spec says.
    """
    return JobSettings(
        address=cluster.ray,
        embed=_size(cluster.embed),
        layers=_size(cluster.layers),
        namespace=cluster.namespace,
        runtime_env=json.dumps(cluster.runtime_env),
        token=_token(cluster.token),
        labels=_labels(),
    )


def reap_jobs(cluster: ClusterSpec, dry_run: bool = False) -> list[str]:
    """Stop the jobs whose flow run has ended or is unknown, except those of other Prefect servers.

    Args:
        cluster: Where the jobs run.
        dry_run: Only return them.

    Returns:
        Their ids.
    """
    settings = job_settings(cluster)
    jobs = Jobs(settings.address, settings.token)
    ours = configured_url() or ""
    labelled = {job: labels for job, labels in jobs.unfinished().items() if ours and labels.get("prefect") == ours}
    with get_client(sync_client=True) as client:
        runs = {job: labels["flow_run"] for job, labels in labelled.items() if "flow_run" in labels}
        gone = [job for job, run in runs.items() if _is_gone(client, run)]
    for job in [] if dry_run else gone:
        jobs.stop(job)
    return gone


def _is_gone(client: SyncPrefectClient, flow_run_id: str) -> bool:
    try:
        state = client.read_flow_run(UUID(flow_run_id)).state
    except ObjectNotFound:
        return True
    return state is not None and state.is_final()


def _size(pool: PoolSpec) -> PoolSize:
    return PoolSize(pool.hosts, pool.cpus, pool.gpus)


def _labels() -> dict[str, str]:
    """The flow run that submits a job, and its Prefect server."""
    labels = {"flow_run": str(flow_run.root_flow_run_id or ""), "prefect": configured_url() or ""}
    return {name: value for name, value in labels.items() if value}


def _token(where: str | None) -> str | None:
    """The token that the spec names, else the user's own as Ray finds it: a local Ray of this process has another."""
    if where is not None:
        return by_name.read(where, "cluster.token")
    if os.environ.get("RAY_AUTH_MODE") == "disabled":
        return None
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    if path := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return by_name.read(f"file:{path}", "RAY_AUTH_TOKEN_PATH")
    usual = Path("~/.ray/auth_token").expanduser()
    return by_name.read(f"file:{usual}", "Ray's token") if usual.is_file() else None
