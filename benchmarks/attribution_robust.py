"""Attribution after what happens to images: processed sets, sets of other content, and makers that are not enrolled.

    python -m benchmarks.attribution_robust DATA --encoder WEIGHTS [--out FOLDER] [--images 40] [--splits 4] [--json]

DATA holds ``cifar10_train10k_test5k_jpeg.tar.xz`` and ``cifar10_generated_extra14_q75.tar.xz``; WEIGHTS are those of a
`vit_small_patch14_dinov2`. Embeddings are kept in FOLDER. Half of each generator's images are enrolled, in several
random splits; sets of the others are asked for, as they are, processed as the enrolment tried it, processed in ways
that it did not try, and of some contents alone (as a classifier of real images sees them); then once more without
their maker. Every processed image is saved again as JPEG 75, like the data.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from sklearn.linear_model import LogisticRegression

from actors.encoder.config import EncoderConfig
from actors.encoder.decode import decode, through_jpeg, to_square
from actors.encoder.model import Encoder
from actors.encoder.processing import PROCESSINGS, Processing, processed
from benchmarks.codec_parity import images
from benchmarks.open_set import auroc
from scoring.attribution.attribute import Attribution, attribute
from scoring.attribution.background import Background, Shift, layer_background
from scoring.attribution.enrolment import Enrolment, enrol
from scoring.attribution.profile import Profile, Run, cut, merged
from scoring.partition.fit import Partition, fit_partition
from scoring.partition.moments import Moments

Rows = NDArray[np.intp]
Vectors = NDArray[np.float32]

TRAIN, HELD_OUT, BATCH = 250, 60, 64
"""Real images of each class that coordinates, and the background, are learnt from; images of a forward pass."""

ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
CONTENTS: dict[str, Callable[[str], bool]] = {
    "animals alone": lambda name: name in ANIMALS,
    "vehicles alone": lambda name: name not in ANIMALS,
    "without cars": lambda name: name != "automobile",
}


def _blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(0.5))


def _noisy(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image, np.float64)
    noise = np.random.default_rng(int(pixels.sum())).normal(0, 4, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).round().astype(np.uint8))


def _scaled(image: Image.Image, side: int) -> Image.Image:
    small = image.resize((side, side), Image.Resampling.LANCZOS)
    return small.resize(image.size, Image.Resampling.LANCZOS)


def _cropped(image: Image.Image) -> Image.Image:
    return image.resize(image.size, Image.Resampling.LANCZOS, box=(2, 2, 30, 30))


NOT_TRIED: dict[str, Processing] = {
    "JPEG 60": lambda image: through_jpeg(image, 60),
    "JPEG 42": lambda image: through_jpeg(image, 42),
    "resizing to 75 % and back": lambda image: _scaled(image, 24),
    "cropping to 88 %": _cropped,
    "noise of 4 levels": _noisy,
    "blur of 0.5 pixels": _blurred,
    "cropping to 94 %, JPEG 50": lambda image: through_jpeg(PROCESSINGS["cropping to 94 %"](image), 50),
}
"""What the enrolment does not try."""


class Maker(NamedTuple):
    """A generator: version → projected embeddings of each layer (n, k), and the content of each image."""

    name: str
    versions: dict[str, list[Vectors]]
    content: NDArray[np.str_]

    @property
    def images(self) -> int:
        return len(self.content)


class World(NamedTuple):
    """All generators, and what real images say."""

    makers: list[Maker]
    background: Background


def main(
    data: Path,
    encoder: Annotated[str, typer.Option(help="weights of vit_small_patch14_dinov2")],
    out: Annotated[Path | None, typer.Option(help="keep embeddings here")] = None,
    size: Annotated[int, typer.Option("--images", help="images of a set; smaller halves are asked whole")] = 40,
    splits: int = 4,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Print one row per condition."""
    folder = out or Path(tempfile.mkdtemp(prefix="layerprint-attribution-"))
    folder.mkdir(parents=True, exist_ok=True)
    world = load_world(data, encoder, folder)
    rows: dict[str, list[Answered]] = defaultdict(list)
    for split in range(splits):
        for name, answered in ask(world, size, np.random.default_rng(split)).items():
            rows[name] += answered
    table = {name: summary(answered) for name, answered in rows.items()}
    if as_json:
        typer.echo(json.dumps(table, ensure_ascii=False))
        return
    columns = list(next(iter(table.values())))
    typer.echo("| set | " + " | ".join(columns) + " |\n|---" + "|---:" * len(columns) + "|")
    for name, row in table.items():
        typer.echo(f"| {name} | " + " | ".join(f"{value:g}" for value in row.values()) + " |")


# -- material --------------------------------------------------------------------------------------------------


def load_world(data: Path, weights: str, folder: Path) -> World:
    """Embed all images in all versions, or read what was embedded before, and project it."""
    generated: dict[str, list[bytes]] = defaultdict(list)
    for name, content in images(data / "cifar10_generated_extra14_q75.tar.xz", "", 10**9):
        generated[PurePosixPath(name).parent.name].append(content)
    train, train_class = _real(data, "train", TRAIN)
    held_out, _ = _real(data, "test", HELD_OUT)
    every = {**PROCESSINGS, **NOT_TRIED}
    embedder = _Embedder(weights, folder)
    real = embedder.embed("train", train, {})[""]
    partitions = [fit_partition(Moments.of(x), x, components=64, cells=30, seed=0) for x in real]
    background = _background(partitions, embedder.embed("held-out", held_out, PROCESSINGS))
    classifier = LogisticRegression(C=0.1, max_iter=500).fit(partitions[-1].project(real[-1]), train_class)
    makers = []
    for name, contents in sorted(generated.items()):
        versions = {
            version: [partition.project(x) for partition, x in zip(partitions, layers, strict=True)]
            for version, layers in embedder.embed(name, contents, every).items()
        }
        makers.append(Maker(name, versions, classifier.predict(versions[""][-1])))
    return World(makers, background)


class _Embedder:
    """Embeds images in several versions, once."""

    def __init__(self, weights: str, folder: Path) -> None:
        self.folder, self.weights = folder, weights
        self._encoder: Encoder | None = None

    def embed(self, name: str, contents: Sequence[bytes], versions: dict[str, Processing]) -> dict[str, list[Vectors]]:
        """Version → embeddings (n, d) of each layer; "" is the images as they are."""
        kept = self.folder / f"{name}.npz"
        if not kept.exists():
            typer.echo(f"embedding {name}", err=True)
            originals = [decode(content) for content in contents]
            found = {"": self._pass([image.rgb for image in originals])}
            for version, change in versions.items():
                found[version] = self._pass([processed(image, change).rgb for image in originals])
            np.savez(kept, allow_pickle=False, **{f"v {version}": x for version, x in found.items()})
        with np.load(kept) as arrays:
            return {
                version: list(np.moveaxis(arrays[f"v {version}"].astype(np.float32), 1, 0))
                for version in ("", *versions)
            }

    def _pass(self, pictures: Sequence[Image.Image]) -> NDArray[np.float16]:
        if self._encoder is None:
            config = EncoderConfig(model="vit_small_patch14_dinov2", weights=self.weights, image_size=112)
            self._encoder = Encoder(config)
        encoder, parts = self._encoder, []
        for start in range(0, len(pictures), BATCH):
            batch = pictures[start : start + BATCH]
            layers = encoder.embed(np.stack([to_square(one, 112, encoder.resample) for one in batch]))
            parts.append(np.stack([layers[layer] for layer in encoder.layers], axis=1).astype(np.float16))
        return np.concatenate(parts)


def _real(data: Path, split: str, count: int) -> tuple[list[bytes], list[str]]:
    by_class: dict[str, dict[str, bytes]] = defaultdict(dict)
    for name, content in images(data / "cifar10_train10k_test5k_jpeg.tar.xz", split, 10**9):
        by_class[PurePosixPath(name).parent.name][name] = content
    chosen = [(one[key], name) for name, one in sorted(by_class.items()) for key in sorted(one)[:count]]
    return [content for content, _ in chosen], [name for _, name in chosen]


def _background(partitions: Sequence[Partition], held_out: dict[str, list[Vectors]]) -> Background:
    cell = partitions[-1].assign(partitions[-1].project(held_out[""][-1]))
    layers = []
    for i, partition in enumerate(partitions):
        original = partition.project(held_out[""][i])
        after = {name: partition.project(held_out[name][i]) for name in TRIED}
        layers.append(layer_background(original, cell, original, after))
    return Background(tuple(layers), TRIED)


TRIED = tuple(PROCESSINGS)


# -- trials ----------------------------------------------------------------------------------------------------


class Answered(NamedTuple):
    """The answer for one set with its maker enrolled, and without; and that of the classifier of single images."""

    maker: str
    enrolled: Attribution
    stranger: Attribution
    classifier: str


def ask(world: World, size: int, rng: np.random.Generator) -> dict[str, list[Answered]]:
    """One split: every condition's answers."""
    halves = [np.array_split(rng.permutation(maker.images), 2) for maker in world.makers]
    runs = [_run(maker, np.sort(half[0])) for maker, half in zip(world.makers, halves, strict=True)]
    everyone = enrol(runs, world.background)
    without = [enrol(runs[:k] + runs[k + 1 :], world.background) for k in range(len(runs))]
    classifier = _Classifier(world.makers, [half[0] for half in halves])
    found: dict[str, list[Answered]] = defaultdict(list)
    for k, (maker, half) in enumerate(zip(world.makers, halves, strict=True)):
        for rows in np.array_split(half[1], max(1, round(len(half[1]) / size))):
            for version in maker.versions:
                name = version or "as it is"
                mark = "" if version in ("", *TRIED) else " *"
                found[name + mark].append(_answered(maker, version, rows, everyone, without[k], classifier))
        for name, belongs in CONTENTS.items():
            chosen = half[1][[belongs(one) for one in maker.content[half[1]]]][:size]
            if len(chosen) >= 15:
                found[name].append(_answered(maker, "", chosen, everyone, without[k], classifier))
    return found


def _answered(
    maker: Maker, version: str, rows: Rows, everyone: Enrolment, without: Enrolment, classifier: _Classifier
) -> Answered:
    profile = _profile(maker, version, rows)
    return Answered(
        maker.name, attribute(profile, everyone), attribute(profile, without), classifier.name(maker, version, rows)
    )


def _profile(maker: Maker, version: str, rows: Rows) -> Profile:
    """The signature of some images; the curve is that of images without a maker, and stays out (weight 0)."""
    layers = [x[rows] for x in maker.versions[version]]
    flat = np.random.default_rng(0).uniform(0.2, 0.8, (len(rows), len(layers)))
    return Profile(Moments.of(flat), tuple(Moments.of(x) for x in layers), np.full(len(layers), np.nan))


def _run(maker: Maker, rows: Rows) -> Run:
    part = cut(len(rows), seed=0)
    of_part = [rows[part == i] for i in range(int(part.max()) + 1)]
    parts = tuple(_profile(maker, "", chosen) for chosen in of_part)
    shifts = tuple({name: _shift(maker, name, chosen) for name in TRIED} for chosen in of_part)
    return Run(maker.name, "1", merged(parts), parts, shifts)


def _shift(maker: Maker, version: str, rows: Rows) -> Shift:
    pairs = zip(maker.versions[version], maker.versions[""], strict=True)
    return Shift(
        len(rows), tuple((after[rows] - before[rows]).mean(axis=0, dtype=np.float64) for after, before in pairs)
    )


class _Classifier:
    """Logistic regression on single images, trained on the enrolled ones in all versions that the enrolment tries."""

    def __init__(self, makers: Sequence[Maker], enrolled: Sequence[Rows]) -> None:
        x, y = [], []
        for maker, rows in zip(makers, enrolled, strict=True):
            for version in ("", *TRIED):
                x.append(np.concatenate([layer[rows] for layer in maker.versions[version]], axis=1))
                y += [maker.name] * len(rows)
        stacked = np.concatenate(x)
        self.scale = stacked.std(axis=0)
        self.model = LogisticRegression(C=0.003, max_iter=60, class_weight="balanced").fit(stacked / self.scale, y)

    def name(self, maker: Maker, version: str, rows: Rows) -> str:
        """The maker that all images of a set make most probable together."""
        x = np.concatenate([layer[rows] for layer in maker.versions[version]], axis=1) / self.scale
        return str(self.model.classes_[self.model.predict_log_proba(x).sum(axis=0).argmax()])


def summary(answered: Sequence[Answered]) -> dict[str, float]:
    """Shares in per cent of one condition's sets."""
    own = [next(c for c in one.enrolled.candidates if c.maker == one.maker) for one in answered]
    first = [one.enrolled.candidates[0].maker == one.maker for one in answered]
    alone = [one.enrolled.verdict == "attributed" for one in answered]
    several = [one.enrolled.verdict == "one of" for one in answered]
    names = [c.named for c, a, s in zip(own, alone, several, strict=True) if a or s]
    strange = [one.stranger.verdict for one in answered]
    return {
        "sets": len(answered),
        "right %": _percent(first),
        "classifier right %": _percent([one.classifier == one.maker for one in answered]),
        "refused %": _percent([c.p_value <= 0.05 for c in own]),
        "attributed %": _percent(alone),
        "of these wrong %": _percent([not right for right, a in zip(first, alone, strict=True) if a]),
        "one of %": _percent(several),
        "own among named %": _percent(names),
        "stranger unknown %": _percent([verdict == "unknown" for verdict in strange]),
        "stranger named %": _percent([verdict in ("attributed", "one of") for verdict in strange]),
        "stranger AUROC": round(
            auroc(
                -np.array([one.enrolled.unknown for one in answered]),
                -np.array([one.stranger.unknown for one in answered]),
            ),
            2,
        ),
    }


def _percent(found: Sequence[bool]) -> float:
    return round(100 * float(np.mean(found)), 1) if found else float("nan")


if __name__ == "__main__":
    typer.run(main)
