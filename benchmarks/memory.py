"""Peak memory of an audit's driver and of its actors, at 10,000 and at 200,000 training images.

    python -m benchmarks.memory [--few 10000] [--many 200000]

The whole command `layerprint audit`, a tiny model on tar shards of tiny PNGs: what grows is what the driver keeps of
each image. The driver is its process with all threads, Prefect's included; Ray's processes count for themselves.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import typer

from benchmarks.command import MIB, Ran, run_command, write_audit
from benchmarks.line import line

ENCODER: dict[str, Any] = {
    "model": "test_vit",
    "weights": "random",
    "image_size": 8,
    "model_args": {"patch_size": 4},
    "layers": [1, 6],
}
OTHERS = 1000


def main(few: int = 10_000, many: int = 200_000) -> None:
    """Print the growth of the driver, and the largest actor."""
    small, large = measure(few), measure(many)
    name = f"memory of the driver, {few:,} to {many:,} images"
    if not large.actors:
        raise SystemExit("no actor was seen: what Ray calls its processes has changed")
    growth = (large.driver - small.driver) / MIB
    after, before = (f"{ran.driver / MIB:,.0f} MiB" for ran in (large, small))
    note = f"the audits took {large.seconds:.0f} s and {small.seconds:.0f} s"
    typer.echo(line(name, f"{growth:+.0f} MiB", after, before, note))
    share = f"{large.actors / (1536 * MIB):.2f} of what it may take"
    typer.echo(line(f"memory of an actor, {many:,} images", share, f"{large.actors / MIB:,.0f} MiB", "1,536 MiB"))


def measure(images: int) -> Ran:
    """Audit so many training images in a folder of their own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = {"train": images, "held_out": OTHERS, "release": OTHERS}
        spec = write_audit(folder, sizes, ENCODER, ENCODER["image_size"])
        return run_command(["audit", str(spec), "--json"], folder / "prefect")


if __name__ == "__main__":
    typer.run(main)
