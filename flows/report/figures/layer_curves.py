"""Curves of Â over layers: one release beside enrolled ones on its page, or several audits in one picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from flows.report.facts import AuditFacts, LayerCurve, Row, curve_of
from flows.report.figures.vega import Chart, Spec, chart, png
from flows.report.words import MEANING, colour
from flows.results.audit_result import COPYING, AuditResult
from flows.text import one_line

LAYER: Spec = {"field": "layer", "type": "ordinal", "axis": {"labelAngle": 0}}

COPYING_COLOURS = ("var(--bad)", "var(--w2)", "var(--w3)")
COPYING_SHAPES = ("diamond", "triangle-down")
OTHER_COLOURS = ("var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)")
OTHER_SHAPES = ("circle", "square", "triangle-up", "cross")

LEGEND_ROWS = 24
MOST_RELEASES = 3 * LEGEND_ROWS
"""Curves in one picture."""


class Stroke(NamedTuple):
    """How a curve is drawn."""

    colour: str
    shape: str
    thick: bool


def curve_chart(facts: AuditFacts) -> Chart | None:
    """Â over layers with its interval, beside the enrolled releases; None if no layer carries information."""
    mine = [a for a in facts.own.a_hat if a is not None]
    if not mine:
        return None
    own = Stroke(colour(facts.outcome.verdict), "diamond", thick=True)
    strokes = [own, *(_stroke(i, copying=False) for i in range(len(facts.others)))]
    names = _distinct([one_line(curve.label, 32) for curve in (facts.own, *facts.others)])
    alt = (
        f"Â of {names[0]} over {len(mine)} layers, between {min(mine):.2f} and {max(mine):.2f}, with 95 % intervals, "
        f"beside {len(facts.others)} enrolled releases. The table of layers holds the numbers."
    )
    return chart("curve-chart", alt, {"height": 340, **_layers([facts.own, *facts.others], names, strokes)})


def curves_picture(outcomes: Sequence[AuditResult]) -> bytes:
    """Draw Â over layers with its interval for several audits, as PNG.

    Args:
        outcomes: At least one audit, all of one reference.
    """
    shown = sorted(outcomes, key=lambda outcome: (outcome.verdict != COPYING, _last(outcome)))[:MOST_RELEASES]
    shown.sort(key=_last, reverse=True)
    places: Counter[bool] = Counter()
    strokes = []
    for copying in (outcome.verdict == COPYING for outcome in shown):
        strokes.append(_stroke(places[copying], copying))
        places[copying] += 1
    names = _distinct([f"{one_line(outcome.label, 32)}: {one_line(outcome.verdict, 20)}" for outcome in shown])
    legend = {"orient": "right", "direction": "vertical", "columns": -(-len(names) // LEGEND_ROWS), "labelLimit": 330,
              "symbolLimit": MOST_RELEASES, "symbolSize": 90, "rowPadding": 5}  # fmt: skip
    notes = "Bars: 95 % intervals. Thick: copying. Releases are listed in the order of their last layers."
    if len(outcomes) > len(shown):
        notes += f" {len(shown)} of {len(outcomes):,} are shown: copying ones, then those with the lowest Â."
    reference = one_line(outcomes[0].audit["reference"], 60)
    title = {
        "text": f"Distance of generated images to the training images of {reference}",
        "subtitle": [*MEANING.replace(": ", ":\n", 1).split("\n"), notes],
    }
    spec = _layers([curve_of(outcome) for outcome in shown], names, strokes, legend)
    return png({"width": 720, "height": 480, "title": title, **spec})


def _last(outcome: AuditResult) -> float:
    """Â of the last layer that carries information; 1 when none does."""
    return float(outcome.informative[-1]["a_hat"]) if outcome.informative else 1.0


def _stroke(place: int, copying: bool) -> Stroke:
    """The stroke of the `place`-th curve: 6 differ where releases copy, 16 where they do not.

    >>> [len({_stroke(i, copying) for i in range(50)}) for copying in (True, False)]
    [6, 16]
    """
    colours, shapes = (COPYING_COLOURS, COPYING_SHAPES) if copying else (OTHER_COLOURS, OTHER_SHAPES)
    return Stroke(colours[place % len(colours)], shapes[place // len(colours) % len(shapes)], copying)


def _layers(
    curves: Sequence[LayerCurve], names: list[str], strokes: Sequence[Stroke], legend: Spec | None = None
) -> Spec:
    """Data and marks of curves; a layer without information interrupts a curve.

    Args:
        curves: At least one.
        names: Distinct names of the curves.
        strokes: A stroke for each.
        legend: Options of the legend.
    """
    rows = [
        row
        for curve, name, stroke in zip(curves, names, strokes, strict=True)
        for row in _points(name, curve, stroke.thick)
    ]
    known = {row["layer"] for row in rows if row["a"] is not None}
    empty = sorted({row["layer"] for row in rows} - known)
    a_hat: Spec = {
        "type": "quantitative",
        "title": "Â (below 0.5: closer to the training images)",
        "scale": {"domain": _domain(rows)},
    }
    release: Spec = {"field": "release", "type": "nominal", "sort": None, "legend": legend or {}}
    colour_of = {**release, "scale": {"domain": names, "range": [stroke.colour for stroke in strokes]}}
    shape_of = {**release, "scale": {"domain": names, "range": [stroke.shape for stroke in strokes]}}
    shared: Spec = {
        "x": {**LAYER, "title": "layer (early: pixels, late: meaning)"},
        "color": colour_of,
        "opacity": {"condition": {"param": "chosen", "value": 1}, "value": 0.12},
        "strokeWidth": {"condition": {"test": "datum.thick", "value": 3}, "value": 1.3},
        "tooltip": [
            {"field": "release"},
            {"field": "layer"},
            *({"field": name, "title": title, "format": ".3f"}
              for name, title in (("a", "Â"), ("low", "from"), ("high", "to"))),
        ],
    }  # fmt: skip
    alike = {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "color": "var(--ink)", "strokeDash": [2, 3]},
        "encoding": {"y": {**a_hat, "datum": 0.5}},
    }
    intervals = {  # the first layer with colours: the legend that Vega-Lite binds is its own
        "mark": {"type": "rule"},
        "params": [{"name": "chosen", "select": {"type": "point", "fields": ["release"]}, "bind": "legend"}],
        "encoding": {**shared, "y": {**a_hat, "field": "low"}, "y2": {"field": "high"}},
    }
    lines = {
        "mark": {"type": "line"},
        "encoding": {**shared, "y": {**a_hat, "field": "a"}},
    }
    points = {
        "mark": {"type": "point", "filled": True},
        "encoding": {
            **{name: look for name, look in shared.items() if name != "strokeWidth"},
            "y": {**a_hat, "field": "a"},
            "shape": shape_of,
            "size": {"condition": {"test": "datum.thick", "value": 130}, "value": 50},
        },
    }
    without = {
        "data": {"values": [{"layer": layer} for layer in empty]},
        "mark": {"type": "text", "angle": 270, "align": "left", "text": "no information", "color": "var(--soft)"},
        "encoding": {"x": LAYER, "y": {"value": {"expr": "height - 8"}}},
    }
    return {"data": {"values": rows}, "layer": [alike, intervals, lines, points, *([without] if empty else [])]}


def _distinct(labels: Sequence[str]) -> list[str]:
    """Names with a number where two are equal, as cutting can make them.

    >>> _distinct(["a", "b", "a"])
    ['a', 'b', 'a (2)']
    """
    names: list[str] = []
    for label in labels:
        names.append(f"{label} ({len(names)})" if label in names else label)
    return names


def _points(name: str, curve: LayerCurve, thick: bool) -> list[Row]:
    columns = zip(curve.layers, curve.a_hat, curve.low, curve.high, strict=True)
    return [
        {"release": name, "thick": thick, "layer": layer, "a": None, "low": None, "high": None}
        | ({} if None in (a, low, high) else {"a": a, "low": low, "high": high})
        for layer, a, low, high in columns
    ]


def _domain(rows: Sequence[Row]) -> list[float]:
    ends = [row[end] for row in rows for end in ("low", "high") if row[end] is not None]
    return [max(0.0, min(0.4, *ends, 0.4) - 0.02), min(1.0, max(0.6, *ends, 0.6) + 0.02)]
