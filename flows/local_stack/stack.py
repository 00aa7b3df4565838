"""The services of `deploy/compose.yaml` as processes of one machine: object store, Ray, Prefect server and worker.

One folder holds the pid files, the logs, the objects and Prefect's database. ``up`` starts the services that are not
running, ``down`` stops those that ``up`` started; both can be repeated.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from flows.local_stack.daemons import Daemon
from flows.local_stack.services import (
    NAMES,
    Service,
    StackSettings,
    choose_ports,
    client_environment,
    prefect_api,
    process_environment,
    services_of,
)
from flows.orchestration import own_servers
from storage.errors import InputError, StageError

READY_TIMEOUT_S = 180.0


class ServiceState(NamedTuple):
    """The state of a service: its process id if it runs, and whether it answers."""

    name: str
    pid: int | None
    ready: bool
    where: str


class Stack:
    """The stack of a folder.

    Args:
        folder: Created by `up`; `down` keeps the objects and the database in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._settings_file = self.folder / "stack.json"
        self._exports = self.folder / "environment.sh"

    def up(self, say: Callable[[str], None]) -> dict[str, str]:
        """Start the services that are not running, and restart those that depend on them.

        Args:
            say: Receives one line of progress at a time.

        Returns:
            The variables that make commands use this stack; also in the file ``environment.sh``.

        Raises:
            InputError: another command is using the folder, or a program is missing.
            StageError: a service does not start; the message holds the end of its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            settings = self._settings() or self._new_settings()
            services = services_of(self.folder, settings)
            first = next((i for i, service in enumerate(services) if not self._is_up(service)), len(services))
            for service in reversed(services[first:]):
                self._daemon(service.name).stop()
            for service in services[:first]:
                say(f"{service.name} is running at {service.where()}")
            for service in services[first:]:
                self._start(service, settings)
                say(f"{service.name} started at {service.where()}")
            if pid := self._daemon("prefect-server").pid:
                own_servers.record(prefect_api(settings), settings.prefect_key, pid)  # `releases` finds it
            environment = client_environment(self.folder, settings)
            exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
            _write_private(self._exports, exports)
            return environment

    def down(self) -> list[str]:
        """Stop the services that `up` started, last first.

        Returns:
            The names of those that were running.

        Raises:
            InputError: another command is using the folder.
        """
        if not self.folder.is_dir():
            return []
        with self._locked():
            settings = self._settings()
            if pid := self._daemon("prefect-server").pid:
                own_servers.forget(pid)
            ended = [name for name in reversed(NAMES) if self._daemon(name).stop()]
            if settings:
                shutil.rmtree(settings.ray_folder, ignore_errors=True)
            for path in (self._settings_file, self._exports):
                path.unlink(missing_ok=True)
            return ended

    def status(self) -> list[ServiceState]:
        """The state of every service; none runs before `up`."""
        settings = self._settings()
        if settings is None:
            return [ServiceState(name, None, False, "") for name in NAMES]
        return [
            ServiceState(service.name, self._daemon(service.name).pid, self._is_up(service), service.where())
            for service in services_of(self.folder, settings)
        ]

    def _start(self, service: Service, settings: StackSettings) -> None:
        daemon = self._daemon(service.name)
        daemon.start(service.command, process_environment(service.name, self.folder, settings))
        end = time.monotonic() + READY_TIMEOUT_S
        while not service.ready():
            if daemon.pid is None or time.monotonic() > end:
                daemon.stop()
                raise StageError(
                    f"{service.name} did not start; its log {daemon.log} ends with\n{daemon.log_end()}",
                    "fix this, then run `layerprint stack up` again; `layerprint stack down` stops the other services",
                )
            time.sleep(0.2)

    def _is_up(self, service: Service) -> bool:
        return self._daemon(service.name).pid is not None and service.ready()

    def _daemon(self, name: str) -> Daemon:
        return Daemon(self.folder, name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"{self.folder}: another `layerprint stack` command is running there", "wait until it has finished"
                ) from None
            yield

    def _settings(self) -> StackSettings | None:
        if not self._settings_file.exists():
            return None
        return StackSettings(**json.loads(self._settings_file.read_text()))

    def _new_settings(self) -> StackSettings:
        settings = StackSettings(choose_ports())
        _write_private(self._settings_file, json.dumps(asdict(settings)))
        return settings


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
