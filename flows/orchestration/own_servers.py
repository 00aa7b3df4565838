"""The Prefect servers of `serve` and `stack`, as later commands of their owner find them.

Each has a record with its address and key in a folder that only the owner can enter. A record counts while its process
runs. Nothing else that answers on a port of this machine is ever used: it may be another user's.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from flows.orchestration.process import start_time
from storage.errors import InputError


class OwnServer(NamedTuple):
    """A Prefect server of this user.

    Attributes:
        url: Its API.
        key: What it asks for, ``user:password``.
        pid: Its process.
        began: When that process began, in the system's own unit.
    """

    url: str
    key: str
    pid: int
    began: str


def folder() -> Path:
    """The folder of the records, in the user's state folder."""
    return Path(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")) / "layerprint" / "prefect"


def record(url: str, key: str, pid: int) -> Path:
    """Record a server that runs.

    Returns:
        The file with its key alone, which Prefect's UI asks for.

    Raises:
        InputError: The folder cannot be written, or is not the user's own.
    """
    place = folder()
    server = OwnServer(url, key, pid, start_time(pid) or "")
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _is_private(place):
            raise PermissionError("others can enter it")
        _write(place / f"{pid}.json", json.dumps(server._asdict()))
        _write(place / f"{pid}.key", key + "\n")
    except OSError as error:
        raise InputError(
            f"{place}: the key of the Prefect server cannot be kept there ({error.strerror or error})",
            "make it a folder of yours with mode 700, or set XDG_STATE_HOME",
        ) from error
    return place / f"{pid}.key"


def forget(pid: int) -> None:
    """Remove the record of a server."""
    for suffix in ("json", "key"):
        with suppress(OSError):
            (folder() / f"{pid}.{suffix}").unlink()


def own_servers() -> list[OwnServer]:
    """The servers that run, the newest first; records of those that ended are removed."""
    place = folder()
    if not _is_private(place):
        return []
    servers = [_read(path) for path in sorted(place.glob("*.json"), key=_modified, reverse=True)]
    return [server for server in servers if server is not None]


@contextmanager
def used(url: str, key: str | None) -> Iterator[None]:
    """Within this block Prefect uses this server; with the user's own login where there is no key."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL, temporary_settings

    login = {} if key is None else {PREFECT_API_AUTH_STRING: key, PREFECT_API_KEY: None}
    with temporary_settings({PREFECT_API_URL: url, **login}):
        yield


def _read(path: Path) -> OwnServer | None:
    try:
        if not _is_private(path):
            return None
        server = OwnServer(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    if not server.began or start_time(server.pid) != server.began:
        forget(server.pid)
        return None
    return server


def _is_private(path: Path) -> bool:
    """Whether it is this user's and no one else may read or write it."""
    try:
        status = path.lstat()
    except OSError:
        return False
    ours = status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return ours and (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode))


def _modified(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _write(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}")
    new.unlink(missing_ok=True)
    with open(new, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
    new.replace(path)
