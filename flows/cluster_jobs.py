"""The Ray jobs of a flow: with what they are submitted, and the stopping of those whose flow is gone."""

from __future__ import annotations

import json
import os
from pathlib import Path

from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from actors.cluster import PoolSize
from actors.job_cluster import JobSettings
from flows.cluster_spec import ClusterSpec, PoolSpec
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


def _size(pool: PoolSpec) -> PoolSize:
    return PoolSize(pool.hosts, pool.cpus, pool.gpus)


def _labels() -> dict[str, str]:
    """Which flow run asks, and of which Prefect server."""
    found = {"flow_run": str(flow_run.root_flow_run_id or ""), "prefect": str(PREFECT_API_URL.value() or "")}
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
