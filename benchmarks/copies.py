"""What the copy score finds: altered copies on CIFAR-10, and what it says of honest images.

    python -m benchmarks.copies DATA --encoder WEIGHTS [--copies 200] [--views default|all] [--json]

DATA holds ``cifar10_train10k_test5k_jpeg.tar.xz`` and ``cifar10_generated_extra14_q75.tar.xz``; WEIGHTS are those of a
`vit_small_patch14_dinov2`. Every image that is made is saved once more as JPEG 75, like the data. Training images,
held-out images, honest images and canvases never overlap; the parameters of alterations are random
(`actors.encoder.alterations`).

CIFAR-10's test set holds near-duplicates of its training set. They stay among the held-out and among the honest images:
a rule that removes them from one alone would call honest releases copying.
"""

from __future__ import annotations

import io
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from actors.encoder.alterations import ALL_KINDS, HONEST, KINDS, Alteration
from actors.encoder.config import DEFAULT_VIEWS, EncoderConfig, ViewName
from actors.encoder.decode import through_jpeg, to_square
from actors.encoder.model import Encoder
from actors.encoder.views import VIEWS, view_of
from benchmarks.codec_parity import images
from scoring.copies.copy_score import CopyScale
from scoring.copies.evidence import Evidence, copy_evidence
from scoring.copies.token_space import TokenSpace, fit_token_space
from scoring.copies.train_tokens import TrainTokens
from scoring.verdict.copies import CopiesVerdict, copies_verdict
from scoring.verdict.planted import tail_line

Pictures = list[Image.Image]
Scores = NDArray[np.float64]

TRAIN, HELD_OUT, HONEST_IMAGES, CANVASES, SAMPLE, FIT = 300, 130, 100, 200, 2000, 600
"""Images a class; then training images in all that set the scale, and that the token space is fitted to."""

DRAWS, RELEASE, BATCH, PATCH = 200, 200, 64, 14
PLANTED = (0.0, 0.001, 0.005, 0.01, 0.02, 0.05)


class Scorer(NamedTuple):
    """All that turns pictures into evidence."""

    encoder: Encoder
    layer: int
    views: Sequence[ViewName]
    space: TokenSpace
    train: TrainTokens

    def evidence(self, pictures: Pictures, own: NDArray[np.int64] | None = None) -> Evidence:
        tokens = [tokens_of(self.encoder, pictures, self.layer, view) for view in self.views]
        return copy_evidence([self.space.project(each) for each in tokens], self.train, own)


def main(
    data: Path,
    encoder: str = typer.Option(..., help="weights of vit_small_patch14_dinov2"),
    layer: int = 4,
    copies: int = 200,
    views: str = "default",
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Print what is found, kind by kind, and how often honest releases are called copying."""
    rng = np.random.default_rng(1)
    train, test = by_class(data, "train"), by_class(data, "test")
    trained = [image for each in train.values() for image in each[:TRAIN]]
    held_out, honest, canvases = (
        [image for each in test.values() for image in each[start:stop]]
        for start, stop in ((0, HELD_OUT), (HELD_OUT, HELD_OUT + HONEST_IMAGES), (HELD_OUT + HONEST_IMAGES, 10**9))
    )
    model = Encoder(EncoderConfig(model="vit_small_patch14_dinov2", weights=encoder, image_size=112))
    tokens = tokens_of(model, trained, layer, DEFAULT_VIEWS[0])
    space = fit_token_space(tokens[rng.choice(len(tokens), FIT, replace=False)])
    scorer = Scorer(
        model,
        layer,
        DEFAULT_VIEWS if views == "default" else tuple(VIEWS),
        space,
        TrainTokens(space.project(tokens)),
    )
    sample = np.sort(rng.choice(len(trained), SAMPLE, replace=False))
    scale = CopyScale.of(scorer.evidence([trained[i] for i in sample], sample))
    held = scorer.evidence(held_out)
    held_scores = scale.score(held)
    found: dict[str, Any] = {"views": list(scorer.views)}
    honest_scores = {}
    for name, change in HONEST.items():
        honest_scores[name] = scale.score(scorer.evidence(altered(change, honest, canvases, rng)))
        _say(f"scored: honest, {name}")
    plain = honest_scores["as it is"]
    pool = []
    kinds: dict[str, Any] = {}
    for name, change in ALL_KINDS.items():
        sources = rng.choice(len(trained), copies, replace=False)
        evidence = scorer.evidence(altered(change, [trained[i] for i in sources], canvases, rng))
        kinds[name] = of_kind(evidence, sources, scale, held)
        _say(f"{name}: {kinds[name]}")
        if name in KINDS:
            pool.append(scale.score(evidence))
    found["kinds"] = kinds
    for measure in ("found", "late alone", "votes alone", "source right"):
        found[f"mean of {len(KINDS)}: {measure}"] = round(float(np.mean([kinds[name][measure] for name in KINDS])), 1)
    found["honest"] = {name: called(held_scores, plain, scores, rng) for name, scores in honest_scores.items()}
    found["one class"] = called_by_class(held_scores, plain, rng)
    found["generators"] = of_generators(scorer, scale, held_scores, data)
    found["lists"] = lists(np.concatenate([held_scores, plain]), np.concatenate(pool), rng)
    typer.echo(json.dumps(found, indent=None if as_json else 1, ensure_ascii=False))


def by_class(data: Path, split: str) -> dict[str, Pictures]:
    """The images of a split by their class, in the order of their names."""
    found: dict[str, dict[str, Image.Image]] = defaultdict(dict)
    for name, content in images(data / "cifar10_train10k_test5k_jpeg.tar.xz", split, 10**9):
        found[PurePosixPath(name).parent.name][name] = Image.open(io.BytesIO(content)).convert("RGB")
    return {name: [each[key] for key in sorted(each)] for name, each in sorted(found.items())}


def tokens_of(encoder: Encoder, pictures: Pictures, layer: int, view: ViewName) -> NDArray[np.float16]:
    """Patch tokens (n, t, d) of pictures in one view."""
    size, parts = encoder.config.image_size, []
    for start in range(0, len(pictures), BATCH):
        squares = np.stack([to_square(each, size, encoder.resample) for each in pictures[start : start + BATCH]])
        parts.append(encoder.patch_tokens(view_of(squares, view, PATCH), layer).astype(np.float16))
    return np.concatenate(parts)


def altered(change: Alteration, pictures: Pictures, canvases: Pictures, rng: np.random.Generator) -> Pictures:
    """Each picture altered, with a random canvas, and saved as JPEG 75."""
    return [through_jpeg(change(each, canvases[rng.integers(len(canvases))], rng), 75) for each in pictures]


def of_kind(evidence: Evidence, sources: NDArray[np.int64], scale: CopyScale, held: Evidence) -> dict[str, float]:
    """Percentages of one kind of copy above the 1 % line of the held-out images, and with the right source."""
    shares = {
        "found": scale.score(evidence) > tail_line(scale.score(held)),
        "late alone": evidence.late > tail_line(held.late),
        "votes alone": evidence.votes > tail_line(held.votes),
        "source right": scale.sources(evidence) == sources,
    }
    return {name: round(100 * float(share.mean()), 1) for name, share in shares.items()}


def judge(held: Scores, release: Scores) -> CopiesVerdict:
    """The verdict at the default gate."""
    return copies_verdict(held, release, max_copy_rate=0.0, detectable=0.01)


def is_called(held: Scores, release: Scores) -> bool:
    """Whether a release is called copying at the default gate."""
    return judge(held, release).verdict == "copying"


def called(
    held: Scores, honest: Scores, changed: Scores, rng: np.random.Generator, size: int = RELEASE
) -> dict[str, float]:
    """Of random releases of honest images, changed alike: the share called copying.

    Each is judged by other held-out images: half of them all, the honest images that are not in the release included.
    """
    calls = 0
    for _ in range(DRAWS):
        release = rng.choice(len(honest), min(size, len(honest)), replace=False)
        others = np.concatenate([held, np.delete(honest, release)])
        calls += is_called(rng.choice(others, len(others) // 2, replace=False), changed[release])
    above = float((changed > tail_line(held)).mean())
    return {"called, % of draws": round(100 * calls / DRAWS, 1), "above the 1 % line, %": round(100 * above, 1)}


def called_by_class(held: Scores, honest: Scores, rng: np.random.Generator) -> dict[str, Any]:
    """Releases of one class only, 60 images each: the share called copying, class by class."""
    classes = len(honest) // HONEST_IMAGES
    of_held, of_honest = held.reshape(classes, -1), honest.reshape(classes, -1)
    shares = []
    for one in range(classes):
        calls = 0
        for _ in range(DRAWS):
            both = rng.permutation(np.concatenate([of_held[one], of_honest[one]]))
            others = np.concatenate([np.delete(of_held, one, 0).ravel(), np.delete(of_honest, one, 0).ravel()])
            per_class = (len(both) - 60) * 9
            calibration = np.concatenate([both[60:], rng.choice(others, min(per_class, len(others)), replace=False)])
            calls += is_called(calibration, both[:60])
        shares.append(round(100 * calls / DRAWS, 1))
    return {"mean, % of draws": round(float(np.mean(shares)), 1), "of each class": shares}


def of_generators(scorer: Scorer, scale: CopyScale, held: Scores, data: Path) -> dict[str, Any]:
    """Fourteen CIFAR-10 generators, which trained on other images as well: at least how many copies."""
    sets: dict[str, Pictures] = defaultdict(list)
    for name, content in images(data / "cifar10_generated_extra14_q75.tar.xz", "", 10**9):
        sets[PurePosixPath(name).parent.name].append(Image.open(io.BytesIO(content)).convert("RGB"))
    judged = {name: judge(held, scale.score(scorer.evidence(some))) for name, some in sets.items()}
    return {name: f"{one.verdict}, {one.counts.at_least} of {one.counts.m}" for name, one in judged.items()}


def lists(honest: Scores, copied: Scores, rng: np.random.Generator) -> dict[str, Any]:
    """Releases of 600 images with a share of copies of all kinds: false share of the list, found, "at least" wrong."""
    rows = {}
    for rate in PLANTED:
        false, found, wrong, said, called_copying = [], [], 0, [], 0
        for _ in range(DRAWS):
            mixed = rng.permutation(honest)
            planted = rng.binomial(600, rate)
            some, unseen = mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :]
            scores = np.concatenate([rng.choice(copied, planted), unseen[: 600 - planted]])
            judged = judge(some, scores)
            listed, counts = judged.listed, judged.counts
            false.append(listed[planted:].sum() / max(1, listed.sum()))
            found.append(listed[:planted].sum() / max(1, planted))
            wrong += counts.at_least > planted
            said.append(counts.at_least / max(1, planted))
            called_copying += judged.verdict == "copying"
        rows[f"{100 * rate:g} % planted"] = {
            "false share of the list": round(float(np.mean(false)), 3),
            "copies listed, %": round(100 * float(np.mean(found)), 1),
            "called, %": round(100 * called_copying / DRAWS, 1),
            '"at least" too high, %': round(100 * wrong / DRAWS, 1),
            '"at least", share of the copies': round(float(np.mean(said)), 2),
        }
    return rows


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
