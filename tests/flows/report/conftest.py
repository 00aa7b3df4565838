"""One audit shared by all tests of the report, and a real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from playwright.sync_api import Browser, Page, sync_playwright

from flows.attribute import attribute_images
from flows.audit import audit
from flows.report.make import Reports, make_reports
from flows.runtime.runtime import running
from flows.spec.spec import AuditSpec, load_spec
from storage.objects.open import open_store

CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Reported(NamedTuple):
    """An audited spec of the laboratory, the folder of its reports, and what `make_reports` returned."""

    path: Path
    spec: AuditSpec
    folder: Path
    made: Reports

    def page(self, release: str) -> Path:
        return next(one.path for one in self.made.written if one.release == release)


@pytest.fixture(scope="session")
def reported(lab: str, services: None, tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """Copies (memorized), unseen (clean) with an unreadable image; two sets are attributed."""
    folder = tmp_path_factory.mktemp("reported")
    store, source = open_store("s3://test/reported"), open_store(f"{lab}/unseen")
    for info in source.list():
        store.put(f"unseen/{info.key}", source.get(info.key))
    store.put("unseen/zz-broken.png", b"\x89PNG but not really")
    spec = {
        "store": "s3://test/reported/audits",
        "encoder": {"model": "test_vit", "weights": "random", "image_size": 8, "model_args": {"patch_size": 4}},
        "reference": {"name": "digits", "train": f"{lab}/train/", "held_out": f"{lab}/held_out/"},
        "releases": [
            {"name": "copies", "family": "memorizer", "images": f"{lab}/copies/"},
            {"name": "unseen", "version": 2, "images": "s3://test/reported/unseen/"},
        ],
        "scoring": {"cells": 2, "components": 16},
        "gate": {"detectable_copy_rate": 0.1},
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    loaded = load_spec(path)
    with running() as runtime:
        audit(runtime, loaded)
        for images in (f"{lab}/fresh/", f"{lab}/copies/"):
            attribute_images(runtime, loaded, images)
    return Reported(path, loaded, folder / "reports", make_reports(loaded, None, folder / "reports", "html"))


def program(*names: str) -> str:
    """The path of an installed program; without one the test is skipped, or fails in CI."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        message = f"none of {', '.join(names)} is installed"
        if os.environ.get("LAYERPRINT_ALL_TESTS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The installed Chromium, closed after the module: Playwright's event loop conflicts with Prefect's."""
    executable = program("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_OPTIONS)
        yield chromium
        chromium.close()


LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1100, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1100, "height": 800}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 800}},
    "plain": {"java_script_enabled": False, "viewport": {"width": 1100, "height": 800}},
}
"""Ways to look at a page; "plain" is without JavaScript."""


@contextmanager
def opened(browser: Browser, page: Path | str, look: str = "light") -> Iterator[Page]:
    """An open page; on exit it must have used no network and written nothing to the console."""
    url = page if isinstance(page, str) else page.as_uri()
    context = browser.new_context(**LOOKS[look])  # type: ignore[arg-type]
    tab = context.new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: said.append(f"error: {error}"))
    tab.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
    tab.on("request", lambda request: said.append(request.url) if not request.url.startswith((url, "data:")) else None)
    tab.goto(url)
    if look != "plain":
        tab.wait_for_function("[...document.querySelectorAll('.chart')].every((one) => one.dataset.alive)")
    yield tab
    context.close()
    assert said == []


def keep(tab: Page, folder: Path, name: str) -> None:
    """A screenshot for people: in LAYERPRINT_SCREENSHOTS where that is set, else in the test's folder."""
    place = Path(os.environ.get("LAYERPRINT_SCREENSHOTS", folder))
    place.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=place / f"{name}.png", full_page=True)
