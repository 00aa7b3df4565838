"""Embedding, from PNG objects on S3 to committed rows, against a bare loop of the same model on tensors in memory.

    python -m benchmarks.embedding [--images 2000] [--rounds 3] [--model vit_small_patch14_dinov2] [--image-size 112]

One machine, one after the other, in turns, since a machine's speed drifts by more than what is measured; the actor is
started and warm before its clock starts. The S3 server works on the same cores.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time

import numpy as np
import torch
import typer
from PIL import Image

from actors.encoder.config import EncoderConfig
from actors.encoder.model import Encoder
from actors.stages.context import StageContext
from actors.stages.embed import embed, resolve_encoder
from benchmarks.line import line
from flows.runtime.runtime import running
from flows.runtime.settings import MachineSettings
from storage.image_sets.open import list_images
from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.open import open_store


def main(images: int = 2000, rounds: int = 3, model: str = "vit_small_patch14_dinov2", image_size: int = 112) -> None:
    """Print the medians of both rates, and the ratio of the two with the ratios of the rounds."""
    config = EncoderConfig(model, "random", image_size=image_size)
    pixels = np.random.default_rng(0).integers(0, 256, (images, image_size, image_size, 3), np.uint8)
    bare, ours = [], []
    with tempfile.TemporaryDirectory() as folder, EmbeddedS3(folder) as server:
        os.environ.update(server.environment())
        server.make_bucket("context")
        for name, part in (("warm", pixels[:64]), ("all", pixels)):
            for i, image in enumerate(part):
                open_store(f"s3://context/{name}").put(f"{i:06d}.png", png(image))
        for number in range(rounds):
            bare.append(bare_seconds(config, pixels))
            ours.append(pipeline_seconds(config, images, f"s3://context/store-{number}"))
    ratio = statistics.median(bare) / statistics.median(ours)
    each = ", ".join(f"{one / other:.2f}" for one, other in zip(bare, ours, strict=True))
    figures = (
        f"{images / statistics.median(ours):.1f} images/s",
        f"{images / statistics.median(bare):.1f} of the bare loop; rounds {each}",
    )
    typer.echo(line(f"embedding {model} at {image_size} px, {images:,} images", f"{ratio:.2f}", *figures))


def pipeline_seconds(config: EncoderConfig, images: int, store: str) -> float:
    """Seconds from the listed set to its committed table in a new store."""
    with running() as runtime:
        context = StageContext(open_store(store), runtime.cluster, runtime.report)
        settings = runtime.embed_settings()
        facts = resolve_encoder(context, config)
        embed(context, config, facts, list_images("s3://context/warm/"), settings, "warm")
        manifest = list_images("s3://context/all/")
        began = time.monotonic()
        done = embed(context, config, facts, manifest, settings, "all")
        seconds = time.monotonic() - began
    if done.table.rows != images:
        raise SystemExit(f"{done.table.rows} rows instead of {images}")
    return seconds


def bare_seconds(config: EncoderConfig, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> float:
    """Seconds of the same encoder in a plain loop over arrays in memory: the same cores, the same batch."""
    settings = MachineSettings()
    torch.set_num_threads(settings.usable_cores())
    encoder, batch = Encoder(config), settings.batch_size
    encoder.embed(pixels[:batch])
    began = time.monotonic()
    for start in range(0, len(pixels), batch):
        encoder.embed(pixels[start : start + batch])
    return time.monotonic() - began


def png(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    """One image as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    typer.run(main)
