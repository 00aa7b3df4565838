"""A Ray for this process alone: on loopback, behind a token of its own, in a folder that only its owner can enter.

`docs/security.md` lists what listens, and what protects it. Ray's unix sockets ask for no token: the folder does.
"""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants, services
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from actors.ray_cluster import watcher
from storage.errors import StageError

LOOPBACK = "127.0.0.1"
"""The one address for which Ray binds every port of a node to loopback; for 127.0.0.2 it would bind to all."""

RAY_ENVIRONMENT = {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # the first error ends a run and is raised; the others print no traceback
    "RAY_gcs_server_port_wait_time_s": "600",  # a slow machine is no failure
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_agent_register_timeout_ms": "600000",
}
"""Ray reads these when it starts; a user's own setting stays."""

KEEP_ADDRESS = {ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}
"""Makes Ray keep 127.0.0.1 instead of replacing it by the address of the machine's network."""

START_LIMIT_S, STALLED_S, NOTICE_S = 900.0, 90.0, 15.0
"""Seconds for the start of a Ray: in all, without any work of its processes, and until the first notice."""

_LOG_BYTES = 600
_LOGS = ("raylet.err", "gcs_server.err", "raylet.out", "gcs_server.out")

_log = logging.getLogger(__name__)


@contextmanager
def private_ray(cpus: int) -> Iterator[Path]:
    """A Ray that ends with this block, and with this process in any case. Yields its folder.

    Raises:
        StageError: It did not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="layerprint-ray-", dir=_place()))  # of mode 0700
    token = folder / "token"
    with ExitStack() as stack:
        stack.enter_context(_watched(folder))
        with open(token, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(secrets.token_hex(32))
        with (
            on_loopback(),
            ray_settings({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": None, "RAY_AUTH_TOKEN_PATH": str(token)}),
            patient(folder),
        ):
            stack.callback(ray.shutdown)
            _init(folder, cpus)
        yield folder


def join(address: str) -> None:
    """Connect to a running Ray with the token of the environment; one on loopback is joined over loopback."""
    with ExitStack() as stack:
        if address.rpartition(":")[0] == LOOPBACK:
            stack.enter_context(on_loopback())
        stack.enter_context(ray_settings({}))
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)


@contextmanager
def on_loopback() -> Iterator[None]:
    """Within this block Ray keeps 127.0.0.1 as the address of a node; it reads the variable only when imported."""
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        with ray_settings(KEEP_ADDRESS):
            yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def ray_settings(values: Mapping[str, str | None]) -> Iterator[None]:
    """Within this block Ray starts with these variables, and with no token that it kept from an earlier one.

    Afterwards the environment is as before: the user's own token is for a cluster elsewhere.
    """
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _place() -> str:
    """Where Ray's folder goes: a short path, since the path of a socket may have 107 characters."""
    return os.environ.get("RAY_TMPDIR") or ("/tmp" if sys.platform == "linux" else tempfile.gettempdir())


def _init(folder: Path, cpus: int) -> None:
    try:
        ray.init(
            "local",
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=200 * 2**20,
            _temp_dir=str(folder / "ray"),
            _node_ip_address=LOOPBACK,
        )
    except StageError:
        raise
    except Exception as error:  # Ray raises Exception itself, and errors of its libraries
        raise _not_started(folder, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error


def _not_started(folder: Path, reason: str) -> StageError:
    return StageError(
        f"Ray did not start: {reason}{log_end(folder)}",
        "free memory, or space where RAY_TMPDIR points (a short path), and run again; `layerprint doctor` checks both",
    )


def log_end(folder: Path) -> str:
    """The end of the first log that has something to say, as the end of a sentence."""
    for name in _LOGS:
        for path in sorted((folder / "ray").glob(f"session_2*/logs/{name}")):
            if text := path.read_text(errors="replace").strip():
                return f" ({name}: {' '.join(text[-_LOG_BYTES:].split())})"
    return ""


@contextmanager
def _watched(folder: Path) -> Iterator[None]:
    """A process that ends what uses the folder when this block or this process ends."""
    command = [sys.executable, "-I", "-S", watcher.__file__, str(folder), str(os.getpid())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True):
        yield  # leaving closes the pipe, and waits for the watcher


@contextmanager
def patient(folder: Path) -> Iterator[None]:
    """Within this block Ray waits for its node as long as the node's processes work, not for 30 s."""
    get_node: Callable[..., Any] = services.get_node

    def waiting(*arguments: Any, **named: Any) -> Any:
        began = worked = time.monotonic()
        noticed, ticks = began, -1
        while True:
            try:
                return get_node(*arguments, **named)
            except RuntimeError as error:  # not there yet
                now = time.monotonic()
                if ticks != (ticks := sum(map(_ticks, watcher.users_of(str(folder))))):
                    worked = now
                if now - worked > STALLED_S or now - began > START_LIMIT_S or not node_runs(folder):
                    raise _not_started(folder, f"its node did not register within {now - began:.0f} s") from error
                if now - noticed > NOTICE_S:
                    _log.warning("waits for Ray to start, %.0f s so far", now - began)
                    noticed = now
                time.sleep(0.2)

    services.get_node = waiting
    try:
        yield
    finally:
        services.get_node = get_node


def node_runs(folder: Path) -> bool:
    """Whether Ray's node process is there; unknown, and so True, where there is no ``/proc``."""
    if not Path("/proc/self").exists():
        return True
    return any(_name(pid) == "raylet" for pid in watcher.users_of(str(folder)))


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _ticks(pid: int) -> int:
    """Processor time of a process in clock ticks; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])  # utime and stime of proc(5)
