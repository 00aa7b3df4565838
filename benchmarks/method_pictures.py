"""The pictures of ``docs/method.md``: simulated audits with fixed seeds, and the curves of the table that stands there.

Run ``python -m benchmarks.method_pictures [FOLDER]`` (default ``docs``); a few seconds.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import beta, betabinom, binom

from benchmarks.calibration import Distances, Reference, Settings
from scoring.score.copy_rate import copy_rate
from scoring.score.effect import effect_size
from scoring.score.layer_score import score_layer
from scoring.score.permutation import LayerSample, permutation_p

Values = NDArray[np.float64]

HELD_OUT = 1000
GENERATED = 500
GREY, BLACK, RED, BLUE = "0.6", "black", "tab:red", "tab:blue"


class Release(NamedTuple):
    """A simulated release: its name, share of copies, spread of the other images, colour."""

    name: str
    share: float
    spread: float
    colour: str


HONEST = Release("honest", 0.0, 1.0, GREY)
COPYING = Release("10 % copies", 0.1, 1.0, BLUE)
HIDDEN = Release("5 % copies, the rest 10 % wider", 0.05, 1.1, RED)


def locate(reference: Reference, release: Release) -> list[Distances]:
    """Nearest distances of a release in every layer; copies come first."""
    copied = round(release.share * GENERATED)
    others = reference.world.draw(reference.rng, GENERATED - copied, release.spread)
    return reference.locate(np.concatenate([reference.copies(copied), others]))


def draw_tail(p: Values, q: Values) -> Figure:
    """Distances of held-out images and of a release whose copies a mean hides."""
    found = copy_rate(p, q)
    if found is None:
        raise ValueError("too few held-out distances")
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    bins = np.geomspace(min(p.min(), q.min()), max(p.max(), q.max()), 70)
    for axis in (left, right):
        for values, colour, name in ((p, "0.4", f"{len(p)} held-out"), (q, RED, f"{len(q)} generated")):
            share = np.full(len(values), 100 / len(values))
            axis.hist(values, bins, weights=share, histtype="step", lw=1.4, color=colour, label=name)
        axis.axvline(found.threshold, color=BLACK, ls=":", lw=1, label="1 % of held-out lie below")
        axis.set(xlabel="distance to the nearest train image", ylabel="images, %", xscale="log")
    left.set_title(f"all images: Â = {area(p, q):.2f} (.5 = like unseen ones)", fontsize=10)
    right.set(ylim=(0, 1))
    rate = f"copy rate {100 * found.rate:.1f} % ({100 * found.low:.1f}–{100 * found.high:.1f})"
    right.set_title(f"the lower tail: {found.k} of {found.m} below, {rate}", fontsize=10)
    left.legend(fontsize=8, loc="upper left")
    return figure


def area(p: Values, q: Values) -> float:
    """Â of all images as one cell."""
    zeros = np.zeros(max(len(p), len(q)), np.int32)
    return effect_size(p, zeros[: len(p)], q, zeros[: len(q)]).a_hat


def draw_effect(p: Values, releases: Sequence[tuple[Release, Values]]) -> Figure:
    """Â as the area under a curve, and the corner where copies stand."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    for axis, limit in zip(figure.subplots(1, 2), (1.0, 0.12), strict=True):
        axis.plot([0, 1], [0, 1], color=BLACK, ls=":", lw=1)
        for release, q in releases:
            at = np.sort(np.concatenate([p, q]))
            x, y = (np.searchsorted(np.sort(values), at, "right") / len(values) for values in (q, p))
            axis.plot(x, y, color=release.colour, lw=1.5, label=f"{release.name}: Â = {area(p, q):.2f}")
        axis.set(xlabel="generated images nearer than t", ylabel="held-out images nearer than t")
        axis.set(xlim=(0, limit), ylim=(0, limit), aspect="equal")
    figure.axes[0].set_title("Â is the area under the curve", fontsize=10)
    figure.axes[1].set_title("its corner: copies are generated images at y = 0", fontsize=10)
    figure.axes[0].legend(fontsize=8)
    return figure


def draw_threshold(n: int = HELD_OUT, m: int = 2000) -> Figure:
    """What a threshold taken from n held-out images really cuts off, and what that does to the count below it."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    share = np.linspace(0, 0.03, 600)
    for size, colour in ((200, BLUE), (1000, RED), (5000, BLACK)):
        r = (size + 1) // 100
        left.plot(100 * share, beta.pdf(share, r, size + 1 - r) / 100, color=colour, label=f"n = {size}")
    left.set(xlabel="unseen images really below the threshold, %", ylabel="density", xlim=(0, 3))
    left.set_title("the threshold has an error of its own", fontsize=10)
    r = (n + 1) // 100
    k = np.arange(60)
    models = ((binom(m, r / (n + 1)), GREY, "binomial"), (betabinom(m, r, n + 1 - r), RED, "beta-binomial"))
    for model, colour, name in models:
        limit = int(model.isf(0.05))
        right.plot(k, model.pmf(k), color=colour, label=f"{name}: P(K > {limit}) ≤ 5 %")
        right.axvline(limit, color=colour, ls=":", lw=1)
    right.set(xlabel=f"honest images below it, of m = {m} (n = {n})", ylabel="probability", xlim=(0, 59))
    right.set_title("so that an honest count spreads more", fontsize=10)
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    return figure


def draw_layers(reference: Reference, p: list[Distances], releases: dict[Release, list[Distances]]) -> Figure:
    """Â over the layers with the simultaneous test."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    for shift, (release, q) in zip((-0.2, 0.0, 0.2), releases.items(), strict=True):
        scored = [
            score_layer(i, *one, *other, layer.partition.centroids)
            for i, (one, other, layer) in enumerate(zip(p, q, reference.layers, strict=True))
        ]
        samples = [
            LayerSample(one.distance, layer.groups[one.cell], other.distance, layer.groups[other.cell])
            for one, other, layer in zip(p, q, scored, strict=True)
        ]
        test = permutation_p(samples, permutations=1999, seed=0)
        for i, layer in enumerate(scored):
            if (effect := layer.score.effect) is None:
                continue
            different = test.p_adjusted[i] <= 0.05
            left.plot([i + shift] * 2, [effect.low, effect.high], color=release.colour, lw=1.5)
            left.plot(i + shift, effect.a_hat, "o", color=release.colour, mfc=release.colour if different else "white")
        left.plot([], [], "o-", color=release.colour, label=release.name)
        right.plot(np.abs(test.z), test.p_raw, "x", color=release.colour)
        right.plot(np.abs(test.z), test.p_adjusted, "o", color=release.colour, mfc="none")
    left.axhline(0.5, color=BLACK, ls=":", lw=1)
    left.set(xlabel="layer", ylabel="Â, 95 % interval", xticks=range(len(p)))
    left.set_ylim(top=0.04 + left.get_ylim()[1])
    left.set_title("filled: differs after the step-down maximum test", fontsize=10)
    right.axhline(0.05, color=BLACK, ls=":", lw=1)
    right.set(xlabel="|Z_S| of a layer", ylabel="p", yscale="log")
    right.set_title("p of one layer and for all of them", fontsize=10)
    right.plot([], [], "x", color=BLACK, label="the layer alone")
    right.plot([], [], "o", color=BLACK, mfc="none", label="adjusted for all layers")
    left.legend(fontsize=8, ncols=len(releases), loc="upper center")
    right.legend(fontsize=8)
    return figure


class Row(NamedTuple):
    """One row of the calibration table; shares in per cent."""

    copies: float
    spread: float
    m: int
    flagged: dict[str, float]


LINES = {
    "copying (0 allowed)": (BLACK, "o-", "copying verdict, 0 allowed"),
    "copying (1 % allowed)": (GREY, "s-", "copying verdict, 1 % allowed"),
    "C_T < 0": (BLUE, ".--", "C_T < 0"),
    "C_T < -1.645": (RED, ".--", "C_T < −1.645"),
    "C_T < -1.96": ("tab:green", ".--", "C_T < −1.96"),
}


def table_rows(text: str) -> list[Row]:
    """The rows of the calibration table in a Markdown text.

    >>> table_rows("| copies | spread | m | C_T < 0 |" + chr(10) + "| 5 % | ×1.03 | 500 | 32.5 % |")
    [Row(copies=5.0, spread=1.03, m=500, flagged={'C_T < 0': 32.5})]
    """
    lines = text[text.index("| copies | spread |") :].split("\n\n")[0].strip().splitlines()
    names, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]
    rows = []
    for cells in body:
        number = dict(zip(names, (float(re.sub("[ %×]", "", cell)) for cell in cells), strict=True))
        flagged = {name: number[name] for name in LINES if name in number}
        rows.append(Row(number["copies"], number["spread"], int(number["m"]), flagged))
    return rows


def draw_calibration(rows: Sequence[Row]) -> Figure:
    """Detection curves, one panel a number of images, and the release that hides its copies."""
    plain, wider = [row for row in rows if row.spread == 1], [row for row in rows if row.spread == 1.03]
    sizes = sorted({row.m for row in plain})
    figure = Figure(figsize=(12, 3.9), layout="constrained")
    *axes, last = figure.subplots(1, len(sizes) + 1, sharey=True)
    for axis, m in zip(axes, sizes, strict=True):
        _curves(axis, [row for row in plain if row.m == m])
        axis.set(title=f"{m} generated images", xlabel="copies among them, %")
    _curves(last, wider)
    last.set(title=f"{wider[0].m} images, others 3 % wider", xlabel="copies among them, %", xticks=[0, 5])
    axes[0].set(ylabel="audits flagged, %", ylim=(-3, 103))
    handles, labels = last.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(LINES), fontsize=9)
    return figure


def _curves(axis: Axes, rows: Sequence[Row]) -> None:
    for name, (colour, style, label) in LINES.items():
        axis.plot([row.copies for row in rows], [row.flagged[name] for row in rows], style, color=colour, label=label)
    axis.axhline(5, color="0.85", lw=0.8)


def main(folder: Path) -> None:
    """Draw all of them."""
    mpl.use("Agg")
    reference = Reference(Settings(layers=12, truth=400), [0, 0])
    p = reference.locate(reference.world.draw(reference.rng, HELD_OUT))
    found = {release: locate(reference, release) for release in (HONEST, COPYING, HIDDEN)}
    one = [(release, layers[0].distance) for release, layers in found.items()]
    figures = {
        "tail": draw_tail(p[0].distance, found[HIDDEN][0].distance),
        "effect": draw_effect(p[0].distance, one),
        "threshold": draw_threshold(),
        "layers": draw_layers(reference, p, found),
        "calibration": draw_calibration(table_rows((folder / "method.md").read_text(encoding="utf-8"))),
    }
    for name, figure in figures.items():
        figure.savefig(folder / f"method-{name}.png", dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs"))
