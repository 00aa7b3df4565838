"""The other charts of the pages: distances, copy rates by layer, and copy rates over time."""

from __future__ import annotations

import datetime as dt
from typing import Any

from flows.report.distances import DistanceHistogram
from flows.report.facts import AuditFacts, StoreFacts, label_of
from flows.report.figures.layer_curves import LAYER
from flows.report.figures.vega import Chart, chart
from flows.report.words import colour, percent
from flows.results.audit_result import COPYING, NO_COPYING, judged_by_copies
from flows.text import one_line

VERDICT_SHAPES = {COPYING: "diamond", NO_COPYING: "circle"}


def distance_chart(facts: AuditFacts, histogram: DistanceHistogram) -> Chart:
    """Distances to the nearest training image: generated images beside unseen real ones."""
    sides = {"unseen real images": histogram.unseen, "generated images": histogram.generated}
    rows = [
        {"images": name, "from": start, "to": end, "share": share}
        for name, shares in sides.items()
        for start, end, share in zip(
            histogram.edges[:-1].tolist(), histogram.edges[1:].tolist(), shares.tolist(), strict=True
        )
    ]
    below = histogram.edges[1:] <= 1 + 1e-9
    generated, unseen = (percent(float(shares[below].sum())) for shares in (histogram.generated, histogram.unseen))
    steps = {
        "mark": {"type": "bar", "binSpacing": 0.5},
        "encoding": {
            "x": {"field": "from", "bin": {"binned": True}, "type": "quantitative",
                  "title": "nearest distance (1 = dashed line)",
                  "axis": {"values": [0, 0.5, 1, 1.5, 2, 2.5, 3],
                           "labelExpr": "datum.value == 3 ? '3 and more' : datum.label"}},
            "x2": {"field": "to"},
            "y": {"field": "share", "type": "quantitative", "stack": None, "title": "share of images",
                  "axis": {"format": "~%"}},
            "color": {"field": "images", "type": "nominal", "sort": None,
                      "scale": {"domain": list(sides), "range": ["var(--soft)", colour(facts.outcome.verdict)]}},
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
        f"Distances to the nearest training image at layer {histogram.layer}: {generated} of generated images lie left "
        f"of the dashed line, and {unseen} of unseen real images."
    )
    return chart("distance-chart", alt, {"height": 240, "data": {"values": rows}, "layer": [steps, edge]})


def rates_chart(facts: AuditFacts) -> Chart | None:
    """Copy rate by layer with its interval, and the limit if layers decide; None if no layer measures it."""
    names = {"rate": "copy_rate", "low": "copy_rate_low", "high": "copy_rate_high"}
    rows = [{"layer": row["layer"], **{k: row[name] for k, name in names.items()}} for row in facts.outcome.scores]
    rows = [row for row in rows if None not in row.values()]
    if not rows:
        return None
    limit = None if facts.outcome.by_copies else facts.audit["max_copy_rate"]
    top = 1.08 * max(limit or 0.0, *(row["high"] for row in rows), 0.01)
    rate = {
        "type": "quantitative",
        "title": "copy rate",
        "axis": {"format": "~%"},
        "scale": {"domain": [0, min(1, top)]},
    }
    tooltip = [{"field": "layer"}, *({"field": name, "format": ".2%"} for name in names)]
    own_colour = {"value": colour(facts.outcome.verdict)}
    layers = [
        {"mark": {"type": "rule", "strokeWidth": 2},
         "encoding": {"x": LAYER, "y": {**rate, "field": "low"}, "y2": {"field": "high"}, "color": own_colour}},
        {"mark": {"type": "point", "size": 80, "filled": True, "opacity": 1},
         "encoding": {"x": {**LAYER, "title": "layer"}, "y": {**rate, "field": "rate"}, "color": own_colour,
                      "tooltip": tooltip}},
    ]  # fmt: skip
    if limit is not None:
        rule = {"type": "rule", "color": "var(--ink)", "strokeDash": [4, 3]}
        layers.append({"data": {"values": [{}]}, "mark": rule, "encoding": {"y": {**rate, "datum": limit}}})
    highest = percent(max(row["rate"] for row in rows))
    dashed = "" if limit is None else f"; dashed: the limit of {percent(limit)}"
    alt = f"Copy rate by layer with 95 % intervals, at most {highest}{dashed}."
    return chart("rates-chart", alt, {"height": 200, "data": {"values": rows}, "layer": layers})


def fleet_chart(shared: StoreFacts) -> Chart | None:
    """Copy rates of all audits over time, by verdict: of those judged by copies, their lower bound."""
    rates = {
        row["audit_id"]: row.get("copies_low") if judged_by_copies(row) else row["copy_rate"] for row in shared.audits
    }
    audits = [row for row in shared.audits if rates[row["audit_id"]] is not None]
    if not audits:
        return None
    rows = [
        {
            "release": one_line(label_of(row)),
            "when": row["created_at"].isoformat(),
            "verdict": one_line(row["verdict"]),
            "rate": rates[row["audit_id"]],
        }
        for row in audits
    ]
    times = [row["created_at"] for row in audits]
    axis: dict[str, Any] = {"grid": False}
    if max(times) - min(times) < dt.timedelta(days=1):  # Vega's own labels omit what all ticks share
        axis |= {"format": "%Y-%m-%d %H:%M", "tickCount": 4}
    verdicts = sorted({row["verdict"] for row in rows})
    colours = [colour(verdict) for verdict in verdicts]
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
    return chart("fleet-chart", alt, spec)
