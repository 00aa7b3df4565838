"""The charts of a report: one Vega-Lite specification each, drawn once as SVG and, with JavaScript, alive.

Colours are the page's CSS variables, so that one drawing serves light, dark and print.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import vl_convert
from markupsafe import Markup

from flows.report.facts import LayerCurve, ReleaseFacts, Row, StoreFacts, label_of
from flows.report.tail import Tail
from flows.report.words import percent
from flows.results.audit_result import COPYING, NO_COPYING
from flows.text import one_line

VEGA_LITE = "6.4"
WIDTH = 720

Spec = dict[str, Any]

CONFIG: Spec = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--ink)",
        "gridColor": "var(--line)",
        "domainColor": "var(--soft)",
        "tickColor": "var(--soft)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    },
    "legend": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--ink)",
        "labelFontSize": 12,
        "orient": "bottom",
        "direction": "horizontal",
        "columns": 3,
        "labelLimit": 220,
        "title": None,
    },
    "text": {"color": "var(--ink)", "fontSize": 12},
}

OTHER_COLOURS = ["var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)"]
SHAPES = ["circle", "square"]

VERDICT_COLOURS = {COPYING: "var(--bad)", NO_COPYING: "var(--good)"}
VERDICT_SHAPES = {COPYING: "diamond", NO_COPYING: "circle"}


class Chart(NamedTuple):
    """A chart: its name on the page, what it shows in words, its specification and its drawing."""

    name: str
    alt: str
    spec: Spec
    svg: Markup


def _chart(name: str, alt: str, spec: Spec) -> Chart:
    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "config": CONFIG,
        "width": WIDTH,
        "description": alt,
        "autosize": {"type": "fit-x", "contains": "padding"},
        **spec,
    }
    return Chart(name, alt, whole, Markup(vl_convert.vegalite_to_svg(whole, vl_version=VEGA_LITE)))


@lru_cache(maxsize=1)
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed with the lines that bring the charts to life, as one script (about 0.9 MB)."""
    script = files("flows.report").joinpath("templates/charts.js").read_text(encoding="utf-8")
    return str(vl_convert.javascript_bundle(script, vl_version=VEGA_LITE))


def curve_chart(facts: ReleaseFacts) -> Chart | None:
    """Â over layers with its interval, beside the enrolled releases; None where no layer carries information."""
    curves = [facts.own, *facts.others]
    names = _distinct(curves)
    rows = [row for name, curve in zip(names, curves, strict=True) for row in _points(name, curve, curve is facts.own)]
    mine = [row["a"] for row in rows if row["own"]]
    if not mine:
        return None
    others = range(len(facts.others))
    colours = [_colour(facts), *(OTHER_COLOURS[i % len(OTHER_COLOURS)] for i in others)]
    shapes = ["diamond", *(SHAPES[i // len(OTHER_COLOURS)] for i in others)]
    a_hat: Spec = {
        "type": "quantitative",
        "title": "Â (below 0.5: closer to the training images)",
        "scale": {"domain": _domain([row[end] for row in rows for end in ("low", "high")])},
    }
    release: Spec = {"field": "release", "type": "nominal", "sort": None}
    shared: Spec = {
        "x": {**_LAYER, "title": "layer (early: pixels and texture · late: meaning)"},
        "color": {**release, "scale": {"domain": names, "range": colours}},
        "opacity": {"condition": {"param": "chosen", "value": 1}, "value": 0.12},
        "strokeWidth": {"condition": {"test": "datum.own", "value": 3}, "value": 1.3},
        "tooltip": [
            {"field": "release"},
            {"field": "layer"},
            *({"field": name, "title": title, "format": ".3f"}
              for name, title in (("a", "Â"), ("low", "from"), ("high", "to"))),
        ],
    }  # fmt: skip
    line = {
        "mark": {"type": "line", "point": {"size": 50, "filled": True}},
        "encoding": {
            **shared,
            "y": {**a_hat, "field": "a"},
            "shape": {**release, "scale": {"domain": names, "range": shapes}},
        },
    }
    bars = {  # the first layer with colours: the legend that Vega-Lite binds is its own
        "mark": {"type": "rule"},
        "params": [{"name": "chosen", "select": {"type": "point", "fields": ["release"]}, "bind": "legend"}],
        "encoding": {**shared, "y": {**a_hat, "field": "low"}, "y2": {"field": "high"}},
    }
    alike = {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "color": "var(--ink)", "strokeDash": [2, 3]},
        "encoding": {"y": {**a_hat, "datum": 0.5}},
    }
    alt = (
        f"Â of {names[0]} over {len(mine)} layers, between {min(mine):.2f} and {max(mine):.2f}, with 95 % intervals, "
        f"beside {len(facts.others)} enrolled releases. The table of layers holds the numbers."
    )
    return _chart("curve-chart", alt, {"height": 340, "data": {"values": rows}, "layer": [alike, bars, line]})


_LAYER: Spec = {"field": "layer", "type": "ordinal", "axis": {"labelAngle": 0}}


def _distinct(curves: Sequence[LayerCurve]) -> list[str]:
    """Short names of curves, told apart by a number where cutting made them equal."""
    names: list[str] = []
    for curve in curves:
        name = one_line(curve.label, 32)
        names.append(f"{name} ({len(names)})" if name in names else name)
    return names


def _points(name: str, curve: LayerCurve, own: bool) -> list[Row]:
    columns = zip(curve.layers, curve.a_hat, curve.low, curve.high, strict=True)
    rows = [{"release": name, "own": own, "layer": k, "a": a, "low": low, "high": high} for k, a, low, high in columns]
    return [row for row in rows if None not in row.values()]


def _domain(ends: Sequence[float]) -> list[float]:
    return [max(0.0, min(0.4, *ends) - 0.02), min(1.0, max(0.6, *ends) + 0.02)]


def _colour(facts: ReleaseFacts) -> str:
    return VERDICT_COLOURS.get(facts.outcome.verdict, "var(--open)")


def tail_chart(facts: ReleaseFacts, tail: Tail) -> Chart:
    """How near images come to the training images: the generated beside unseen real ones."""
    sides = {"unseen real images": tail.unseen, "generated images": tail.generated}
    rows = [
        {"images": name, "from": start, "to": end, "share": share}
        for name, shares in sides.items()
        for start, end, share in zip(tail.edges[:-1].tolist(), tail.edges[1:].tolist(), shares.tolist(), strict=True)
    ]
    below = tail.edges[1:] <= 1 + 1e-9
    steps = {
        "mark": {"type": "bar", "binSpacing": 0.5},
        "encoding": {
            "x": {"field": "from", "bin": {"binned": True}, "type": "quantitative",
                  "title": "distance to training (1 = the dashed line)",
                  "axis": {"values": [0, 0.5, 1, 1.5, 2, 2.5, 3],
                           "labelExpr": "datum.value == 3 ? '3 and more' : datum.label"}},
            "x2": {"field": "to"},
            "y": {"field": "share", "type": "quantitative", "stack": None, "title": "share of the images",
                  "axis": {"format": "~%"}},
            "color": {"field": "images", "type": "nominal", "sort": None,
                      "scale": {"domain": list(sides), "range": ["var(--soft)", _colour(facts)]}},
            "opacity": {"condition": {"param": "chosen", "value": 0.62}, "value": 0.08},
            "tooltip": [{"field": "images"}, {"field": "from", "format": ".2f"}, {"field": "to", "format": ".2f"},
                        {"field": "share", "format": ".1%"}],
        },
        "params": [{"name": "chosen", "select": {"type": "point", "fields": ["images"]}, "bind": "legend"}],
    }  # fmt: skip
    edge = {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "color": "var(--ink)", "strokeDash": [4, 3]},
        "encoding": {"x": {"datum": 1, "type": "quantitative"}},
    }
    alt = (
        f"Distances to the nearest training image at layer {tail.layer}: {percent(float(tail.generated[below].sum()))} "
        f"of the generated images lie left of the dashed line, {percent(float(tail.unseen[below].sum()))} of unseen "
        "real images do."
    )
    return _chart("tail-chart", alt, {"height": 240, "data": {"values": rows}, "layer": [steps, edge]})


def rates_chart(facts: ReleaseFacts) -> Chart | None:
    """Copy rate by layer with its interval and the allowed rate; None where no layer measures it."""
    names = {"rate": "copy_rate", "low": "copy_rate_low", "high": "copy_rate_high"}
    rows = [{"layer": row["layer"], **{k: row[name] for k, name in names.items()}} for row in facts.outcome.scores]
    rows = [row for row in rows if None not in row.values()]
    if not rows:
        return None
    limit = facts.audit["max_copy_rate"]
    top = 1.08 * max(limit, *(row["high"] for row in rows), 0.01)
    rate = {
        "type": "quantitative",
        "title": "copy rate",
        "axis": {"format": "~%"},
        "scale": {"domain": [0, min(1, top)]},
    }
    tooltip = [{"field": "layer"}, *({"field": name, "format": ".2%"} for name in names)]
    colour = {"value": _colour(facts)}
    layers = [
        {"mark": {"type": "rule", "strokeWidth": 2},
         "encoding": {"x": _LAYER, "y": {**rate, "field": "low"}, "y2": {"field": "high"}, "color": colour}},
        {"mark": {"type": "point", "size": 80, "filled": True, "opacity": 1},
         "encoding": {"x": {**_LAYER, "title": "layer"}, "y": {**rate, "field": "rate"}, "color": colour,
                      "tooltip": tooltip}},
        {"data": {"values": [{}]}, "mark": {"type": "rule", "color": "var(--ink)", "strokeDash": [4, 3]},
         "encoding": {"y": {**rate, "datum": limit}}},
    ]  # fmt: skip
    highest = percent(max(row["rate"] for row in rows))
    alt = f"Copy rate by layer with 95 % intervals, at most {highest}; dashed: the allowed {percent(limit)}."
    return _chart("rates-chart", alt, {"height": 200, "data": {"values": rows}, "layer": layers})


def fleet_chart(shared: StoreFacts) -> Chart | None:
    """Copy rates of all audits over time, by verdict."""
    audits = [row for row in shared.audits if row["copy_rate"] is not None]
    if not audits:
        return None
    rows = [
        {
            "release": one_line(label_of(row)),
            "when": row["created_at"].isoformat(),
            "verdict": one_line(row["verdict"]),
            "rate": row["copy_rate"],
        }
        for row in audits
    ]
    times = [row["created_at"] for row in audits]
    axis: dict[str, Any] = {"grid": False}
    if max(times) - min(times) < dt.timedelta(days=1):  # Vega's own labels leave out what ticks have in common
        axis |= {"format": "%Y-%m-%d %H:%M", "tickCount": 4}
    verdicts = sorted({row["verdict"] for row in rows})
    colours = [VERDICT_COLOURS.get(verdict, "var(--open)") for verdict in verdicts]
    shapes = [VERDICT_SHAPES.get(verdict, "square") for verdict in verdicts]
    spec = {
        "height": 240,
        "data": {"values": rows},
        "mark": {"type": "point", "size": 60, "filled": True},
        "params": [{"name": "chosen", "select": {"type": "point", "fields": ["verdict"]}, "bind": "legend"}],
        "encoding": {
            "x": {"field": "when", "type": "temporal", "title": "audited (UTC)", "axis": axis,
                  "scale": {"type": "utc", "padding": 12}},
            "y": {"field": "rate", "type": "quantitative", "title": "copy rate", "axis": {"format": "~%"}},
            "color": {"field": "verdict", "type": "nominal",
                      "scale": {"domain": verdicts, "range": colours}},
            "shape": {"field": "verdict", "type": "nominal", "scale": {"domain": verdicts, "range": shapes}},
            "opacity": {"condition": {"param": "chosen", "value": 0.8}, "value": 0.06},
            "tooltip": [{"field": "release"}, {"field": "verdict"}, {"field": "rate", "format": ".2%"},
                        {"field": "when", "type": "temporal", "format": "%Y-%m-%d %H:%M"}],
        },
    }  # fmt: skip
    alt = f"Copy rate of {len(rows)} audits over time, by verdict. The table below holds the numbers."
    return _chart("fleet-chart", alt, spec)
