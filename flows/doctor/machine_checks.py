"""The checks of this machine: versions, cores, memory, disk, accelerator, Ray."""

from __future__ import annotations

import importlib.metadata as metadata
import os
import platform
import socket
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from flows.runtime import machine
from flows.runtime.machine import GIB
from flows.text import bare_uri

DISTRIBUTION = "layerprint"
PACKAGES = ("ray", "torch", "torchvision", "timm", "lancedb", "pylance", "pyarrow", "duckdb", "prefect",
            "fastapi", "sqlalchemy")  # fmt: skip
LEAST_MEMORY, ENOUGH_MEMORY = 2 * GIB, 4 * GIB
LEAST_DISK, ENOUGH_DISK = 1 * GIB, 5 * GIB
ENOUGH_SHM = 1 * GIB
RAY_FULL = 0.95
TORCH_LIMIT_S, RAY_LIMIT_S, CONNECT_LIMIT_S = 120.0, 120.0, 3.0
_RAY = """
import os, time
from actors.ray_cluster.private_ray import RAY_ENVIRONMENT, private_ray
for name, value in RAY_ENVIRONMENT.items():
    os.environ.setdefault(name, value)
start = time.perf_counter()
with private_ray(1):
    took = time.perf_counter() - start
print(f"{took:.1f}")
"""

Status = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """The finding of a check.

    Args:
        name: What was checked.
        status: An audit can run with "warn", but not with "fail".
        found: The version, amount or place.
        remedy: The command to run or the setting to change; empty if ok.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""


def exit_code(findings: Iterable[Finding]) -> int:
    """2 if any check failed, else 0.

    >>> exit_code([Finding("memory", "warn", "3.1 GiB", "close something")])
    0
    """
    return 2 if any(finding.status == "fail" for finding in findings) else 0


def check_python() -> Iterator[Finding]:
    version, required = platform.python_version(), metadata.metadata(DISTRIBUTION)["Requires-Python"]
    if SpecifierSet(required).contains(version, prereleases=True):
        yield Finding("python", "ok", version)
    else:
        yield Finding("python", "fail", f"{version}, needs {required}", "create a .venv with a Python in that range")


def check_packages() -> Iterator[Finding]:
    """Compare installed versions with the ranges in layerprint's metadata, without importing a package."""
    requirements = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]
    declared = {r.name.lower(): r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})}
    for name in PACKAGES:
        yield _package(name, declared[name])


def _package(name: str, required: Requirement) -> Finding:
    extras = f"[{','.join(sorted(required.extras))}]" if required.extras else ""
    remedy = f"pip install '{required.name}{extras}{required.specifier}'"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "fail", "not installed", remedy)
    if required.specifier.contains(version, prereleases=True):
        return Finding(name, "ok", version)
    return Finding(name, "fail", f"{version}, needs {required.specifier}", remedy)


def check_cores() -> Iterator[Finding]:
    cores = machine.usable_cores()
    if cores >= 2:
        yield Finding("cores", "ok", f"{cores:g} usable")
    else:
        yield Finding("cores", "warn", f"{cores:g} usable", "give the container at least 2 cores: --cpus=2")


def check_memory() -> Iterator[Finding]:
    free = machine.available_memory()
    yield amount(
        "memory", free, LEAST_MEMORY, ENOUGH_MEMORY, "close other programs, or raise the container's memory limit"
    )


def check_shared_memory() -> Iterator[Finding]:
    shm = Path("/dev/shm")
    if not shm.is_dir():
        yield Finding("shared memory", "ok", "not used on this system")
        return
    remedy = "use docker run --shm-size=2g (Kubernetes: an emptyDir with medium: Memory at /dev/shm)"
    yield amount("shared memory", machine.disk_at(shm).total, 0, ENOUGH_SHM, remedy)


def check_ray_disk() -> Iterator[Finding]:
    folder = machine.ray_folder()
    disk = machine.disk_at(folder)
    remedy = f"free space at {folder}, or export RAY_TMPDIR=/path/on/a/larger/disk"
    if disk.free < (1 - RAY_FULL) * disk.total:
        full = 1 - disk.free / disk.total
        yield Finding(
            "disk for ray", "warn", f"{full:.0%} full at {folder}; Ray stops spilling at {RAY_FULL:.0%}", remedy
        )
    else:
        yield amount("disk for ray", disk.free, LEAST_DISK, ENOUGH_DISK, remedy, f" at {folder}")


def check_ray_address() -> Iterator[Finding]:
    """Find a cluster that `ray.init` would join by accident; layerprint starts its own Ray by default."""
    record = machine.ray_folder() / "ray_current_cluster"
    address = os.environ.get("RAY_ADDRESS")
    if address is not None:
        found = f"RAY_ADDRESS is set to {bare_uri(address)}"
        yield Finding("ray address", "warn", found, "unset RAY_ADDRESS, unless audits are to run on that cluster")
    elif record.is_file() and not _listens(record.read_text().strip()):
        found = f"{record} names a cluster that does not answer"
        yield Finding("ray address", "warn", found, f"ray stop; rm {record}")
    else:
        yield Finding("ray address", "ok", "not set; each command starts a local Ray")


def check_device() -> Iterator[Finding]:
    try:
        device = machine.torch_devices(TORCH_LIMIT_S)
    except subprocess.TimeoutExpired:
        remedy = "run: python -c 'import torch; print(torch.cuda.device_count())'"
        yield Finding("device", "fail", f"torch did not answer within {TORCH_LIMIT_S:.0f} s", remedy)
    except subprocess.CalledProcessError as error:
        yield Finding(
            "device", "fail", f"torch: {_last_line(error)}", "pip install --force-reinstall torch torchvision"
        )
    else:
        yield device_finding(device, driver=Path("/proc/driver/nvidia/version").exists())


def device_finding(device: machine.Device, driver: bool) -> Finding:
    """Judge the device that torch would use, given whether an NVIDIA driver is installed."""
    if device.devices:
        found = ", ".join(f"{name} ({memory / GIB:.0f} GiB)" for name, memory in device.devices)
        return Finding("device", "ok", found)
    cpu = f"CPU, {machine.usable_cores():g} cores"
    if not driver:
        return Finding("device", "ok", cpu)
    reason = f"built for CUDA {device.built}" if device.built else "a CPU build"
    remedy = "check nvidia-smi and CUDA_VISIBLE_DEVICES, and install the torch build for this driver"
    return Finding(
        "device", "warn", f"{cpu}; an NVIDIA driver is installed, but torch ({reason}) sees no device", remedy
    )


def check_ray() -> Iterator[Finding]:
    """Start a real local Ray in a separate process, and measure the time."""
    remedy = "free memory and disk, and see that RAY_TMPDIR, if set, is a short path that can be written"
    try:
        took = machine.run_python(_RAY, RAY_LIMIT_S)
    except subprocess.TimeoutExpired:
        yield Finding("ray start", "fail", f"did not start within {RAY_LIMIT_S:.0f} s", remedy)
    except subprocess.CalledProcessError as error:
        yield Finding("ray start", "fail", f"did not start: {_last_line(error)}", remedy)
    else:
        yield Finding("ray start", "ok", f"started in {took} s")


def amount(name: str, available: int, least: int, enough: int, remedy: str, where: str = "") -> Finding:
    """Judge an amount in bytes: ok if at least `enough`, a warning if at least `least`, else a failure."""
    found = f"{available / GIB:.1f} GiB{where}"
    if available >= enough:
        return Finding(name, "ok", found)
    status: Status = "warn" if available >= least else "fail"
    return Finding(name, status, f"{found}, {enough / GIB:g} GiB recommended", remedy)


def _last_line(error: subprocess.CalledProcessError) -> str:
    lines = str(error.stderr or "").strip().splitlines()
    return lines[-1][:200] if lines else f"exit status {error.returncode}"


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_LIMIT_S):
            return True
    except (OSError, ValueError, OverflowError):
        return False
