"""The pictures of an audit: Â per layer of every release, and a sheet of the closest pairs.

Both functions turn plain records into the bytes of a PNG. They touch no file and no pyplot state, ignore the
user's matplotlib configuration, and give the same bytes for the same records. Names come from untrusted
files: they are cut, cleaned of what cannot be printed, and never read as mathtext or TeX.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import IdentityTransform
from numpy.typing import NDArray
from PIL import Image

from flows.report.figures.drawing import (
    CLEAR,
    COPYING,
    DPI,
    GREY,
    MOST_BANDS,
    Sheet,
    Stroke,
    choose_strokes,
    fit,
    png,
    printable,
    shrink,
    spread,
)

CURVES_WIDTH, CURVES_HEIGHT = 1200, 800
MOST_PAIRS = 10
LABEL_GAP = 19.0
MEANING = "Â: chance that a generated image lies farther from training images than an unseen real image does"
SIDES = "left: generated, right: its nearest training image;  d: distance,  p: per-image p-value"


class Curve(NamedTuple):
    """Â of one release over the layers.

    Args:
        label: Name of the release.
        layers: Layer numbers, ascending.
        a_hat: Â in [0, 1] per layer, None where the layer has no information.
        low: Lower end of the 95 % interval per layer.
        high: Upper end of the 95 % interval per layer.
        copying: Whether the copying verdict was given.
    """

    label: str
    layers: list[int]
    a_hat: list[float | None]
    low: list[float | None]
    high: list[float | None]
    copying: bool


class Pair(NamedTuple):
    """A generated image and its nearest training image.

    Args:
        image: The generated image, any size and mode.
        train: The training image, any size and mode.
        distance: Distance between the two in the layer's space.
        p_value: Conformal p-value of the generated image.
        identical: Whether the two files are the same bytes.
        image_key: Key of the generated image.
        train_key: Key of the training image.
    """

    image: Image.Image
    train: Image.Image
    distance: float
    p_value: float
    identical: bool
    image_key: str
    train_key: str


def draw_curves(curves: Sequence[Curve], title: str) -> bytes:
    """Draw Â per layer with its 95 % interval, one line a release.

    Args:
        curves: At least one curve; those of one picture may cover different layers.
        title: Heading, one line.

    Returns:
        A PNG of 1200 × 800 pixels.

    Raises:
        ValueError: No curve, or a curve whose lists are empty or differ in length.
    """
    if not curves:
        raise ValueError("curves: found none, at least one is needed")
    for curve in curves:
        lengths = [len(curve.layers), len(curve.a_hat), len(curve.low), len(curve.high)]
        if len(set(lengths)) != 1 or 0 in lengths:
            raise ValueError(f"curve {curve.label!r}: layers, a_hat, low, high have lengths {lengths}")
    empty = _empty_layers(curves)
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(CURVES_WIDTH / DPI, CURVES_HEIGHT / DPI), dpi=DPI)
        heading = figure.text(0.02, 0.955, printable(title, 100), fontsize=15, weight="bold", parse_math=False)
        shrink(heading, 0.96 * CURVES_WIDTH)
        figure.text(0.02, 0.918, MEANING, fontsize=10.5, color=GREY)
        axes = figure.add_axes((0.115, 0.135, 0.665, 0.745))
        _frame(axes, curves, empty)
        strokes = choose_strokes([curve.copying for curve in curves])
        for curve, stroke in zip(curves, strokes, strict=True):
            _curve(axes, curve, stroke, len(curves) > MOST_BANDS, empty)
        _end_labels(axes, curves, strokes)
        _legend(figure, curves, empty)
        return png(figure)


def _column(values: Sequence[float | None]) -> NDArray[np.float64]:
    """None becomes NaN, which matplotlib leaves out of a line."""
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)


def _empty_layers(curves: Sequence[Curve]) -> list[int]:
    """Layers about which no curve knows anything."""
    seen = {layer for curve in curves for layer in curve.layers}
    known = {x for curve in curves for x, y in zip(curve.layers, _column(curve.a_hat), strict=True) if y == y}
    return sorted(seen - known)


def _frame(axes: Axes, curves: Sequence[Curve], empty: Collection[int]) -> None:
    layers = sorted({layer for curve in curves for layer in curve.layers})
    ends = np.concatenate([_column(values) for c in curves for values in (c.a_hat, c.low, c.high)])
    ends = ends[np.isfinite(ends)]
    bottom = max(min([0.35, *(ends - 0.03)]), -0.02)
    top = min(max([0.65, *(ends + 0.03)]), 1.02)
    axes.set(xlim=(layers[0] - 0.6, layers[-1] + 0.6), ylim=(bottom, top), xticks=layers)
    axes.set_yticks([tick / 10 for tick in range(11) if bottom <= tick / 10 <= top])
    axes.set_xlabel("layer of the encoder  (early: pixels and texture, late: meaning)", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.axhspan(bottom, 0.5, color="#FBEFE6", zorder=0)
    axes.axhline(0.5, color="black", linewidth=1.2, zorder=1)
    margin = axes.get_yaxis_transform()
    below, above = (0.5 + bottom) / 2, (0.5 + top) / 2
    for y, text in ((below, "closer to\ntraining images"), (above, "farther from\ntraining images")):
        axes.text(-0.075, y, text, transform=margin, rotation=90, ha="center", va="center", fontsize=11)
    axes.text(-0.05, 0.5, "like unseen\nreal images", transform=margin, ha="right", va="center", fontsize=10)
    for x in empty:
        axes.axvspan(x - 0.35, x + 0.35, facecolor="#EEEEEE", edgecolor="#CCCCCC", hatch="///", linewidth=0)
        axes.text(x, (bottom + top) / 2, "no information", rotation=90, ha="center", va="center", fontsize=10,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 3})  # fmt: skip


def _curve(axes: Axes, curve: Curve, stroke: Stroke, many: bool, empty: Collection[int]) -> None:
    x, y = np.array(curve.layers) + stroke.shift, _column(curve.a_hat)
    low, high = _column(curve.low), _column(curve.high)
    known = np.isfinite(y) & np.isfinite(low) & np.isfinite(high)
    beside = np.pad(known, 1)
    bars = known if many else known & ~beside[:-2] & ~beside[2:]
    if not many:
        axes.fill_between(x, low, high, where=known.tolist(), color=stroke.colour, alpha=0.16, linewidth=0)
    axes.vlines(x[bars], low[bars], high[bars], color=stroke.colour, linewidth=1.3, alpha=0.55)
    axes.plot(x, y, color=stroke.colour, linestyle=stroke.dash, linewidth=stroke.width, marker=stroke.marker,
              markersize=6, markerfacecolor=stroke.fill, zorder=4 if curve.copying else 3)  # fmt: skip
    gaps = x[~np.isfinite(y) & ~np.isin(curve.layers, list(empty))]
    axes.plot(gaps, np.full(len(gaps), 0.02), linestyle="none", marker="x", color=stroke.colour,
              markersize=7, transform=axes.get_xaxis_transform(), zorder=5)  # fmt: skip


def _end_labels(axes: Axes, curves: Sequence[Curve], strokes: Sequence[Stroke]) -> None:
    """Name every curve in the right margin, joined by a thin line to its last point."""
    ends = []
    for curve, stroke in zip(curves, strokes, strict=True):
        known = [(x, y) for x, y in zip(curve.layers, _column(curve.a_hat), strict=True) if y == y]
        layer, y = known[-1] if known else (curve.layers[-1], 0.5)
        ends.append((float(y), layer + stroke.shift, curve, stroke))
    ends.sort(key=lambda end: end[0])
    box = axes.get_window_extent()
    wanted = [float(axes.transData.transform((x, y))[1]) for y, x, _, _ in ends]
    heights = spread(wanted, LABEL_GAP, box.y0, box.y1)
    size = 10.5 * min(1.0, box.height / (LABEL_GAP * len(ends)))
    for height, (y, x, curve, stroke) in zip(heights, ends, strict=True):
        text = printable(curve.label, 26) + (" ◆" if curve.copying else "")
        line = {"arrowstyle": "-", "color": stroke.colour, "linewidth": 0.7, "alpha": 0.6, "shrinkB": 5}
        label = axes.annotate(
            text, xy=(x, y), xytext=(box.x1 + 14, height), textcoords="figure pixels", va="center",
            fontsize=size, color=stroke.colour, weight="bold" if curve.copying else "normal",
            parse_math=False, annotation_clip=False, arrowprops={**line, "shrinkA": 1},
        )  # fmt: skip
        shrink(label, CURVES_WIDTH - box.x1 - 24)


def _legend(figure: Figure, curves: Sequence[Curve], empty: Collection[int]) -> None:
    handles = []
    if any(curve.copying for curve in curves):
        handles.append(Line2D([], [], color=COPYING[0], marker="D", linewidth=2.4, label="copying"))
    if not all(curve.copying for curve in curves):
        clear = "not flagged as copying"
        handles.append(Line2D([], [], color=CLEAR[0], marker="o", markerfacecolor="white", label=clear))
    if len(curves) > MOST_BANDS:
        handles.append(Line2D([], [], color=GREY, marker="|", markersize=15, markeredgewidth=1.6,
                              linestyle="none", label="95 % interval"))  # fmt: skip
    else:
        handles.append(Line2D([], [], color=GREY, linewidth=9, alpha=0.3, label="95 % interval"))
    gaps = {x for c in curves for x, y in zip(c.layers, _column(c.a_hat), strict=True) if y != y}
    if gaps - set(empty):
        handles.append(Line2D([], [], color=GREY, marker="x", linestyle="none", label="no information"))
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=10.5,
                  bbox_to_anchor=(0.45, 0.005))  # fmt: skip


def draw_pairs(pairs_by_layer: Mapping[int, Sequence[Pair]], title: str) -> bytes:
    """Draw the closest pairs: a row per layer, each generated image beside its nearest training image.

    Args:
        pairs_by_layer: Pairs of each layer, closest first; the first ten of a layer are drawn.
        title: Heading, one line.

    Returns:
        A PNG as wide and high as the pairs need.
    """
    columns = max([1, *(min(len(pairs), MOST_PAIRS) for pairs in pairs_by_layer.values())])
    sheet = Sheet(rows=max(1, len(pairs_by_layer)), columns=columns)
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(sheet.width / DPI, sheet.height / DPI), dpi=DPI)
        sheet.write(figure, 16, 24, printable(title, 100), 13, weight="bold", room=sheet.width - 32)
        sheet.write(figure, 16, 49, SIDES, 9, color=GREY)
        if not pairs_by_layer:
            sheet.write(figure, 16, sheet.top(0) + 20, "no pairs", 10, color=GREY)
        for row, (layer, pairs) in enumerate(pairs_by_layer.items()):
            middle = sheet.top(row) + sheet.tile / 2
            sheet.write(figure, 16, middle, f"layer {layer}", 11, weight="bold", room=76)
            if not pairs:
                sheet.write(figure, sheet.left(0), middle, "no pairs", 10, color=GREY)
            for column, pair in enumerate(pairs[:MOST_PAIRS]):
                _pair(figure, sheet, row, column, pair)
        return png(figure)


def _pair(figure: Figure, sheet: Sheet, row: int, column: int, pair: Pair) -> None:
    left, top, tile = sheet.left(column), sheet.top(row), sheet.tile
    colour, edge = (COPYING[0], 3) if pair.identical else ("#CCCCCC", 1)
    corner = (left - 2, sheet.height - top - tile - 2)
    figure.add_artist(Rectangle(corner, sheet.wide + 4, tile + 4, facecolor="#F4F4F4", edgecolor=colour,
                                linewidth=edge, transform=IdentityTransform(), zorder=-1))  # fmt: skip
    for start, image in ((left, pair.image), (left + tile + 6, pair.train)):
        small = fit(image, tile)
        below = sheet.height - top - (tile + small.height) // 2
        figure.figimage(np.asarray(small), xo=start + (tile - small.width) // 2, yo=below, origin="upper")
    room = 1.4 * tile if pair.identical else sheet.wide
    p_value = "–" if math.isnan(pair.p_value) else f"{pair.p_value:.2g}"
    sheet.write(figure, left, top + tile + 14, f"d = {pair.distance:.3g}   p = {p_value}", 8.5, room=room)
    if pair.identical:
        right = left + sheet.wide
        sheet.write(
            figure, right, top + tile + 14, "identical", 8.5, ha="right", color=colour, weight="bold", room=0.6 * tile
        )
    key, train_key = printable(pair.image_key, tile // 3), printable(pair.train_key, tile // 3 - 2)
    sheet.write(figure, left, top + tile + 31, key, 7.5, color=GREY, room=sheet.wide)
    sheet.write(figure, left, top + tile + 46, f"→ {train_key}", 7.5, color=GREY, room=sheet.wide)
