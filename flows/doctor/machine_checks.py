"""What `flows.doctor.checks` finds on this machine: versions, cores, memory, disk, accelerator, Ray."""

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
RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_AUTH_MODE": "disabled",
}

_RAY = """
import time, ray
start = time.perf_counter()
ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
took = time.perf_counter() - start
ray.shutdown()
print(f"{took:.1f}")
"""

Status = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """What one check found.

    Args:
        name: The thing checked.
        status: "warn" lets an audit run, "fail" does not.
        found: The version, amount or place found.
        remedy: What to type or change; empty when ok.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""


def exit_code(findings: Iterable[Finding]) -> int:
    """2 when anything failed, else 0.

    >>> exit_code([Finding("memory", "warn", "3.1 GiB", "close something")])
    0
    """
    return 2 if any(finding.status == "fail" for finding in findings) else 0


def check_python() -> Iterator[Finding]:
    found, wanted = platform.python_version(), metadata.metadata(DISTRIBUTION)["Requires-Python"]
    if SpecifierSet(wanted).contains(found, prereleases=True):
        yield Finding("python", "ok", found)
    else:
        yield Finding("python", "fail", f"{found}, wanted {wanted}", "make a .venv with a Python in that range")


def check_packages() -> Iterator[Finding]:
    """Installed versions against the ranges of layerprint's own metadata, without importing a package."""
    requirements = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or ()]
    declared = {r.name.lower(): r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})}
    for name in PACKAGES:
        yield _package(name, declared[name])


def _package(name: str, wanted: Requirement) -> Finding:
    extras = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
    remedy = f"pip install '{wanted.name}{extras}{wanted.specifier}'"
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "fail", "not installed", remedy)
    if wanted.specifier.contains(found, prereleases=True):
        return Finding(name, "ok", found)
    return Finding(name, "fail", f"{found}, wanted {wanted.specifier}", remedy)


def check_cores() -> Iterator[Finding]:
    cores = machine.usable_cores()
    if cores >= 2:
        yield Finding("cores", "ok", f"{cores:g} usable")
    else:
        yield Finding("cores", "warn", f"{cores:g} usable", "give the container 2 cores or more: --cpus=2")


def check_memory() -> Iterator[Finding]:
    free = machine.available_memory()
    yield amount("memory", free, LEAST_MEMORY, ENOUGH_MEMORY, "end other programs, or raise the container's limit")


def check_shared_memory() -> Iterator[Finding]:
    shm = Path("/dev/shm")
    if not shm.is_dir():
        yield Finding("shared memory", "ok", "not used on this system")
        return
    remedy = "docker run --shm-size=2g (Kubernetes: an emptyDir with medium: Memory at /dev/shm)"
    yield amount("shared memory", machine.disk_at(shm).total, 0, ENOUGH_SHM, remedy)


def check_ray_disk() -> Iterator[Finding]:
    folder = machine.ray_folder()
    disk = machine.disk_at(folder)
    remedy = f"free space at {folder}, or export RAY_TMPDIR=/a/larger/disk"
    if disk.free < (1 - RAY_FULL) * disk.total:
        full = 1 - disk.free / disk.total
        yield Finding("disk for ray", "warn", f"{full:.0%} full at {folder}: Ray stops spilling at 95 %", remedy)
    else:
        yield amount("disk for ray", disk.free, LEAST_DISK, ENOUGH_DISK, remedy, f" at {folder}")


def check_ray_address() -> Iterator[Finding]:
    """A cluster that another Ray program would join; layerprint starts its own unless told otherwise."""
    record = machine.ray_folder() / "ray_current_cluster"
    address = os.environ.get("RAY_ADDRESS")
    if address is not None:
        found = f"RAY_ADDRESS is set to {bare_uri(address)}"
        yield Finding("ray address", "warn", found, "unset RAY_ADDRESS, unless audits should run on that cluster")
    elif record.is_file() and not _listens(record.read_text().strip()):
        found = f"{record} names a cluster that does not answer"
        yield Finding("ray address", "warn", found, f"ray stop; rm {record}")
    else:
        yield Finding("ray address", "ok", "a local Ray for each run")


def check_device() -> Iterator[Finding]:
    try:
        device = machine.torch_devices(TORCH_LIMIT_S)
    except subprocess.TimeoutExpired:
        remedy = "try: python -c 'import torch; print(torch.cuda.device_count())'"
        yield Finding("device", "fail", f"torch gave no answer in {TORCH_LIMIT_S:.0f} s", remedy)
    except subprocess.CalledProcessError as error:
        yield Finding(
            "device", "fail", f"torch: {_last_line(error)}", "pip install --force-reinstall torch torchvision"
        )
    else:
        yield _device(device, driver=Path("/proc/driver/nvidia/version").exists())


def _device(device: machine.Device, driver: bool) -> Finding:
    if device.devices:
        found = ", ".join(f"{name} ({memory / GIB:.0f} GiB)" for name, memory in device.devices)
        return Finding("device", "ok", found)
    cpu = f"CPU, {machine.usable_cores():g} cores"
    if not driver:
        return Finding("device", "ok", cpu)
    reason = f"built for CUDA {device.built}" if device.built else "a CPU build"
    remedy = "check nvidia-smi and CUDA_VISIBLE_DEVICES; install the torch build for this driver"
    return Finding("device", "warn", f"{cpu}: an NVIDIA driver is there, but torch ({reason}) sees no device", remedy)


def check_ray() -> Iterator[Finding]:
    """Start a local Ray for real, in a process of its own, and say how long it took."""
    remedy = f"read the newest logs in {machine.ray_folder()}/session_latest/logs; then: ray stop --force"
    try:
        took = machine.run_python(_RAY, RAY_LIMIT_S, RAY_SETTINGS)
    except subprocess.TimeoutExpired:
        yield Finding("ray start", "fail", f"no start in {RAY_LIMIT_S:.0f} s", remedy)
    except subprocess.CalledProcessError as error:
        yield Finding("ray start", "fail", f"cannot start: {_last_line(error)}", remedy)
    else:
        yield Finding("ray start", "ok", f"started in {took} s")


def amount(name: str, found: int, least: int, enough: int, remedy: str, where: str = "") -> Finding:
    """Judge an amount in bytes: ok from `enough` on, a warning from `least` on, else a failure."""
    status: Status = "ok" if found >= enough else "warn" if found >= least else "fail"
    wanted = "" if status == "ok" else f", {enough / GIB:g} GiB wanted"
    return Finding(name, status, f"{found / GIB:.1f} GiB{where}{wanted}", "" if status == "ok" else remedy)


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
