"""Pages without a browser: their policy, colours and scripts."""

from __future__ import annotations

import base64
import hashlib
import re
from itertools import product

import pytest

from flows.report.figures.vega import library, template
from flows.report.pages import raw, settings_text
from tests.flows.report.conftest import Reported


def test_the_policy_names_exactly_the_scripts_of_the_page(reported: Reported) -> None:
    for path in (reported.folder / "index.html", reported.page("copies@1")):
        html = path.read_text(encoding="utf-8")
        (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
        assert "default-src 'none'" in policy.replace("&#39;", "'")
        assert "unsafe" not in policy
        bodies = [*re.findall(r"<script>(.*?)</script>", html, re.S), *re.findall(r"<style>(.*?)</style>", html, re.S)]
        hashes = {base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in bodies}
        assert set(re.findall(r"sha256-([A-Za-z0-9+/=]+)", policy)) == hashes
        assert len(bodies) == (3 if path.name == "index.html" else 2)
        rest = re.sub(r"<script>.*?</script>", "", html, flags=re.S)
        assert not re.findall(r'(?:src|href)="(?!data:image/webp;base64,|#|[a-z0-9_-]+\.html")[^"]*"', rest)


def test_the_library_is_one_script_that_evaluates_nothing() -> None:
    assert 500_000 < len(library()) < 1_200_000
    assert library() is library()


@pytest.mark.parametrize("text", ["a</script>b", "a</SCRIPT >", "<!-- x"])
def test_a_script_that_would_end_itself_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="script contains"):
        raw(text, "script")


def _schemes() -> list[dict[str, str]]:
    css = template("style.css")
    light, dark = (
        dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.S)[:2]
    )
    return [light, dark]


def _luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast(scheme: int) -> None:
    """4.5 : 1 for text, 3 : 1 for lines of charts (WCAG 2.2, 1.4.3 and 1.4.11)."""
    colours = _schemes()[scheme]
    backs = ["paper", "raised", "bad-back", "good-back", "open-back"]
    texts = [
        *product(["ink", "soft"], backs),
        ("link", "paper"),
        *((tone, f"{tone}-back") for tone in ("bad", "good", "open")),
    ]
    texts += [(tone, "paper") for tone in ("bad", "good", "open")]
    lines = [(name, "paper") for name in ("c1", "c2", "c3", "c4", "w2", "w3")]
    for pairs, least in ((texts, 4.5), (lines, 3.0)):
        for front, back in pairs:
            high, low = sorted((_luminance(colours[front]), _luminance(colours[back])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= least, (front, back)


def test_settings_that_are_not_json_are_shown_unchanged() -> None:
    assert settings_text({"settings": '{"a": {"b": "<x>"}}'}) == "a:\n  b: <x>\n"
    assert settings_text({"settings": "{not json\x1b"}) == "{not json�"
    assert len(settings_text({"settings": '{"a": "' + "k" * 10**6 + '"}'})) < 20_100
