"""Renders the facts of reports as HTML: self-contained pages that run only our own scripts, allowed by their hashes.

Templates escape every text and replace its control and direction characters.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flows.report import words
from flows.report.answers import answer
from flows.report.distances import DistanceHistogram
from flows.report.facts import AuditFacts, Row, StoreFacts, label_of
from flows.report.figures.charts import distance_chart, fleet_chart, rates_chart
from flows.report.figures.copies import CopyView, region_text
from flows.report.figures.layer_curves import curve_chart
from flows.report.figures.pairs import PairGroup
from flows.report.figures.vega import Chart, library, template
from flows.results.audit_result import judged_by_copies
from flows.text import one_line, terminal_text

MOST_SETTINGS = 20_000
"""Characters of the settings shown on a page."""

FLEET_COLUMNS = (
    ("release", "text"),
    ("family", "text"),
    ("verdict", "text"),
    ("copy rate", "number"),
    ("95 %", "number"),
    ("Â first layer", "number"),
    ("Â last layer", "number"),
    ("images", "number"),
    ("audited", "text"),
)


def release_page(
    facts: AuditFacts,
    groups: Sequence[PairGroup],
    histogram: DistanceHistogram | str,
    *,
    copies: Sequence[CopyView] = (),
    fleet: bool,
) -> str:
    """The report of one audit.

    Args:
        facts: The contents.
        groups: The closest pairs.
        histogram: Distances at the decisive layer, or why there are none.
        copies: The strongest copies with their pictures; the others are shown as rows.
        fleet: Whether to link to a page of all releases beside it.
    """
    said = answer(facts.outcome)
    charts = {
        "curve": curve_chart(facts),
        "distances": distance_chart(facts, histogram) if isinstance(histogram, DistanceHistogram) else None,
        "rates": rates_chart(facts),
    }
    return _page(
        "release.html",
        list(charts.values()),
        [],
        **charts,
        facts=facts,
        answer=said,
        mark=words.MARKS[said.tone],
        groups=groups,
        by_copies=facts.outcome.by_copies,
        copies=copies,
        regions=any(copy.outline or copy.train_outline for copy in copies),
        listed=len(facts.outcome.listed),
        limits=words.limits(facts.audit),
        identical=histogram.identical if isinstance(histogram, DistanceHistogram) else 0,
        no_distances=histogram if isinstance(histogram, str) else "",
        settings=settings_text(facts.audit),
        digests=digests(facts.audit),
        fleet=fleet,
    )


def fleet_page(shared: StoreFacts, hrefs: dict[str, str], missing: Sequence[str]) -> str:
    """The page of all releases.

    Args:
        shared: What the store holds.
        hrefs: Audit → file name of its report.
        missing: Releases of the spec without an audit.
    """
    rows = [
        {
            **row,
            "label": label_of(row),
            "href": hrefs.get(row["audit_id"]),
            "tone": words.tone(row["verdict"]),
            **_rate_columns(row),
        }
        for row in shared.latest()
    ]
    over_time = fleet_chart(shared)
    return _page(
        "fleet.html",
        [over_time],
        ["fleet.js"],
        rows=rows,
        over_time=over_time,
        verdicts=Counter(row["verdict"] for row in rows).most_common(),
        columns=FLEET_COLUMNS,
        store=shared.uri,
        missing=missing,
    )


def _rate_columns(row: Row) -> dict[str, Any]:
    """The copy rate of a row of the page of all releases, its interval, and the numbers to sort them by."""
    if judged_by_copies(row):
        low, high = row.get("copies_low"), row.get("copies_high")
        return {"rate": f"≥ {words.percent(low)}", "rate_key": low, "high_key": high,
                "interval": words.interval(low, high)}  # fmt: skip
    low, high = row["copy_rate_low"], row["copy_rate_high"]
    return {"rate": words.percent(row["copy_rate"]), "rate_key": row["copy_rate"], "high_key": high,
            "interval": words.interval(low, high)}  # fmt: skip


def settings_text(audit: Row) -> str:
    """The resolved spec of an audit as YAML; unchanged if it is not JSON."""
    try:
        settings = json.loads(audit["settings"])
    except (ValueError, RecursionError):
        return one_line(audit["settings"], MOST_SETTINGS)
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    return text if len(text) <= MOST_SETTINGS else f"{text[:MOST_SETTINGS]}…"


def digests(audit: Row) -> list[tuple[str, str]]:
    """The identifiers of an audit and of its inputs."""
    names = {
        "audit": "audit_id",
        "profile": "profile_id",
        "settings": "spec_digest",
        "encoder": "encoder_digest",
        "reference": "reference_digest",
        "images": "images_digest",
        "search": "search",
        "seed": "seed",
        "audited": "created_at",
    }
    return [(name, str(audit[column])) for name, column in names.items() if audit[column] is not None]


# -- templates -------------------------------------------------------------------------------------------------


def _page(page: str, charts: Sequence[Chart | None], scripts: Sequence[str], **context: Any) -> str:
    drawn = [chart for chart in charts if chart is not None]
    style = template("style.css")
    code = [*map(template, scripts), *([library()] if drawn else [])]
    return (
        _environment()
        .get_template(page)
        .render(
            **context,
            charts={chart.name: chart.spec for chart in drawn},
            style=raw(style, "style"),
            scripts=[raw(script, "script") for script in code],
            policy=_policy(style, code),
            meaning=words.MEANING,
            early_late=words.EARLY_LATE,
            version=version("layerprint"),
            now=_day(dt.datetime.now(dt.UTC)),
        )
    )


def raw(text: str, tag: str) -> Markup:
    """One of our own scripts or styles, unescaped.

    Raises:
        ValueError: The text would end its element.
    """
    if f"</{tag}" in text.lower() or "<!--" in text:
        raise ValueError(f"{tag} contains </{tag} or <!--")
    return Markup(text)


def _policy(style: str, scripts: Sequence[str]) -> str:
    """A Content-Security-Policy that loads nothing and runs only these scripts."""

    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    allowed = " ".join(map(source, scripts)) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src {source(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def safe_environment(package: str) -> Environment:
    """The templates of a package: everything is escaped, and control characters are removed from texts."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_plain,
    )
    environment.filters.update(cut=one_line, percent=words.percent, certainty=words.certainty, region=region_text)
    environment.globals.update(interval=words.interval)
    return environment


def _environment() -> Environment:
    environment = safe_environment("flows.report")
    environment.filters.update(
        counted=_counted,
        day=_day,
        number=_number,
        digits=words.digits,
        sortable=_sortable,
        tone=words.tone,
    )
    return environment


def _plain(value: object) -> object:
    """Print None as nothing, and texts without control characters."""
    if value is None:
        return ""
    return terminal_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _counted(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _number(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:.{places}f}"


def _sortable(value: float | None) -> str:
    return "" if value is None else repr(value)


def _day(value: dt.datetime) -> str:
    return value.strftime("%Y-%m-%d")
