"""The copy score on real diffusion models whose copies are known.

    python -m benchmarks.dose DATA --encoder WEIGHTS [--json]

DATA holds ``mnist_ddpm_dose.npz`` (models trained on 64 to 4,096 MNIST images, one of them with 40 images repeated 100
times, one with random mirroring; 1,000 samples each, and what their pixels say: a copy is three times nearer to one
training image than to the next, in squared distance) and ``mnist_train10k_test3k.npz``. WEIGHTS are those of a
`vit_small_patch14_dinov2`. Per model: the true share of copies, and what the scores say without knowing it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from actors.encoder.config import DEFAULT_VIEWS, EncoderConfig
from actors.encoder.model import Encoder
from benchmarks.copies import Pictures, is_called, judge, tokens_of
from scoring.copies.copy_score import CopyScale
from scoring.copies.evidence import copy_evidence
from scoring.copies.token_space import fit_token_space
from scoring.copies.train_tokens import TrainTokens
from scoring.verdict.planted import tail_line

MODELS = ("n64", "n64mir", "n128", "n256", "n1024", "n4096", "n4096dup")
SAMPLE, FIT, SIZE = 2000, 600, 56
HONEST_DRAWS, HONEST_RELEASE = 100, 500


def main(
    data: Path,
    encoder: str = typer.Option(..., help="weights of vit_small_patch14_dinov2"),
    layer: int = 4,
    held_out: int = 1300,
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Print a row for every model."""
    doses, digits = np.load(data / "mnist_ddpm_dose.npz"), np.load(data / "mnist_train10k_test3k.npz")
    model = Encoder(EncoderConfig(model="vit_small_patch14_dinov2", weights=encoder, image_size=SIZE))
    views = {
        "train": _views(model, layer, _pictures(shrunk(digits["train"]))),
        "test": _views(model, layer, _pictures(shrunk(digits["test"][:2000]))),
    }
    rows = {}
    for name in MODELS:
        listed = doses[f"{name}_train_index"].astype(int)
        generated = _views(model, layer, _pictures(doses[f"{name}_generated"]))
        rows[name] = _judged(views, listed, generated, doses, name, held_out)
        print(name, rows[name], file=sys.stderr, flush=True)
    typer.echo(json.dumps(rows, indent=None if as_json else 1))


def _judged(
    views: dict[str, list[NDArray[np.float16]]],
    listed: NDArray[np.int64],
    generated: list[NDArray[np.float16]],
    doses: Any,
    name: str,
    held_out: int,
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    _, first = np.unique(views["train"][0][listed], axis=0, return_index=True)  # equal content only once
    distinct = listed[np.sort(first)]
    space = fit_token_space(views["train"][0][rng.permutation(distinct)[:FIT]])
    train = TrainTokens(space.project(views["train"][0][distinct]))
    sample = np.sort(rng.permutation(len(distinct))[:SAMPLE])
    left_out = [space.project(view[distinct[sample]]) for view in views["train"]]
    scale = CopyScale.of(copy_evidence(left_out, train, sample))
    test = scale.score(copy_evidence([space.project(view) for view in views["test"]], train))
    held, unseen = test[:held_out], test[held_out:]
    evidence = copy_evidence([space.project(view) for view in generated], train)
    scores = scale.score(evidence)
    judged = judge(held, scores)
    counts = judged.counts
    mirrored = "mir" in name
    d1, d2, nearest = (doses[f"{name}_{'aug_' if mirrored else ''}{key}"] for key in ("d1", "d2", "nearest"))
    truth = d1 < d2 / 3
    flagged = scores > tail_line(held)
    named = distinct[scale.sources(evidence)]
    calls = [is_called(held, rng.choice(unseen, HONEST_RELEASE, replace=False)) for _ in range(HONEST_DRAWS)]
    row: dict[str, Any] = {
        "true copies, %": _percent(truth.mean()),
        "above the 1 % line, %": _percent(flagged.mean()),
        "of the true ones, %": _share(flagged[truth]),
        "of the others, %": _share(flagged[~truth]),
        "source right, % of flagged copies": _share((named == nearest)[flagged & truth]),
        "at least": counts.at_least,
        "rate, %": [_percent(counts.low), _percent(judged.high)],
        "called": judged.verdict == "copying",
        "honest called, % of draws": _percent(np.mean(calls)),
    }
    repeats = doses[f"{name}_repeats"]
    if repeats.max() > 1:
        often = set(listed[repeats > 1].tolist())
        sources = named[flagged]
        row["flagged whose source is repeated, %"] = _share(np.isin(sources, list(often)))
        row["repeated images named"] = f"{len(often & set(sources.tolist()))} of {len(often)}"
    return row


def shrunk(digits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """28 × 28 digits as the models saw them: means of 2 × 2 pixels, 16 × 16 with a border."""
    halved = np.rint(digits.reshape(-1, 14, 2, 14, 2).astype(np.float32).mean((2, 4))).astype(np.uint8)
    return np.pad(halved, ((0, 0), (1, 1), (1, 1)))


def _pictures(digits: NDArray[np.uint8]) -> Pictures:
    return [Image.fromarray(digit).convert("RGB") for digit in digits]


def _views(model: Encoder, layer: int, pictures: Pictures) -> list[NDArray[np.float16]]:
    return [tokens_of(model, pictures, layer, view) for view in DEFAULT_VIEWS]


def _share(holds: NDArray[np.bool_]) -> float | None:
    """Of how many it holds, in per cent; None of nothing."""
    return _percent(holds.mean()) if holds.size else None


def _percent(share: float | np.floating) -> float:
    return round(100 * float(share), 2)


if __name__ == "__main__":
    typer.run(main)
