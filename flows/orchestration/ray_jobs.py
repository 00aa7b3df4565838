"""The Ray jobs of a flow: with what they are submitted, and the stopping of those whose flow is gone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run

from actors.ray_cluster.local import PoolSize
from actors.ray_job.api import Jobs
from actors.ray_job.client import JobSettings
from flows.orchestration.settings import configured_url
from flows.spec.cluster import ClusterSpec, PoolSpec
from storage.errors import InputError


def job_settings(cluster: ClusterSpec) -> JobSettings:
    """What submits the jobs of the flow around us; the token is read now.

    Raises:
        InputError: the token is not where the spec says.
    """
    return JobSettings(
        address=cluster.ray,
        embed=_size(cluster.embed),
        layers=_size(cluster.layers),
        namespace=cluster.namespace,
        runtime_env=json.dumps(cluster.runtime_env),
        token=_token(cluster.token) if cluster.token else None,
        labels=_labels(),
    )


def reap_jobs(cluster: ClusterSpec, dry_run: bool = False) -> list[str]:
    """Stop the jobs whose flow run has ended or is unknown; those of other Prefect servers are left.

    Args:
        cluster: Where the jobs run.
        dry_run: Only say which they are.

    Returns:
        Their ids.
    """
    settings = job_settings(cluster)
    jobs = Jobs(settings.address, settings.token)
    ours = configured_url() or ""
    labelled = {job: told for job, told in jobs.unfinished().items() if ours and told.get("prefect") == ours}
    with get_client(sync_client=True) as client:
        gone = [job for job, told in labelled.items() if "flow_run" in told and _is_gone(client, told["flow_run"])]
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
    """Which flow run asks, and of which Prefect server."""
    found = {"flow_run": str(flow_run.root_flow_run_id or ""), "prefect": configured_url() or ""}
    return {name: value for name, value in found.items() if value}


def _token(where: str) -> str:
    kind, _, name = where.partition(":")
    try:
        token = os.environ[name] if kind == "env" else Path(name).expanduser().read_text(encoding="utf-8")
    except KeyError:
        raise InputError(f"cluster.token: the variable {name} is not set", "set it to Ray's token") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cluster.token: {name} cannot be read ({type(error).__name__})", "correct the path") from None
    return token.strip()
