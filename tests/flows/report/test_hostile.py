"""Hostile rows: whatever a store contains is shown as text, and nothing else happens."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser

from flows.report.distances import read_histogram
from flows.report.facts import audit_facts, read_store
from flows.report.figures.copies import copy_views
from flows.report.figures.pairs import ImageSet, pair_groups
from flows.report.modelcard import model_card
from flows.report.pages import fleet_page, release_page
from storage.objects.open import LocalStore
from tests.flows.report.conftest import keep, opened
from tests.flows.report.synthetic import HOSTILE, copy_row, judged_by_copies, write_hostile


class Elements(HTMLParser):
    """Counts the elements of a page and collects its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reports of a store in which every text is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    store = LocalStore(folder / "store")
    audits = [write_hostile(store, f"audit-{i}", text) for i, text in enumerate(HOSTILE)]
    shared = read_store(store.uri)
    nowhere = ImageSet(store, str(folder / "none"), None)
    for i, audit in enumerate(audits):
        facts = audit_facts(store, shared, audit["audit_id"])
        if i % 2:  # the others are judged by layers
            text = HOSTILE[i]
            copies = [copy_row(rank, text, text, view=text) for rank in (1, 2)]
            facts = judged_by_copies(facts, copies, copies_at_least=1, fit_verdict=text)
        groups = pair_groups(facts.outcome, facts.evidence, nowhere, nowhere)
        page = release_page(
            facts,
            groups,
            read_histogram(store, facts),
            copies=copy_views(facts.copies[:1], nowhere, nowhere),
            fleet=True,
        )
        (folder / f"{audit['audit_id']}.html").write_text(page, encoding="utf-8")
        (folder / f"{audit['audit_id']}.md").write_text(model_card(facts), encoding="utf-8")
    hrefs = {audit["audit_id"]: f"{audit['audit_id']}.html" for audit in audits}
    (folder / "index.html").write_text(fleet_page(shared, hrefs, list(HOSTILE)), encoding="utf-8")
    return folder


PAGES = (*(f"audit-{i}" for i in range(len(HOSTILE))), "index")


@pytest.mark.parametrize("page", PAGES)
def test_hostile_text_creates_no_element(hostile: Path, page: str) -> None:
    html = (hostile / f"{page}.html").read_text(encoding="utf-8")
    found = Elements(html)
    assert found.tags.count("script") == (3 if page == "index" else 2)
    assert {"img", "iframe", "object", "embed"}.isdisjoint(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert not [
        value for name, value in found.attributes if name in ("href", "src", "xlink:href") and ":" in str(value)
    ]
    assert not {"\u202e", "\u2066", "\u0000", "\u001b"} & set(html)
    assert len(html) < 1_600_000


@pytest.mark.parametrize("page", PAGES)
def test_a_browser_shows_it_and_runs_nothing(hostile: Path, browser: Browser, tmp_path: Path, page: str) -> None:
    for way in ("light", "phone"):
        with opened(browser, hostile / f"{page}.html", way) as tab:
            assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            keep(tab, tmp_path, f"hostile-{page}-{way}")


def test_the_fleet_finds_a_hostile_name(hostile: Path, browser: Browser) -> None:
    with opened(browser, hostile / "index.html") as tab:
        tab.get_by_label("Filter by name").fill("<script>")
        assert tab.locator("#fleet tbody tr:visible").count() == 1


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_model_card_stays_one_block_of_data_and_plain_text(hostile: Path, number: int) -> None:
    card = (hostile / f"audit-{number}.md").read_text(encoding="utf-8")
    _, front, text = card.split("---\n", 2)
    (index,) = yaml.safe_load(front)["model-index"]
    assert set(index) == {"name", "results"}
    assert "<" not in text.replace("\\<", "")
    assert not re.search(r"(?<!\\)\]\(", text)
    assert len(card) < 8000
