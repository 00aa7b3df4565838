"""Resources that this process may use: cores, memory, disk, accelerator.

A container's limits are read from its control group, version 2 or 1, where they are below the machine's.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

CGROUP = Path("/sys/fs/cgroup")
GIB = 1024**3

_DEVICE = """
import json, torch
found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"built": torch.version.cuda, "devices": [[p.name, p.total_memory] for p in found]}))
"""


class Disk(NamedTuple):
    """Space of the file system that holds a path, in bytes."""

    free: int
    total: int


class Device(NamedTuple):
    """The devices that torch sees.

    Args:
        built: CUDA version that torch was built for; None for a CPU build.
        devices: Name, and memory in bytes, of each CUDA device.
    """

    built: str | None
    devices: list[tuple[str, int]]


def usable_cores(root: Path = CGROUP) -> float:
    """Cores that this process may use: its affinity, limited by the control group's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    for folder in _cgroup_folders(root, "cpu"):
        quota = _read(folder / "cpu.max").split()
        if not quota:
            quota = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
        if all(part.isdigit() for part in quota) and len(quota) == 2:
            cores = min(cores, int(quota[0]) / int(quota[1]))
    return cores


def available_memory(root: Path = CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes available without swapping: the kernel's estimate, limited by the control group."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB", _read(meminfo), re.MULTILINE)
    available = int(match[1]) * 1024 if match else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for folder in _cgroup_folders(root, "memory"):
        for limit, usage in (("max", "current"), ("limit_in_bytes", "usage_in_bytes")):
            allowed, used = _read(folder / f"memory.{limit}"), _read(folder / f"memory.{usage}")
            if allowed.isdigit() and used.isdigit():
                available = min(available, int(allowed) - int(used) + _cache(_read(folder / "memory.stat")))
    return max(0, available)


def disk_at(path: Path) -> Disk:
    """Space at a path, or at the nearest existing folder above it."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    return Disk(usage.free, usage.total)


def ray_folder() -> Path:
    """The folder of Ray's sessions, logs and spilled objects."""
    fallback = "/tmp" if sys.platform.startswith("linux") else tempfile.gettempdir()
    return Path(os.environ.get("RAY_TMPDIR") or fallback) / "ray"


def torch_devices(timeout_s: float) -> Device:
    """The CUDA devices that torch can use, read in another process.

    Raises:
        TimeoutExpired: torch took too long.
        CalledProcessError: torch cannot be imported; standard error has the reason.
    """
    answer = json.loads(run_python(_DEVICE, timeout_s))
    return Device(answer["built"], [(str(name), int(memory)) for name, memory in answer["devices"]])


def run_python(code: str, timeout_s: float, settings: Mapping[str, str] | None = None) -> str:
    """Run code in a fresh interpreter and return the last line it printed.

    Raises:
        TimeoutExpired: It took too long and was killed, with the processes of its group.
        CalledProcessError: It failed.
    """
    command = (sys.executable, "-c", code)
    env = {**os.environ, **(settings or {})}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=env, start_new_session=True) as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except BaseException:  # also Ctrl-C: the group is its own session and would live on
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command[:1], out, err)
    return out.strip().rpartition("\n")[2]


def _cgroup_folders(root: Path, controller: str) -> list[Path]:
    """The folders whose limits apply to this process: its own group and all above it, in both versions."""
    folders = [root, root / controller]
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            base = root if controllers == "" else root / controller
            own = base / path.lstrip("/")
            folders += [own, *(above for above in own.parents if above.is_relative_to(base))]
    return list(dict.fromkeys(folders))


def _cache(stat: str) -> int:
    """Bytes of page cache that the kernel frees first; version 1 has a sum over child groups."""
    counts = dict(re.findall(r"^((?:total_)?inactive_file) (\d+)$", stat, re.MULTILINE))
    return int(counts.get("total_inactive_file") or counts.get("inactive_file") or 0)


def _read(path: Path) -> str:
    """The text of a kernel file; empty if this system has none."""
    return path.read_text().strip() if path.is_file() else ""
