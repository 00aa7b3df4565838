"""The closest pairs of an audit as one picture: the pairs that its report shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flows.report.figures.pairs import PairGroup, PairView
from flows.report.figures.vega import Spec, png
from flows.report.words import digits
from flows.text import one_line

TILE, GAP, COLUMNS = 128, 24, 4
PAIR_WIDTH = 2 * TILE + 6
PAIR_HEIGHT = TILE + 82
HEADING_HEIGHT = 34

Mark = dict[str, Any]


def pairs_picture(label: str, groups: Sequence[PairGroup]) -> bytes:
    """Draw each generated image beside its nearest training image, with distance, p-value and keys, as PNG.

    Args:
        label: The release.
        groups: Pairs by layer.
    """
    frames: list[Mark] = []
    images: list[Mark] = []
    texts: list[Mark] = []
    top = 0
    for group in groups:
        texts.append({"x": 0, "y": top + 12, "text": group.heading, "style": "heading"})
        top += HEADING_HEIGHT
        for place, pair in enumerate(group.pairs):
            row, column = divmod(place, COLUMNS)
            left, upper = column * (PAIR_WIDTH + GAP), top + row * PAIR_HEIGHT
            frames.append(
                {"x": left - 4, "x2": left + PAIR_WIDTH + 4, "y": upper - 4, "y2": upper + TILE + 4,
                 "identical": bool(pair.row["identical"])}
            )  # fmt: skip
            images += _images(pair, left, upper)
            texts += _texts(pair, left, upper + TILE)
        top += PAIR_HEIGHT * -(-len(group.pairs) // COLUMNS) + 8
    if not groups:
        texts.append({"x": 0, "y": 12, "text": "No pairs are stored with this audit.", "style": "caption"})
    title = {
        "text": f"{one_line(label, 80)}: closest pairs",
        "subtitle": "Left: generated image; right: its nearest training image. "
        "p: share of unseen real images that come at least as close, this image counted.",
        "offset": 20,
    }
    width = COLUMNS * (PAIR_WIDTH + GAP) - GAP
    layers = [_frames(frames), *_image_layers(images), *_text_layers(texts)]
    return png({"width": width, "height": max(top, 40), "title": title, "layer": layers}, scale=1.25)


def _images(pair: PairView, left: int, top: int) -> list[Mark]:
    places = ((pair.image, left), (pair.train, left + TILE + 6))
    return [
        {"x": x + TILE / 2, "y": top + TILE / 2, "url": picture.uri, "small": picture.small}
        for picture, x in places
        if picture
    ]


def _texts(pair: PairView, left: int, top: int) -> list[Mark]:
    row = pair.row
    numbers = f"distance {digits(row['distance'])} · p = {digits(row['p_value'])}"
    tag = "identical files" if row["identical"] else "near-duplicate" if row["near_duplicate"] else ""
    missing = [
        {"x": x + TILE / 2, "y": top - TILE / 2, "text": "not shown", "style": "missing"}
        for picture, x in ((pair.image, left), (pair.train, left + TILE + 6))
        if not picture
    ]
    return [
        *missing,
        {"x": left, "y": top + 18, "text": numbers, "style": "caption"},
        {"x": left + PAIR_WIDTH, "y": top + 18, "text": tag, "style": "tag"},
        {"x": left, "y": top + 36, "text": one_line(row["image_key"], 60), "style": "key"},
        {"x": left, "y": top + 53, "text": f"→ {one_line(row['train_key'], 60)}", "style": "key"},
    ]


TEXT_STYLES: dict[str, Spec] = {
    "heading": {"fontSize": 14, "fontWeight": "bold"},
    "caption": {"fontSize": 13, "limit": PAIR_WIDTH * 0.62},
    "tag": {"fontSize": 13, "fontWeight": "bold", "color": "var(--bad)", "align": "right", "limit": PAIR_WIDTH * 0.4},
    "key": {"fontSize": 12, "color": "var(--soft)", "limit": PAIR_WIDTH},
    "missing": {"fontSize": 12, "color": "var(--soft)", "align": "center"},
}

_AT: Spec = {
    axis: {"field": axis, "type": "quantitative", "scale": None, "axis": None} for axis in ("x", "y")
}  # pixels, from the upper left corner


def _frames(frames: list[Mark]) -> Spec:
    bad = {"test": "datum.identical", "value": "var(--bad)"}
    return {
        "data": {"values": frames},
        "mark": {"type": "rect", "fill": "var(--raised)"},
        "encoding": {
            **_AT,
            "x2": {"field": "x2"},
            "y2": {"field": "y2"},
            "stroke": {"condition": bad, "value": "var(--line)"},
            "strokeWidth": {"condition": {**bad, "value": 3}, "value": 1},
        },
    }


def _image_layers(images: list[Mark]) -> list[Spec]:
    """Images fitted into their tiles; small ones are enlarged without smoothing."""
    return [
        {
            "data": {"values": [image for image in images if image["small"] is small]},
            "mark": {"type": "image", "width": TILE, "height": TILE, "align": "center", "baseline": "middle",
                     "smooth": not small},
            "encoding": {**_AT, "url": {"field": "url"}},
        }
        for small in (True, False)
    ]  # fmt: skip


def _text_layers(texts: list[Mark]) -> list[Spec]:
    return [
        {
            "data": {"values": [text for text in texts if text["style"] == name]},
            "mark": {"type": "text", "align": "left", "baseline": "middle", **style},
            "encoding": {**_AT, "text": {"field": "text"}},
        }
        for name, style in TEXT_STYLES.items()
    ]
