"""The reports in a real browser: light, dark, on a phone, printed, without JavaScript."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.flows.report.conftest import Reported, keep, opened, program

WAYS = ("light", "dark", "phone", "plain")
PAGES = ("copies@1", "unseen@2", "index")


def path_of(reported: Reported, page: str) -> Path:
    return reported.folder / "index.html" if page == "index" else reported.page(page)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_whole_every_way(
    reported: Reported, browser: Browser, tmp_path: Path, page: str, way: str
) -> None:
    with opened(browser, path_of(reported, page), way) as tab:
        keep(tab, tmp_path, f"{page.replace('@', '-')}-{way}")
        if way == "plain":
            assert tab.locator(".chart svg").count() == (1 if page == "index" else 3)
            expect(tab.locator("h1")).to_be_visible()
            return
        widths = tab.evaluate("[...document.images].map((one) => [one.naturalWidth, one.width, one.height, one.alt])")
        assert page == "index" or len(widths) >= 24
        assert all(min(natural, width, height) > 0 and alt for natural, width, height, alt in widths)
        drawn = tab.evaluate(
            "[...document.querySelectorAll('.chart svg')].map((one) => one.getBoundingClientRect().right)"
        )
        assert len(drawn) == (1 if page == "index" else 3)
        room = tab.evaluate("document.documentElement.clientWidth")
        assert max(drawn) <= room + 1
        assert tab.evaluate("document.documentElement.scrollWidth") <= room


def test_the_first_screen_answers(reported: Reported, browser: Browser) -> None:
    with opened(browser, reported.page("copies@1")) as tab:
        answer = tab.locator(".answer")
        text = answer.inner_text()
        assert re.search(r"At least (7\d|80) of 80 images of copies@1 are copies of training images\.", text)
        assert re.search(r"Rate of copies: 9\d(\.\d)?–100 %", text)
        assert "What to do" in text
        box = answer.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 800


@pytest.mark.parametrize("way", ["light", "dark", "phone", "plain"])
@pytest.mark.parametrize("page", PAGES)
def test_print_cuts_nothing(reported: Reported, browser: Browser, tmp_path: Path, page: str, way: str) -> None:
    """Every word of the page is in the PDF, and within the margins of its pages."""
    reader, pdf = program("pdftotext"), tmp_path / "page.pdf"
    with opened(browser, path_of(reported, page), "light") as tab:
        tab.evaluate("document.querySelectorAll('.chart, .controls').forEach((one) => { one.style.display = 'none'; })")
        words = tab.evaluate("document.getElementById('main').innerText").split()
    with opened(browser, path_of(reported, page), way) as tab:
        tab.pdf(path=pdf, format="A4")
    text = subprocess.run([reader, "-raw", pdf, "-"], capture_output=True, text=True, check=True).stdout
    printed = "".join(text.split())
    assert len(words) > (40 if page == "index" else 500)
    assert [word for word in words if word not in printed] == []
    boxes = subprocess.run([reader, "-bbox", pdf, "-"], capture_output=True, text=True, check=True).stdout
    (width,) = {float(found) for found in re.findall(r'<page width="([\d.]+)"', boxes)}
    assert min(map(float, re.findall(r'xMin="([\d.-]+)"', boxes))) > 30
    assert max(map(float, re.findall(r'xMax="([\d.]+)"', boxes))) < width - 30
    assert boxes.count("<page ") <= (2 if page == "index" else 15)  # of 80 copies, 60 with pictures


def names(tab: Page) -> list[str]:
    found: list[str] = tab.evaluate(
        "[...document.querySelectorAll('#fleet tbody tr:not([hidden]) th')].map((one) => one.textContent)"
    )
    return found


def test_the_fleet_sorts_filters_and_leads_to_the_reports(reported: Reported, browser: Browser) -> None:
    with opened(browser, path_of(reported, "index")) as tab:
        assert names(tab) == ["unseen@2", "copies@1"]
        copy_rate = tab.get_by_role("columnheader", name="copy rate")
        copy_rate.get_by_role("button").focus()
        tab.keyboard.press("Enter")
        expect(copy_rate).to_have_attribute("aria-sort", "ascending")
        assert names(tab) == ["unseen@2", "copies@1"]
        tab.keyboard.press("Enter")
        expect(copy_rate).to_have_attribute("aria-sort", "descending")
        assert names(tab) == ["copies@1", "unseen@2"]
        tab.get_by_label("Filter by name").fill("memor 20")
        assert names(tab) == ["copies@1"]
        expect(tab.get_by_role("status")).to_have_text("1 of 2 releases")
        tab.get_by_label("Filter by name").fill("")
        tab.locator("#verdict").select_option("no copying seen")
        assert names(tab) == ["unseen@2"]
        assert tab.get_by_role("link", name="unseen@2").get_attribute("href") == reported.page("unseen@2").name
    for one in reported.made.written:
        assert one.path.parent == reported.folder


@pytest.mark.parametrize(
    ("chart", "marks"), [("curve-chart", "rule.role-mark line"), ("distance-chart", "rect.role-mark path")]
)
def test_a_legend_entry_fades_what_was_not_chosen(reported: Reported, browser: Browser, chart: str, marks: str) -> None:
    with opened(browser, reported.page("copies@1")) as tab:
        drawn = tab.locator(f"#{chart} .mark-{marks}")
        look = "(all) => [...new Set(all.map((one) => getComputedStyle(one).opacity))].length"
        assert drawn.evaluate_all(look) == 1
        tab.locator(f"#{chart} .role-legend-label text").nth(1).click()
        tab.wait_for_timeout(300)
        assert drawn.evaluate_all(look) == 2


def test_pages_speak_to_screen_readers(reported: Reported, browser: Browser) -> None:
    with opened(browser, reported.page("copies@1")) as tab:
        wrong = tab.evaluate(
            """() => [
              ...[...document.querySelectorAll('table')].filter((one) => !one.caption || !one.tHead),
              ...[...document.querySelectorAll('th')].filter((one) => !one.scope),
              ...[...document.querySelectorAll('.scroll')].filter((one) => one.tabIndex !== 0),
              ...[...document.querySelectorAll('[id]')].filter((one) => document.getElementById(one.id) !== one),
            ].map((one) => one.outerHTML.slice(0, 80))"""
        )
        assert wrong == []
        levels = tab.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((one) => Number(one.tagName[1]))")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert tab.evaluate("document.documentElement.lang") == "en"
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.textContent") == "Skip to the content"
