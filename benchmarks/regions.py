"""Whether the region of a copy is where the copied part is: parts of training images pasted at random, whole copies.

    python -m benchmarks.regions DATA --encoder WEIGHTS [--picture FILE] [--json]

DATA and WEIGHTS are those of `benchmarks.copies`. The true region of a pasted part is known; of a whole copy it is the
whole image, as it is and altered. Source and view are those that the copy score names, as in an audit.

The settings of the region are chosen on one half of the kinds and judged on the other, both ways. Parts that were moved
take no part in this.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from actors.encoder.alterations import KINDS
from actors.encoder.config import DEFAULT_VIEWS, EncoderConfig
from actors.encoder.decode import through_jpeg
from actors.encoder.model import Encoder
from actors.workers.copy_region import cells_seen
from benchmarks.copies import FIT, TRAIN, Pictures, Scorer, altered, by_class, tokens_of
from scoring.copies.copy_score import CopyScale
from scoring.copies.evidence import copy_evidence
from scoring.copies.region import NEIGHBOURHOOD, RIVALS, SHARE, Mask, cells, counted, on_image, patch_shares
from scoring.copies.token_space import fit_token_space
from scoring.copies.train_tokens import TrainTokens
from scoring.verdict.planted import tail_line

SIDE = 32
PARTS, COPIES, HELD_OUT, SAMPLE = 200, 60, 60, 500
"""Copies of each kind of part and of each other kind; held-out images a class; training images that set the scale."""

OVERLAP, COVER = 0.5, 0.8
"""A region is right when it overlaps the true one so far (IoU), and for a whole copy, when it covers so much."""

WHOLE = [name for name in KINDS if "pasted" not in name and "over it" not in name]
LIMITS = (0.02, 0.05, 0.1, 0.2)
AROUND = {"alone": np.ones((1, 1)), "nine alike": np.ones((3, 3)), "nine weighted": NEIGHBOURHOOD}

Box = tuple[int, int, int, int]
"""Left, top, width, height in pixels of the picture."""


class Copies(NamedTuple):
    """Altered copies of one kind: pictures, rows of their sources, and where the copied part is now and was there."""

    pictures: Pictures
    sources: NDArray[np.int64]
    now: list[Box]
    there: list[Box]


class Judged(NamedTuple):
    """One kind: the views and sources that the score names, and the shares of the patches of image and source."""

    copies: Copies
    found: NDArray[np.bool_]
    right: NDArray[np.bool_]
    views: NDArray[np.int64]
    shares: list[tuple[NDArray[np.float64], NDArray[np.float64]]]


def main(
    data: Path,
    encoder: str = typer.Option(..., help="weights of vit_small_patch14_dinov2"),
    layer: int = 4,
    picture: Path | None = None,
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Print how often the region is right, kind by kind."""
    rng = np.random.default_rng(5)
    train, test = by_class(data, "train"), by_class(data, "test")
    trained = [image for each in train.values() for image in each[:TRAIN]]
    held_out = [image for each in test.values() for image in each[:HELD_OUT]]
    canvases = [image for each in test.values() for image in each[HELD_OUT:]]
    model = Encoder(EncoderConfig(model="vit_small_patch14_dinov2", weights=encoder, image_size=112))
    tokens = tokens_of(model, trained, layer, DEFAULT_VIEWS[0])
    space = fit_token_space(tokens[rng.choice(len(tokens), FIT, replace=False)])
    scorer = Scorer(model, layer, DEFAULT_VIEWS, space, TrainTokens(space.project(tokens)))
    sample = np.sort(rng.choice(len(trained), SAMPLE, replace=False))
    scale = CopyScale.of(scorer.evidence([trained[i] for i in sample], sample))
    line = tail_line(scale.score(scorer.evidence(held_out)))
    rivals = TrainTokens(scorer.train.tokens[np.sort(rng.choice(len(trained), RIVALS, replace=False))])
    sets = {
        f"{part}{how}": pasted(trained, canvases, rng, part, **{how.strip(): True} if how else {})
        for part, how in product(("half", "quarter"), ("", " mirrored", " moved"))
    }
    for name in WHOLE:
        sources = rng.choice(len(trained), COPIES, replace=False)
        change = partial(altered, KINDS[name])
        boxes = [(0, 0, SIDE, SIDE)] * COPIES
        sets[name] = Copies(change([trained[i] for i in sources], canvases, rng), sources, boxes, boxes)
    judged = {name: judge(scorer, scale, line, rivals, copies) for name, copies in sets.items()}
    rows = {name: row(one, SHARE, NEIGHBOURHOOD) for name, one in judged.items()}
    result: dict[str, Any] = {"kinds": rows, "choice": choices(judged)}
    typer.echo(json.dumps(result, indent=None if as_json else 1, ensure_ascii=False))
    if picture is not None:
        drawn(judged, trained).save(picture, optimize=True)


def pasted(
    trained: Pictures,
    canvases: Pictures,
    rng: np.random.Generator,
    part: str,
    *,
    mirrored: bool = False,
    moved: bool = False,
) -> Copies:
    """Halves or quarters of training images at a random place of another image, at their own place or moved."""
    half, sizes = SIDE // 2, [(SIDE // 2, SIDE), (SIDE, SIDE // 2)]
    sources = rng.choice(len(trained), PARTS, replace=False)
    found = Copies([], sources, [], [])
    for source in sources:
        width, height = sizes[rng.integers(2)] if part == "half" else (half, half)
        left, top = (int(rng.integers(0, SIDE - length + 1)) for length in (width, height))
        to = (int(rng.integers(0, SIDE - width + 1)), int(rng.integers(0, SIDE - height + 1))) if moved else (left, top)
        piece = trained[source].crop((left, top, left + width, top + height))
        if mirrored:
            piece, to = ImageOps.mirror(piece), (SIDE - left - width, top)
        altered = canvases[rng.integers(len(canvases))].copy()
        altered.paste(piece, to)
        found.pictures.append(through_jpeg(altered, 75))
        found.now.append((*to, width, height))
        found.there.append((left, top, width, height))
    return found


def judge(scorer: Scorer, scale: CopyScale, line: float, rivals: TrainTokens, copies: Copies) -> Judged:
    """What the copy score says of some copies, and the shares of their patches."""
    tokens = [scorer.space.project(tokens_of(scorer.encoder, copies.pictures, scorer.layer, v)) for v in scorer.views]
    evidence = copy_evidence(tokens, scorer.train)
    views, sources = scale.views(evidence), scale.sources(evidence)
    shares = [
        patch_shares(tokens[view][at], scorer.train.tokens[source], rivals)
        for at, (view, source) in enumerate(zip(views, sources, strict=True))
    ]
    return Judged(copies, scale.score(evidence) > line, sources == copies.sources, views, shares)


def regions(one: Judged, at: int, limit: float, weights: NDArray[np.float64]) -> tuple[Mask, Mask]:
    """The cells of the copied region in an image and in its source."""
    image, source = (counted(shares, limit, weights) for shares in one.shares[at])
    return on_image(image, *cells_seen(DEFAULT_VIEWS[one.views[at]], len(image))), cells(source)


def overlap(region: Mask, box: Box) -> float:
    """Intersection over union of cells with a box."""
    zoom = SIDE // len(region)
    found = np.kron(region, np.ones((zoom, zoom), np.bool_))
    true = np.zeros_like(found)
    true[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = True
    return float((found & true).sum() / (found | true).sum())


def row(one: Judged, limit: float, weights: NDArray[np.float64]) -> dict[str, float]:
    """Percentages of one kind, regions of those copies whose source is right."""
    known: list[int] = np.flatnonzero(one.right).tolist()
    both = [regions(one, at, limit, weights) for at in known]
    now = np.array([overlap(each[0], one.copies.now[at]) for at, each in zip(known, both, strict=True)])
    there = np.array([overlap(each[1], one.copies.there[at]) for at, each in zip(known, both, strict=True)])
    enough = COVER if one.copies.now[0][2:] == (SIDE, SIDE) else OVERLAP
    percent = {
        "found": one.found.mean(),
        "source right": one.right.mean(),
        "region right": (now >= enough).mean(),
        "mean overlap": now.mean(),
        "region of the source right": (there >= enough).mean(),
    }
    return {name: round(100 * float(value), 1) for name, value in percent.items()} | {"of": len(known)}


def choices(judged: dict[str, Judged]) -> dict[str, Any]:
    """The settings with most right regions on one half of the kinds, and how many are right on the other half."""
    names = [name for name in judged if "moved" not in name]
    halves, found = (names[::2], names[1::2]), {}
    settings = list(product(LIMITS, AROUND))
    right = {
        (name, setting): row(judged[name], setting[0], AROUND[setting[1]])["region right"]
        for name in names
        for setting in settings
    }

    def mean(some: Sequence[str], setting: tuple[float, str]) -> float:
        return float(np.mean([right[name, setting] for name in some]))

    for chosen_on, judged_on in (halves, halves[::-1]):
        best = max(settings, key=lambda setting: mean(chosen_on, setting))
        found[", ".join(chosen_on)] = {"setting": best, "right on the others, %": round(mean(judged_on, best), 1)}
    found["mean of all"] = {f"{limit:g} {around}": round(mean(names, (limit, around)), 1) for limit, around in settings}
    return found


# -- the picture ------------------------------------------------------------------------------------------------

ZOOM, GAP, TEXT = 3, 8, 14
SHOWN = ("half", "quarter", "half mirrored", "half moved", "mirrored", "crop 70–80 %", "colours", "rotated 3–15°")


def drawn(judged: dict[str, Judged], trained: Pictures, columns: int = 2, each: int = 2) -> Image.Image:
    """The first copies of some kinds that are found, beside their sources, with the regions outlined."""
    side = ZOOM * SIDE
    width, height = each * (2 * side + 2 * GAP), side + TEXT + GAP
    sheet = Image.new("RGB", (columns * width + GAP, -(-len(SHOWN) // columns) * height + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number, name in enumerate(SHOWN):
        left, top = GAP + number % columns * width, GAP + number // columns * height
        pen.text((left, top), name.replace("–", "-").replace("°", " degrees"), fill="black")
        one = judged[name]
        for place, at in enumerate(np.flatnonzero(one.found & one.right)[:each]):
            both = regions(one, int(at), SHARE, NEIGHBOURHOOD)
            for second, (image, region) in enumerate(
                zip((one.copies.pictures[at], trained[one.copies.sources[at]]), both, strict=True)
            ):
                tile = outlined(image.resize((side, side), Image.Resampling.NEAREST), region)
                sheet.paste(tile, (left + place * (2 * side + 2 * GAP) + second * (side + 2), top + TEXT))
    return sheet.quantize(128)


def outlined(image: Image.Image, region: Mask) -> Image.Image:
    """An image whose copied region is outlined, and the rest of it paler."""
    size = image.width // len(region)
    inside = np.kron(region, np.ones((size, size), np.bool_))
    wide = np.pad(inside, 2)
    edge = np.zeros_like(inside)
    for dy, dx in product(range(5), range(5)):
        edge |= ~wide[dy : dy + len(inside), dx : dx + len(inside)]
    pixels = np.where(inside[..., None], np.asarray(image), np.asarray(image) // 2 + 127)
    return Image.fromarray(np.where((edge & inside)[..., None], [220, 30, 30], pixels).astype(np.uint8))


if __name__ == "__main__":
    typer.run(main)
