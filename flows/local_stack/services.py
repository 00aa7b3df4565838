"""The services of the stack: commands, addresses and readiness checks. All of them listen on loopback."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx

from actors.ray_cluster.private_ray import KEEP_ADDRESS, LOOPBACK, RAY_ENVIRONMENT
from flows.local_stack.s3 import environment_of
from flows.orchestration import prefect_process
from flows.orchestration.environment import lean_environment
from flows.runtime.settings import MachineSettings
from storage.errors import InputError
from storage.objects.embedded_s3 import HOST, is_free

BUCKET = "layerprint"
POOL = "layerprint"
NAMES = ("s3", "ray", "prefect-server", "prefect-worker")
_PORTS: dict[str, int | None] = {
    "prefect": 4200,
    "ray": 6379,
    "jobs": 8265,
    "client": 10_001,
    "agent": None,  # any other Ray of this machine takes the usual one on all of loopback
    "metrics": 8090,
    "worker": 8080,
}
_OTHER_PORTS = range(20_000, 30_000)  # below the ephemeral ports


@dataclass(frozen=True)
class StackSettings:
    """The settings of a running stack; kept in its folder, readable by the owner only."""

    ports: dict[str, int]
    ray_token: str = field(default_factory=lambda: secrets.token_hex(32))
    ray_folder: str = field(
        default_factory=lambda: tempfile.mkdtemp(prefix="layerprint-ray-")
    )  # short, for socket paths; of mode 0700
    prefect_key: str = field(default_factory=prefect_process.new_key)


class Service(NamedTuple):
    """A service of the stack.

    Args:
        name: Name of its pid file and log, one of `NAMES`.
        where: Returns its address; that of the S3 server is known once it runs.
        command: Arguments of the process.
        ready: Returns whether it answers.
    """

    name: str
    where: Callable[[], str]
    command: list[str]
    ready: Callable[[], bool]


def choose_ports() -> dict[str, int]:
    """A free port for each use: the usual one if it is free, else any."""
    others = iter(random.SystemRandom().sample(_OTHER_PORTS, len(_OTHER_PORTS)))
    return {name: port if port and is_free(port) else next(filter(is_free, others)) for name, port in _PORTS.items()}


def services_of(folder: Path, settings: StackSettings) -> list[Service]:
    """All services of a stack, each after those that it needs; their names are `NAMES`.

    Raises:
        InputError: a program is not installed.
    """
    return [_s3(folder), _ray(settings), _prefect_server(settings), _prefect_worker(settings)]


def client_environment(folder: Path, settings: StackSettings) -> dict[str, str]:
    """The variables that make commands use this stack, without those of services that are not up yet."""
    return {**_s3_login(folder), **_ray_login(settings), **_prefect_login(settings)}


def process_environment(service: str, folder: Path, settings: StackSettings) -> dict[str, str]:
    """The environment of a service: what it needs of this process's, and the keys of the services that it talks to."""
    own = {
        **lean_environment("LAYERPRINT_"),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),  # jobs run `python`
        "PYTHONSAFEPATH": "1",  # Prefect has a storage.py beside one of its scripts
        "DO_NOT_TRACK": "1",
    }
    weights = lean_environment(
        "HF_", "TORCH_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"
    )  # to fetch them
    match service:
        case "s3":
            return own
        case "ray":
            return {**weights, **own, **RAY_ENVIRONMENT, **_s3_login(folder), **_ray_login(settings)}
        case "prefect-server":
            key = prefect_process.settings(settings.ports["prefect"], settings.prefect_key)
            return {**own, **key, "PREFECT_HOME": str(folder / "prefect")}
        case _:
            return {
                **weights,
                **own,
                **RAY_ENVIRONMENT,
                **client_environment(folder, settings),
                "PREFECT_HOME": str(folder / "worker"),
                "PREFECT_WORKER_WEBSERVER_HOST": HOST,
                "PREFECT_WORKER_WEBSERVER_PORT": str(settings.ports["worker"]),
            }


def prefect_api(settings: StackSettings) -> str:
    """The address of the stack's Prefect API."""
    return f"http://{HOST}:{settings.ports['prefect']}/api"


def _s3_login(folder: Path) -> dict[str, str]:
    return environment_of(folder / "s3") or {}


def _ray_login(settings: StackSettings) -> dict[str, str]:
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": settings.ray_token,
        "LAYERPRINT_RAY_ADDRESS": f"{LOOPBACK}:{settings.ports['ray']}",
        **KEEP_ADDRESS,
    }


def _prefect_login(settings: StackSettings) -> dict[str, str]:
    return {"PREFECT_API_URL": prefect_api(settings), "PREFECT_API_AUTH_STRING": settings.prefect_key}


def _s3(folder: Path) -> Service:
    place = folder / "s3"

    def endpoint() -> str:
        return (environment_of(place) or {}).get("AWS_ENDPOINT_URL", "")

    command = [sys.executable, "-m", "flows.local_stack.s3", str(place), BUCKET]
    return Service("s3", endpoint, command, lambda: _answers(f"{endpoint()}/status"))


def _ray(settings: StackSettings) -> Service:
    ports, jobs = settings.ports, f"http://{HOST}:{settings.ports['jobs']}"
    token = {"Authorization": f"Bearer {settings.ray_token}"}
    command = [
        *(_program("ray"), "start", "--head", "--block", "--disable-usage-stats", "--include-dashboard=true"),
        *(f"--node-ip-address={LOOPBACK}", f"--dashboard-host={HOST}", f"--temp-dir={settings.ray_folder}/ray"),
        *(f"--port={ports['ray']}", f"--dashboard-port={ports['jobs']}", f"--num-cpus={_slots()}"),
        *(f"--ray-client-server-port={ports['client']}", f"--dashboard-agent-listen-port={ports['agent']}"),
        f"--metrics-export-port={ports['metrics']}",
    ]
    agent = f"http://{HOST}:{ports['agent']}/api/local_raylet_healthz"  # starts last, and runs the jobs
    return Service("ray", lambda: jobs, command, lambda: _answers(f"{jobs}/api/jobs/", token) and _answers(agent))


def _prefect_server(settings: StackSettings) -> Service:
    api = prefect_api(settings)
    port = str(settings.ports["prefect"])
    command = [sys.executable, "-P", "-m", "flows.orchestration.prefect_process", "port", port, "schedules"]
    return Service("prefect-server", lambda: api, command, lambda: _answers(f"{api}/ready"))


def _prefect_worker(settings: StackSettings) -> Service:
    health = f"http://{HOST}:{settings.ports['worker']}/health"
    command = [_program("prefect"), "worker", "start", "--pool", POOL, "--type", "process", "--with-healthcheck"]
    return Service(
        "prefect-worker", lambda: f"pool {POOL}", command, lambda: _answers(health) and _has_worker(settings)
    )


def _slots() -> int:
    """CPUs that Ray may hand out: the two pools of a command take turns on the cores, and each reserves all of them."""
    sizes = MachineSettings().cluster_settings()
    return int(sum(pool.hosts * pool.cpus for pool in (sizes.embed, sizes.layers))) + 1


def _program(name: str) -> str:
    scripts = os.pathsep.join((sysconfig.get_path("scripts"), str(Path(sys.executable).parent)))
    path = shutil.which(name, path=scripts) or shutil.which(name)
    if path is None:
        raise InputError(f"the command {name} is not installed", "pip install -c constraints.txt layerprint")
    return path


def _answers(url: str, headers: Mapping[str, str] | None = None) -> bool:
    try:
        return httpx.get(url, headers=headers, timeout=5, trust_env=False).is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def _has_worker(settings: StackSettings) -> bool:
    user, _, password = settings.prefect_key.partition(":")
    url = f"{prefect_api(settings)}/work_pools/{POOL}/workers/filter"
    try:
        answer = httpx.post(url, json={}, auth=(user, password), timeout=5, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.is_success and any(worker["status"] == "ONLINE" for worker in answer.json())
