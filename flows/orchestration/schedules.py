"""The last and the next sweep of a spec, as the Prefect server knows them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import NamedTuple

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from flows.orchestration.own_servers import own_servers, used
from flows.orchestration.settings import configured_url
from flows.spec.spec import absolute_uri

FLOW = "sweep_releases"
_ENDED = FlowRunFilter(end_time=FlowRunFilterEndTime(is_null_=False))
_SCHEDULED = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))


def spec_parameter(spec: str) -> str:
    """A spec as the parameter of a deployment: an absolute path, or its URI."""
    return str(absolute_uri(spec, Path.cwd()))


class Sweeps(NamedTuple):
    """The sweeps of a spec.

    Attributes:
        last: The one that ended last, with any result.
        coming: When the next one is scheduled.
    """

    last: FlowRun | None = None
    coming: dt.datetime | None = None


def sweeps(spec: str) -> Sweeps:
    """The sweeps of a spec; empty when no deployment sweeps it, or no server answers.

    Asks the configured server, else those of this user's own `serve` and `stack`.
    """
    url = configured_url()
    servers = [(url, None)] if url else [(server.url, server.key) for server in own_servers()]
    known = (_sweeps_on(place, key, spec) for place, key in servers)
    return next((each for each in known if each is not None), Sweeps())


def _sweeps_on(url: str, key: str | None, spec: str) -> Sweeps | None:
    """The sweeps of a spec on a server; None where there are none."""
    try:
        with used(url, key), get_client(sync_client=True) as client:
            deployments = client.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])))
            ours = [each.id for each in deployments if each.parameters.get("spec") == spec_parameter(spec)]
            if not ours:
                return None
            which = DeploymentFilter(id=DeploymentFilterId(any_=ours))
            last = _first(client, which, _ENDED, FlowRunSort.END_TIME_DESC)
            coming = FlowRunFilterExpectedStartTime(after_=dt.datetime.now(dt.UTC))
            scheduled = FlowRunFilter(state=_SCHEDULED, expected_start_time=coming)
            following = _first(client, which, scheduled, FlowRunSort.EXPECTED_START_TIME_ASC)
    except httpx.HTTPError:
        return None
    return Sweeps(last, None if following is None else following.expected_start_time)


def _first(
    client: SyncPrefectClient, deployments: DeploymentFilter, which: FlowRunFilter, order: FlowRunSort
) -> FlowRun | None:
    """The first of these runs in this order."""
    runs = client.read_flow_runs(deployment_filter=deployments, flow_run_filter=which, sort=order, limit=1)
    return runs[0] if runs else None
