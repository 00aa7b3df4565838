"""From facts to HTML: one file that loads nothing, whose only scripts are ours, named by their hashes.

Every text that goes through a template loses its control and direction characters and is escaped.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flows.report import words
from flows.report.facts import ReleaseFacts, Row, StoreFacts, label_of
from flows.report.figures.charts import Chart, curve_chart, fleet_chart, library, rates_chart, tail_chart
from flows.report.figures.pairs import PairGroup
from flows.report.tail import Tail
from flows.text import cut, printable

MOST_SETTINGS = 20_000
"""Characters of the settings that a page shows."""

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


def release_page(facts: ReleaseFacts, groups: Sequence[PairGroup], tail: Tail | str, *, fleet: bool) -> str:
    """The report of one audit.

    Args:
        facts: What it says.
        groups: The closest pairs.
        tail: Distances in the layer that decides, or why there are none.
        fleet: Whether a page of all releases lies beside it.
    """
    said = words.answer(facts.outcome)
    charts = {
        "curve": curve_chart(facts),
        "tail": tail_chart(facts, tail) if isinstance(tail, Tail) else None,
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
        identical=tail.identical if isinstance(tail, Tail) else 0,
        no_tail=tail if isinstance(tail, str) else "",
        settings=settings_text(facts.audit),
        digests=digests(facts.audit),
        fleet=fleet,
    )


def fleet_page(shared: StoreFacts, hrefs: dict[str, str], missing: Sequence[str]) -> str:
    """The page of all releases.

    Args:
        shared: What the store holds.
        hrefs: Audit → file name of its report.
        missing: Releases of the spec that are not audited.
    """
    rows = [
        {
            **row,
            "label": label_of(row),
            "href": hrefs.get(row["audit_id"]),
            "tone": words.TONES.get(row["verdict"], "open"),
            "interval": words.interval(row["copy_rate_low"], row["copy_rate_high"]),
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
        tones=words.TONES,
        columns=FLEET_COLUMNS,
        store=shared.uri,
        missing=missing,
    )


def settings_text(audit: Row) -> str:
    """The resolved spec of an audit as YAML; as it stands where it is no JSON."""
    try:
        settings = json.loads(audit["settings"])
    except (ValueError, RecursionError):
        return cut(audit["settings"], MOST_SETTINGS)
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    return text if len(text) <= MOST_SETTINGS else f"{text[:MOST_SETTINGS]}…"


def digests(audit: Row) -> list[tuple[str, str]]:
    """What names an audit and all that went into it."""
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


def _page(template: str, charts: Sequence[Chart | None], scripts: Sequence[str], **context: Any) -> str:
    drawn = [one for one in charts if one is not None]
    style = _template("style.css")
    code = [*map(_template, scripts), *([library()] if drawn else [])]
    return (
        _environment()
        .get_template(template)
        .render(
            **context,
            charts={one.name: one.spec for one in drawn},
            style=_raw(style, "style"),
            scripts=[_raw(script, "script") for script in code],
            policy=_policy(style, code),
            meaning=words.MEANING,
            early_late=words.EARLY_LATE,
            limits=words.LIMITS,
            version=version("layerprint"),
            now=_day(dt.datetime.now(dt.UTC)),
        )
    )


def _template(name: str) -> str:
    return files("flows.report").joinpath(f"templates/{name}").read_text(encoding="utf-8")


def _raw(text: str, tag: str) -> Markup:
    """Our own script or style as it is.

    Raises:
        ValueError: it would end its element.
    """
    if f"</{tag}" in text.lower() or "<!--" in text:
        raise ValueError(f"a {tag} that holds </{tag} or <!--")
    return Markup(text)


def _policy(style: str, scripts: Sequence[str]) -> str:
    """A Content-Security-Policy: nothing is loaded, no script runs but these."""

    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    allowed = " ".join(map(source, scripts)) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src {source(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("flows.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_plain,
    )
    made.filters.update(
        cut=cut,
        counted=_counted,
        day=_day,
        number=_number,
        digits=_digits,
        sortable=_sortable,
        percent=words.percent,
        certainty=words.certainty,
    )
    made.globals.update(interval=words.interval)
    return made


def _plain(value: object) -> object:
    """What a template writes: nothing for None, no control characters in a text."""
    if value is None:
        return ""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _counted(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _number(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:.{places}f}"


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def _sortable(value: float | None) -> str:
    return "" if value is None else repr(value)


def _day(value: dt.datetime) -> str:
    return value.strftime("%Y-%m-%d")
