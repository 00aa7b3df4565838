"""The sockets on which a tree of processes listens, and the table of them in `docs/security.md`."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.paths import ROOT
from tests.processes import descendants, name_of

_LISTEN, _ACCEPTING = "0A", "00010000"


class Socket(NamedTuple):
    """A socket that listens.

    Attributes:
        process: The process's name, as in the table.
        address: ``loopback``, ``private folder``, or the address.
        where: Port or path.
    """

    process: str
    address: str
    where: str


def listening(process: int) -> set[Socket]:
    """The sockets of a process and all below it."""
    known = {**_internet(), **_unix()}
    return {
        Socket(_name(pid), *known[inode]) for pid in descendants(process) for inode in _inodes(pid) if inode in known
    }


def documented(command: str) -> set[tuple[str, str]]:
    """(Process, address) of each row of a command in the table of the documentation."""
    text = (ROOT / "docs" / "security.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    return {
        (name, row[2]) for row in rows if command in row[0].split(", ") for name in re.findall(r"`([^`]+)`", row[1])
    }


def is_documented(command: str, sockets: Iterable[Socket]) -> bool:
    """Whether these are the sockets of the table; ports for figures may be taken, and workers come and go."""
    found, known = {(socket.process, socket.address) for socket in sockets}, documented(command)
    sometimes = {each for each in known if each[0] in ("dashboard.py", "monitor.py", "ray worker")}
    return known - sometimes <= found <= known


def _name(pid: int) -> str:
    """``raylet``, ``ray::DashboardAgent``, the script or module of a Python process, ``ray worker``, ``layerprint``."""
    words = name_of(pid).split()
    if not words:
        return ""
    if words[0].startswith("ray::"):
        agents = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
        return words[0] if words[0] in agents else "ray worker"
    if words[0].startswith("ray-dashboard-") or "multiprocessing." in name_of(pid):
        return "ray dashboard modules"
    if "-m" in words:
        module = words[words.index("-m") + 1]
        return "layerprint" if module == "flows.cli.main" else module.rpartition(".")[2]
    for word in words[1:]:
        if word.endswith(("/dashboard.py", "/monitor.py")):
            return word.rpartition("/")[2]
        if word.endswith("/prefect"):
            return "prefect-worker"
    program = os.path.basename(words[0])
    return "layerprint" if program.startswith("python") else program


def _inodes(pid: int) -> Iterator[str]:
    folder = Path(f"/proc/{pid}/fd")
    try:
        links = list(folder.iterdir())
    except OSError:  # it has ended
        return
    for link in links:
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[8:-1]


def _internet() -> dict[str, tuple[str, str]]:
    found = {}
    for name in ("tcp", "tcp6"):
        for fields in _table(f"/proc/net/{name}"):
            if fields[3] == _LISTEN:
                host, _, port = fields[1].partition(":")
                found[fields[9]] = (_class(host), str(int(port, 16)))
    return found


def _class(host: str) -> str:
    words = [bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None) or address
    return "loopback" if mapped.is_loopback else str(mapped)


def _unix() -> dict[str, tuple[str, str]]:
    found = {}
    for fields in _table("/proc/net/unix"):
        if fields[3] == _ACCEPTING and len(fields) > 7:
            place = "private folder" if _is_private(Path(fields[7])) else fields[7]
            found[fields[6]] = (place, fields[7])
    return found


def _is_private(path: Path) -> bool:
    """Whether one of its folders lets nobody but its owner enter."""
    return any(folder.exists() and not folder.stat().st_mode & 0o077 for folder in path.parents)


def _table(path: str) -> Iterable[list[str]]:
    return (line.split() for line in Path(path).read_text().splitlines()[1:])
