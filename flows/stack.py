"""The stack of `deploy/compose.yaml` as processes of one machine: object store, Ray, Prefect server and worker.

Everything listens on loopback, and stands in one folder: pid files, logs, the store's objects, Prefect's database.
``up`` starts what does not run, ``down`` ends what ``up`` started and nothing else; both may be repeated.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import secrets
import shlex
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx

from actors.cluster import RAY_ENVIRONMENT
from flows.daemons import Daemon
from flows.runtime import MachineSettings
from flows.stack_s3 import environment_of
from storage.embedded_s3 import HOST, is_free
from storage.errors import InputError, StageError

NODE = "127.0.0.2"  # loopback too; told 127.0.0.1, Ray would take the address of the machine's network
BUCKET = "layerprint"
POOL = "layerprint"
READY_TIMEOUT_S = 180.0
_PORTS = {
    "prefect": 4200,
    "ray": 6379,
    "jobs": 8265,
    "client": 10_001,
    "agent": 52_365,
    "metrics": 8090,
    "worker": 8080,
}
_OTHER_PORTS = range(20_000, 30_000)  # below the ephemeral ones


@dataclass(frozen=True)
class StackSettings:
    """What the processes of a stack agree on; kept in its folder while it runs, readable by the owner alone."""

    ports: dict[str, int]
    ray_token: str = field(default_factory=lambda: secrets.token_hex(32))
    ray_folder: str = field(default_factory=lambda: tempfile.mkdtemp(prefix="layerprint-ray-"))  # sockets: short


class Service(NamedTuple):
    """A part of the stack.

    Args:
        name: Of its pid file and log.
        where: Says its address; the S3 server's is known once it runs.
        command: Arguments of the process.
        ready: Whether it answers.
    """

    name: str
    where: Callable[[], str]
    command: list[str]
    ready: Callable[[], bool]


class ServiceState(NamedTuple):
    """How a part of the stack is: its process id if it runs, and whether it answers."""

    name: str
    pid: int | None
    ready: bool
    where: str


class Stack:
    """The stack of a folder.

    Args:
        folder: Made by `up`; ``down`` keeps the objects and the database in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._settings_file = self.folder / "stack.json"

    def up(self, say: Callable[[str], None]) -> dict[str, str]:
        """Start what does not run, and what depends on it anew.

        Args:
            say: Told what happens, a line at a time.

        Returns:
            The environment in which commands use this stack; also in the file ``environment.sh``.

        Raises:
            InputError: another `up` is at work, or a program is missing.
            StageError: a part does not come up; the end of its log is in the message.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            settings = self._settings() or self._new_settings()
            services = self._services(settings)
            first = next((i for i, one in enumerate(services) if not self._is_up(one)), len(services))
            for service in reversed(services[first:]):
                self._daemon(service.name).stop()
            for service in services[:first]:
                say(f"{service.name}: runs at {service.where()}")
            for service in services[first:]:
                self._start(service, settings)
                say(f"{service.name}: started at {service.where()}")
            environment = self.environment(settings)
            exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
            _write_private(self.folder / "environment.sh", exports)
            return environment

    def down(self) -> list[str]:
        """End what `up` started, last first.

        Returns:
            The names of what ran.
        """
        if not self.folder.is_dir():
            return []
        with self._locked():
            settings = self._settings()
            ended = [name for name in reversed(_NAMES) if self._daemon(name).stop()]
            if settings:
                shutil.rmtree(settings.ray_folder, ignore_errors=True)
            for name in ("stack.json", "environment.sh"):
                (self.folder / name).unlink(missing_ok=True)
            return ended

    def status(self) -> list[ServiceState]:
        """Every part of the stack; none runs where there was no `up`."""
        settings = self._settings()
        if settings is None:
            return [ServiceState(name, None, False, "") for name in _NAMES]
        return [
            ServiceState(one.name, self._daemon(one.name).pid, self._is_up(one), one.where())
            for one in self._services(settings)
        ]

    def environment(self, settings: StackSettings | None = None) -> dict[str, str]:
        """The variables that make commands use this stack; without those of parts that are not up yet."""
        settings = settings or self._settings()
        if settings is None:
            return {}
        ports = settings.ports
        return {
            **(environment_of(self.folder / "s3") or {}),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": settings.ray_token,
            "LAYERPRINT_RAY_ADDRESS": f"{NODE}:{ports['ray']}",
            "PREFECT_API_URL": f"http://{HOST}:{ports['prefect']}/api",
        }

    # -- the parts ---------------------------------------------------------------------------------------------

    def _services(self, settings: StackSettings) -> list[Service]:
        """All parts, each after those it needs."""
        ports = settings.ports
        jobs, api = f"http://{HOST}:{ports['jobs']}", f"http://{HOST}:{ports['prefect']}/api"
        token = {"Authorization": f"Bearer {settings.ray_token}"}
        s3_folder = self.folder / "s3"
        s3 = [sys.executable, "-m", "flows.stack_s3", str(s3_folder), BUCKET]
        ray = [_program("ray"), "start", "--head", "--block", "--disable-usage-stats", "--include-dashboard=true"]
        ray += [f"--node-ip-address={NODE}", f"--dashboard-host={HOST}", f"--temp-dir={settings.ray_folder}"]
        ray += [
            f"--port={ports['ray']}",
            f"--dashboard-port={ports['jobs']}",
            f"--ray-client-server-port={ports['client']}",
        ]
        ray += [
            f"--dashboard-agent-listen-port={ports['agent']}",
            f"--metrics-export-port={ports['metrics']}",
            f"--num-cpus={_slots()}",
        ]
        server = [_program("prefect"), "server", "start", "--host", HOST, "--port", str(ports["prefect"])]
        worker = [_program("prefect"), "worker", "start", "--pool", POOL, "--type", "process", "--with-healthcheck"]
        health = f"http://{HOST}:{ports['worker']}/health"
        return [
            Service("s3", self._s3_endpoint, s3, lambda: _answers(f"{self._s3_endpoint()}/status")),
            Service("ray", lambda: jobs, ray, lambda: _answers(f"{jobs}/api/jobs/", token)),
            Service("prefect-server", lambda: api, server, lambda: _answers(f"{api}/ready")),
            Service("prefect-worker", lambda: f"pool {POOL}", worker, lambda: _answers(health) and _has_worker(api)),
        ]

    def _start(self, service: Service, settings: StackSettings) -> None:
        daemon = self._daemon(service.name)
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "AWS_", "RAY_"))}
        worker = {"PREFECT_WORKER_WEBSERVER_HOST": HOST, "PREFECT_WORKER_WEBSERVER_PORT": settings.ports["worker"]}
        fixed = {"PREFECT_HOME": self.folder / "prefect", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", **worker}
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))  # jobs call `python`
        values = {**ours, **RAY_ENVIRONMENT, **self.environment(settings), **fixed, "DO_NOT_TRACK": "1", "PATH": path}
        daemon.start(service.command, {name: str(value) for name, value in values.items()})
        end = time.monotonic() + READY_TIMEOUT_S
        while not service.ready():
            if daemon.pid is None or time.monotonic() > end:
                daemon.stop()
                raise StageError(
                    f"{service.name} did not come up; its log {daemon.log} ends with\n{daemon.log_end()}",
                    "mend what it says, then run `layerprint stack up` again; `layerprint stack down` ends the rest",
                )
            time.sleep(0.2)

    def _s3_endpoint(self) -> str:
        return (environment_of(self.folder / "s3") or {}).get("AWS_ENDPOINT_URL", "")

    def _is_up(self, service: Service) -> bool:
        return self._daemon(service.name).pid is not None and service.ready()

    def _daemon(self, name: str) -> Daemon:
        return Daemon(self.folder, name)

    # -- the folder --------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"{self.folder}: another `layerprint stack` command is at work there", "wait until it has ended"
                ) from None
            yield

    def _settings(self) -> StackSettings | None:
        if not self._settings_file.exists():
            return None
        return StackSettings(**json.loads(self._settings_file.read_text()))

    def _new_settings(self) -> StackSettings:
        others = iter(random.SystemRandom().sample(_OTHER_PORTS, len(_OTHER_PORTS)))
        settings = StackSettings({name: _free_port(port, others) for name, port in _PORTS.items()})
        _write_private(self._settings_file, json.dumps(asdict(settings)))
        return settings


_NAMES = ("s3", "ray", "prefect-server", "prefect-worker")


def _free_port(preferred: int, others: Iterator[int]) -> int:
    """The usual port if it is free, else the next of the others that is."""
    return preferred if is_free(preferred) else next(port for port in others if is_free(port))


def _slots() -> int:
    """CPUs that Ray is told of: a command's two pools take turns on the cores, and each reserves all of them."""
    sizes = MachineSettings().cluster_settings()
    return int(sum(pool.hosts * pool.cpus for pool in (sizes.embed, sizes.layers))) + 1


def _program(name: str) -> str:
    scripts = os.pathsep.join((sysconfig.get_path("scripts"), str(Path(sys.executable).parent)))
    found = shutil.which(name, path=scripts) or shutil.which(name)
    if found is None:
        raise InputError(f"the command {name} is not installed", "pip install -c constraints.txt layerprint")
    return found


def _answers(url: str, headers: Mapping[str, str] | None = None) -> bool:
    try:
        return httpx.get(url, headers=headers, timeout=5, trust_env=False).is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def _has_worker(api: str) -> bool:
    found = httpx.post(f"{api}/work_pools/{POOL}/workers/filter", json={}, timeout=5, trust_env=False)
    return found.is_success and any(worker["status"] == "ONLINE" for worker in found.json())


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
