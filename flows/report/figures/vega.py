"""Draws Vega-Lite specifications without network: as SVG for pages, as PNG for everything else.

Colours in a specification are the CSS variables of the page, so one SVG serves light, dark and print. A PNG has the
light colours.
"""

from __future__ import annotations

import io
import re
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import vl_convert
from markupsafe import Markup
from PIL import Image

VEGA_LITE = "6.4"

Spec = dict[str, Any]

CONFIG: Spec = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "title": {
        "anchor": "start",
        "frame": "group",
        "offset": 16,
        "color": "var(--ink)",
        "fontSize": 16,
        "subtitleColor": "var(--soft)",
        "subtitleFontSize": 12,
        "subtitlePadding": 6,
        "subtitleLineHeight": 17,
    },
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

_SHARED: Spec = {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "config": CONFIG}


class Chart(NamedTuple):
    """A chart of a page: its name there, what it shows in words, its specification and its SVG."""

    name: str
    alt: str
    spec: Spec
    svg: Markup


def chart(name: str, alt: str, spec: Spec) -> Chart:
    """Draw a chart of a page, as wide as the page's column."""
    size = {"width": 720, "autosize": {"type": "fit-x", "contains": "padding"}}
    whole = {**_SHARED, **size, "description": alt, **spec}
    return Chart(name, alt, whole, Markup(vl_convert.vegalite_to_svg(whole, vl_version=VEGA_LITE)))


def png(spec: Spec, scale: float = 1.5) -> bytes:
    """Draw a picture; the same specification gives the same bytes.

    Args:
        spec: A Vega-Lite specification without schema and configuration.
        scale: Pixels per unit of the specification.
    """
    whole = {**_SHARED, "background": "var(--paper)", "padding": 16, **spec}
    drawn = vl_convert.vegalite_to_png(_resolved(whole, _palette()), vl_version=VEGA_LITE, scale=scale)
    smaller = io.BytesIO()  # than what the drawing library writes
    Image.open(io.BytesIO(drawn)).convert("RGB").save(smaller, "PNG", optimize=True)
    return smaller.getvalue()


@lru_cache(maxsize=1)
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed with the code that makes the charts interactive, as one script (about 0.9 MB)."""
    return str(vl_convert.javascript_bundle(template("charts.js"), vl_version=VEGA_LITE))


def template(name: str) -> str:
    """A file of the folder of templates."""
    return files("flows.report").joinpath(f"templates/{name}").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _palette() -> dict[str, str]:
    """CSS variable → colour, from the light scheme of the page, which the style sheet defines first."""
    light = template("style.css").partition("}")[0]
    return {f"var(--{name})": colour for name, colour in re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", light)}


def _resolved(value: Any, palette: dict[str, str]) -> Any:
    """A specification with colours for CSS variables; its data, which may hold untrusted text, stays as it is."""
    if isinstance(value, dict):
        return {key: item if key == "data" else _resolved(item, palette) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, palette) for item in value]
    return palette.get(value, value) if isinstance(value, str) else value
