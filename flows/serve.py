"""`layerprint serve`: sweep a spec by a schedule, in one process on one machine.

Prefect's Runner does it: its UI shows the schedule, the runs and their logs, a sweep can be started or cancelled there,
and each runs in its own process, so that Ray and its memory end with it. This module adds the server: the configured
one, that of another `serve` or `stack` of this user, or one that it starts.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import cast

from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.settings import PREFECT_SERVER_API_PORT, get_current_settings
from prefect.types.entrypoint import EntrypointType

from flows.deployments import sweep_releases
from flows.orchestration import own_servers
from flows.orchestration.health import healthy_within, is_healthy
from flows.orchestration.local_server import LocalServer
from flows.orchestration.schedules import spec_parameter, sweeps
from flows.orchestration.settings import configured_url
from flows.spec.live_spec import load_live_spec
from storage.digest import digest
from storage.errors import InputError, StageError
from storage.objects.embedded_s3 import is_free

SERVER_RESTART_S = 30.0
LOOK_EVERY_S = 5.0

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Say = Callable[[str], None]
Schedule = CronSchedule | IntervalSchedule


def schedule_of(every: str | None, cron: str | None) -> Schedule:
    """The schedule of the command line; with ``every`` the first sweep starts at once.

    Raises:
        InputError: neither or both are given, or one cannot be parsed.

    >>> schedule_of("15m", None).interval
    datetime.timedelta(seconds=900)
    """
    if (every is None) == (cron is None):
        raise InputError("serve needs a schedule", 'give --every 1h, or --cron "0 * * * *"')
    if cron is not None:
        try:
            return CronSchedule(cron=cron, timezone="UTC")
        except ValueError:
            raise InputError(f"--cron {cron!r} cannot be read", 'give five fields, for example "30 6 * * *"') from None
    match = re.fullmatch(r"(\d+)([smhd])", str(every))
    interval = dt.timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else dt.timedelta()
    if interval < dt.timedelta(seconds=1):
        raise InputError(f"--every {every!r} is no time", "give a number and s, m, h or d, for example 30m")
    return IntervalSchedule(interval=interval, anchor_date=dt.datetime.now(dt.UTC))


def serve_sweeps(spec: str, schedule: Schedule, settle_s: float, say: Say) -> None:
    """Sweep by the schedule until SIGINT or SIGTERM.

    Args:
        spec: Path or ``s3://`` URI of the spec.
        schedule: When.
        settle_s: A release that changes within so many seconds is left to the next sweep.
        say: Prints one line about an event.

    Raises:
        InputError: the spec cannot be used.
        StageError: no Prefect server can be reached or started.
    """
    load_live_spec(spec)  # to report a mistake in it now, not in the first sweep
    place = spec_parameter(spec)
    with _server(say) as url, _watched(place, say):
        deployment = sweep_releases.to_deployment(
            name=deployment_name(place),
            schedules=[schedule],
            parameters={"spec": place, "settle_seconds": settle_s},
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        say(f"sweeping {place} until Ctrl-C; Prefect's UI: {url.removesuffix('/api')}")
        at_once = isinstance(schedule, IntervalSchedule)
        asyncio.run(_run_until_signal(cast(RunnerDeployment, deployment), at_once))  # made synchronously
        say("stopping")
    say("stopped; an audit that was interrupted goes on with the next sweep")


async def _run_until_signal(deployment: RunnerDeployment, at_once: bool) -> None:
    """Run the deployment's sweeps, one at a time, until SIGINT or SIGTERM; then end the one that runs.

    The first run of an interval schedule comes after one interval, so a sweep ``at_once`` is requested.

    Not `prefect.serve`, which exits on SIGTERM without awaiting the end of its runs.
    """
    runner, signalled = Runner(pause_on_shutdown=True, limit=1), asyncio.Event()
    deployment_id = await runner.aadd_deployment(deployment)
    if at_once:
        async with get_client() as client:
            await client.create_flow_run_from_deployment(deployment_id)
    running = asyncio.create_task(runner.start())
    await asyncio.sleep(0)  # it has installed its own handler now
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, signalled.set)
    waiting = asyncio.create_task(signalled.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        await runner.astop()
    waiting.cancel()
    await running


def deployment_name(place: str) -> str:
    """The name of the deployment that sweeps a spec.

    >>> deployment_name("/data/spec.yaml")
    'serve-spec-f2ac4f'
    """
    return f"serve-{PurePosixPath(place).stem}-{digest(spec=place)[:6]}"


@contextmanager
def _server(say: Say) -> Iterator[str]:
    """Within this block Prefect uses a running server, else one that runs as long as this block; yields its API."""
    if url := configured_url():
        if not is_healthy(url):
            say(f"waiting for the Prefect server at {url}")
        if not healthy_within(SERVER_RESTART_S, url):
            raise StageError(f"no Prefect server answers at {url}", "start it, or unset PREFECT_API_URL")
        yield url
        return
    for server in own_servers.own_servers():
        if is_healthy(server.url):
            with own_servers.used(server.url, server.key):
                yield server.url
            return
    say("starting a Prefect server")
    started = LocalServer(_port(), schedules=True, say=say)
    try:
        started.wait()
        key = own_servers.record(started.url, started.key, started.pid)
        say(f"Prefect's UI asks for the text in {key}")
        with own_servers.used(started.url, started.key):
            yield started.url
    finally:
        own_servers.forget(started.pid)
        started.stop()


def _port() -> int:
    """The configured port; else Prefect's usual one if it is free, else any."""
    port = int(PREFECT_SERVER_API_PORT.value())
    configured = "PREFECT_SERVER_API_PORT" in get_current_settings().to_environment_variables(exclude_unset=True)
    return port if configured or is_free(port) else 0


@contextmanager
def _watched(place: str, say: Say) -> Iterator[None]:
    """Print the result of each sweep, and when the next one starts."""
    ended = threading.Event()

    def watch() -> None:
        shown: dt.datetime | None = None
        before = sweeps(place).last
        while not ended.wait(LOOK_EVERY_S):
            last, coming = sweeps(place)
            if last is not None and last.state is not None and (before is None or last.id != before.id):
                say(f"sweep {last.state.type.value.lower()}: {last.state.message}")
                before = last
            if coming is not None and coming != shown:
                say(f"next sweep: {coming.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC")
                shown = coming

    watching = threading.Thread(target=watch, daemon=True, name="next-sweep")
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join(LOOK_EVERY_S)
