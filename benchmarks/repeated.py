"""A repeated audit against the first one: the whole command `layerprint audit`, run twice on the same store.

    python -m benchmarks.repeated [--images 8000]

The second run finds everything in the store. What is left is the start: imports, Prefect's server, reading manifests
and results; it does not depend on the model, so the ratio falls with the length of the first run.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import typer

from benchmarks.command import run_command, write_audit
from benchmarks.line import line

ENCODER: dict[str, Any] = {"model": "vit_small_patch14_dinov2", "weights": "random", "image_size": 112}


def main(images: int = 8000) -> None:
    """Print both times and their ratio: half of the images are train, a quarter each held-out and the release's."""
    sizes = {"train": images // 2, "held_out": images // 4, "release": images // 4}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = write_audit(folder, sizes, ENCODER, side=32)
        first, second = (run_command(["audit", str(spec), "--json"], folder / "prefect") for _ in range(2))
    figures = f"{second.seconds / first.seconds:.1%}", f"{second.seconds:.1f} s", f"{first.seconds:.1f} s"
    typer.echo(line(f"repeated audit of {images:,} images, ViT-S/14 at 112 px", *figures))


if __name__ == "__main__":
    typer.run(main)
