"""Audit the 14 MNIST generators of a data folder and print Â and C_T per layer.

    python -m benchmarks.mnist_generators DATA [--encoder digits|random|PATH] [--out FOLDER]

DATA holds ``mnist_train10k_test3k.npz`` (train, test) and ``mnist_generated.npz`` (500 images of each generator; the
VAEs of Meehan et al. 2020 memorize more with a larger latent dimension). ``digits`` is the demo's ViT, trained on UCI
digits; PATH is a state dict of timm's vit_small_patch14_dinov2, run at 112 pixels.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy.stats import spearmanr

from flows.audit import audit
from flows.cli.progress import ProgressBoard
from flows.demo.data import split_digits
from flows.demo.encoder import encoder_spec, train_encoder
from flows.results.audit_result import AuditResult
from flows.runtime.runtime import running
from flows.spec.spec import AuditSpec


def main(
    data: Path,
    encoder: Annotated[str, typer.Option(help="digits, random, or the path of a ViT-S/14 state dict")] = "digits",
    out: Annotated[Path | None, typer.Option(help="keep store and weights here")] = None,
) -> None:
    """Audit all generators, then print the tables."""
    folder = (out or Path(tempfile.mkdtemp(prefix="layerprint-context-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with ProgressBoard() as board, running(board.report) as runtime:
        report = audit(runtime, generator_spec(data.resolve(), encoder, folder))
    print_table("Â", report.outcomes, "a_hat")
    print_table("C_T", report.outcomes, "c_t")
    print_order(report.outcomes)


def generator_spec(data: Path, encoder: str, folder: Path) -> AuditSpec:
    """The spec of the benchmark."""
    with np.load(data / "mnist_generated.npz", allow_pickle=False) as arrays:
        names = sorted(arrays, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])
    return AuditSpec.model_validate(
        {
            "store": str(folder / f"audits-{re.sub(r'[^A-Za-z0-9]+', '-', encoder)[-40:]}"),
            "encoder": encoder_part(encoder, folder),
            "reference": {
                "name": "mnist",
                "train": f"{data}/mnist_train10k_test3k.npz#train",
                "held_out": f"{data}/mnist_train10k_test3k.npz#test",
            },
            "releases": [{"name": name, "images": f"{data}/mnist_generated.npz#{name}"} for name in names],
        }
    )


def encoder_part(encoder: str, folder: Path) -> dict[str, Any]:
    """The spec's encoder: the demo's ViT trained now, random weights, or a real ViT-S/14."""
    if encoder == "random":
        return {"model": "test_vit", "weights": "random", "image_size": 28, "model_args": {"patch_size": 4}}
    if encoder != "digits":
        return {"model": "vit_small_patch14_dinov2", "weights": str(Path(encoder).resolve()), "image_size": 112}
    weights = folder / "digits.safetensors"
    if not weights.exists():
        split = split_digits(0)
        train_encoder(split.encoder, split.encoder_labels, seed=0).save(weights)
    return encoder_spec(str(weights))


def print_table(title: str, outcomes: list[AuditResult], column: str) -> None:
    """A Markdown table: generators by layers."""
    layers = [row["layer"] for row in outcomes[0].scores]
    lines = [f"| {title} | " + " | ".join(map(str, layers)) + " |", "|---" * (len(layers) + 1) + "|"]
    for outcome in outcomes:
        cells = ["–" if row[column] is None else f"{row[column]:.2f}" for row in outcome.scores]
        lines.append(f"| {outcome.audit['release']} | " + " | ".join(cells) + " |")
    typer.echo("\n" + "\n".join(lines))


def print_order(outcomes: list[AuditResult]) -> None:
    """Rank correlation of Â with the latent dimension of the Meehan VAEs, per layer."""
    vaes = {
        int(match[1]): outcome
        for outcome in outcomes
        if (match := re.fullmatch(r"meehan_vae_d(\d+)", str(outcome.audit["release"])))
    }
    typer.echo("\nSpearman correlation of Â with the latent dimension (negative: larger = closer to train)")
    for at, row in enumerate(outcomes[0].scores):
        if row["informative"]:
            result = spearmanr(list(vaes), [vae.scores[at]["a_hat"] for vae in vaes.values()])
            typer.echo(f"layer {row['layer']:2}: {result.statistic:+.2f} (p {result.pvalue:.2g}, {len(vaes)} VAEs)")


if __name__ == "__main__":
    typer.run(main)
