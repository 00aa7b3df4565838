"""The command `layerprint` as its users run it: a process of its own, timed and its memory read from outside.

Linux only: memory is what ``/proc`` says.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

LOOK_EVERY_S = 0.1
SHARD_IMAGES = 10_000
PATTERNS = 300
MIB = 2**20


class Ran(NamedTuple):
    """A finished command: seconds, and the peak resident memory of processes in bytes.

    ``driver`` is the command itself with all its threads, ``actors`` the largest of Ray's worker processes (0 when
    none was started).
    """

    seconds: float
    driver: int
    actors: int


def run_command(arguments: list[str], home: Path) -> Ran:
    """Run one command to its end.

    Args:
        arguments: Those of `layerprint`.
        home: Folder for the state of Prefect, so that nothing of the user's is touched.

    Raises:
        SystemExit: The command failed; its words are shown.
    """
    env = {**os.environ, "PREFECT_HOME": str(home), "OMP_NUM_THREADS": ""}
    del env["OMP_NUM_THREADS"]  # each process decides by itself, as it does for a user
    began = time.monotonic()
    with (home.parent / "output").open("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli.main", *arguments], env=env, stdout=output, stderr=subprocess.STDOUT
        )
        driver = actors = 0
        while process.poll() is None:
            driver = max(driver, _peak(process.pid))
            actors = max([actors, *(_peak(pid) for pid in _descendants(process.pid) if _is_actor(pid))])
            time.sleep(LOOK_EVERY_S)
        seconds = time.monotonic() - began
        if process.returncode:
            output.seek(0)
            raise SystemExit(output.read())
    return Ran(seconds, driver, actors)


def _peak(pid: int) -> int:
    """The most bytes that a process ever held; 0 when it is gone."""
    found = [line.split()[1] for line in _read(pid, "status").splitlines() if line.startswith("VmHWM")]
    return int(found[0]) * 1024 if found else 0


def _is_actor(pid: int) -> bool:
    return _read(pid, "cmdline").startswith("ray::_Process")  # the class in `actors.ray_cluster.hosts`


def _descendants(pid: int) -> Iterator[int]:
    """All processes below one, by the kernel's list of each thread's children."""
    for task in Path(f"/proc/{pid}/task").glob("*"):
        for child in _read(pid, f"task/{task.name}/children").split():
            yield int(child)
            yield from _descendants(int(child))


def _read(pid: int, name: str) -> str:
    """A file of a process, empty when it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


# -- what is audited -------------------------------------------------------------------------------------------


def write_audit(folder: Path, sizes: dict[str, int], encoder: dict[str, Any], side: int) -> Path:
    """Image sets of these sizes (train, held_out, release) as tar shards of PNGs, and the spec that audits them.

    Args:
        folder: Where all of it goes, the store too.
        sizes: Images of each set.
        encoder: The spec's encoder.
        side: Pixels of an image, both sides.
    """
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (PATTERNS, side, side), np.int64)
    for name, images in sizes.items():
        (folder / name).mkdir(parents=True)
        for start in range(0, images, SHARD_IMAGES):
            count = min(SHARD_IMAGES, images - start)
            noise = rng.integers(-40, 41, (count, side, side))
            pixels = (patterns[rng.integers(0, PATTERNS, count)] + noise).clip(0, 255).astype(np.uint8)
            write_shard(folder / name / f"{start:09d}.tar", pixels)
    spec = {
        "store": str(folder / "store"),
        "encoder": encoder,
        "reference": {"name": "random", "train": str(folder / "train"), "held_out": str(folder / "held_out")},
        "releases": [{"name": "release", "images": str(folder / "release")}],
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def write_shard(path: Path, images: NDArray[np.uint8]) -> None:
    """A WebDataset shard of PNGs from (n, h, w)."""
    with tarfile.open(path, "w") as shard:
        for i, image in enumerate(images):
            data = io.BytesIO()
            Image.fromarray(image).save(data, "PNG")
            header = tarfile.TarInfo(f"{i:06d}.png")
            header.size = data.tell()
            data.seek(0)
            shard.addfile(header, data)
