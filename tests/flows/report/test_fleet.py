"""The page of all releases with 1,000 of them: its weight, and how long a reader waits."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from flows.report.facts import read_store
from flows.report.pages import fleet_page
from storage.objects.open import LocalStore
from tests.flows.report.conftest import keep, opened
from tests.flows.report.synthetic import write_audit

RELEASES = 1000


@pytest.fixture(scope="module")
def fleet(slow: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a store with 1,000 releases of 13 layers, one of them audited twice."""
    folder = tmp_path_factory.mktemp("fleet")
    store = LocalStore(folder / "store")
    rates = np.random.default_rng(0).permutation(np.linspace(0, 0.1, RELEASES)).tolist()
    for i, rate in enumerate(rates):
        write_audit(store, f"a{i:04d}", f"model-{i}", i / 4, rate)
    write_audit(store, "again", "model-7", RELEASES, 0.5)
    began = time.monotonic()
    shared = read_store(store.uri)
    read = time.monotonic() - began
    page = fleet_page(shared, {row["audit_id"]: f"{row['audit_id']}.html" for row in shared.audits}, [])
    print(f"\n{len(shared.audits)} audits read in {read:.2f} s, page made in {time.monotonic() - began - read:.2f} s")
    (folder / "index.html").write_text(page, encoding="utf-8")
    return folder / "index.html"


def test_the_page_is_light_enough(fleet: Path) -> None:
    print(f"{fleet.stat().st_size / 1e6:.2f} MB")
    assert fleet.stat().st_size < 4_000_000


def test_it_opens_sorts_and_filters_at_once(fleet: Path, browser: Browser, tmp_path: Path) -> None:
    began = time.monotonic()
    with opened(browser, fleet) as tab:
        loaded = time.monotonic() - began
        keep(tab, tmp_path, "fleet-1000")
        took = """(act) => new Promise((done) => {
            const began = performance.now();
            act === "sort" ? document.querySelectorAll("#fleet th button")[3].click()
              : (document.getElementById("filter").value = "model-77",
                 document.getElementById("controls").dispatchEvent(new Event("input")));
            requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
        })"""
        sorting = tab.evaluate(took, "sort")
        rates = tab.evaluate(
            "[...document.querySelectorAll('#fleet td:nth-child(4)')].map((one) => Number(one.dataset.value))"
        )
        assert len(rates) == RELEASES
        assert rates == sorted(rates)
        assert rates[-1] == 0.5
        filtering = tab.evaluate(took, "filter")
        assert tab.locator("#fleet tbody tr:visible").count() == 11
        print(f"alive after {loaded:.2f} s, sorted in {sorting:.0f} ms, filtered in {filtering:.0f} ms")
        assert loaded < 15
        assert sorting < 2000
        assert filtering < 2000
    with opened(browser, fleet, "plain") as tab:
        assert tab.locator("#fleet tbody tr").count() == RELEASES
        assert not tab.locator("#controls").is_visible()
