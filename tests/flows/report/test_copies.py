"""The report of an audit that was judged by copies: its answer, every copy on the page, its fields of a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw, ImageOps
from playwright.sync_api import Browser

from actors.workers.copy_region import CopyRegion
from flows.report.answers import answer, rate
from flows.report.facts import AuditFacts, StoreFacts, audit_facts, read_store
from flows.report.figures.copies import PICTURED, copy_views
from flows.report.figures.pairs import ImageSet, pair_groups
from flows.report.modelcard import model_card
from flows.report.pages import fleet_page, release_page
from flows.report.words import limits
from flows.results.audit_result import AuditResult
from flows.results.region_columns import region_columns
from storage.objects.open import LocalStore
from storage.results.tables import write_result
from tests.flows.report.conftest import keep, opened
from tests.flows.report.synthetic import copy_row, judged_by_copies, write_audit
from tests.storage.results.test_tables import row

MANY = PICTURED + 15


def picture(seed: int, width: int, height: int) -> Image.Image:
    """A small scene of random shapes."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), tuple(rng.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        (x, y), side = rng.integers(0, [width, height]).tolist(), int(rng.integers(width // 6, width // 2))
        colour = tuple(rng.integers(0, 256, 3).tolist())
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)((x, y, x + side, y + side), fill=colour)
    return image


def region_of(*, part: bool, mirrored: bool) -> CopyRegion:
    """All of an image, or its left half, which is the right half of a mirrored copy."""
    source = np.ones((16, 16), np.bool_)
    source[:, 8:] = not part
    return CopyRegion(source[:, ::-1] if mirrored else source, source)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> tuple[AuditFacts, StoreFacts, ImageSet, ImageSet]:
    """A release with more copies than are pictured: the 5th is gone, the last two are not listed."""
    folder = tmp_path_factory.mktemp("copied")
    store = LocalStore(folder / "store")
    copies = []
    for i in range(MANY):
        size = (32, 32) if i % 5 else (192, 120)
        source = picture(i, *size)
        for name, image in (("train", source), ("made", ImageOps.mirror(source) if (i + 1) % 3 == 1 else source)):
            (folder / name).mkdir(exist_ok=True)
            if (name, i) != ("made", 4):
                image.save(folder / name / f"{name}-{i:03d}.png")
        more: dict[str, Any] = {"identical": i == 1, "listed": i < MANY - 2, "part": i % 4 == 3}
        if i != 2:
            more |= region_columns(region_of(part=i % 4 == 3, mirrored=(i + 1) % 3 == 1), 112)
        copies.append(copy_row(i + 1, f"made-{i:03d}.png", f"train-{i:03d}.png", **more))
    write_audit(store, "mine", "glow", 1, 0.05)
    write_result(store, "evidence", "mine", [
        row("evidence", audit_id="mine", release="glow", version="1", layer=4, rank=i + 1,
            image_key=f"made-{i:03d}.png", train_key=f"train-{i:03d}.png", identical=False)
        for i in range(10)
    ])  # fmt: skip
    shared = read_store(store.uri)
    facts = judged_by_copies(
        audit_facts(store, shared, "mine"), copies, verdict="copying", copies_at_least=62, copies_low=0.19,
        copies_high=0.27, copies_p=5e-5, distinct_images=290, held_out_leaks=3,
    )  # fmt: skip
    return facts, shared, ImageSet(store, str(folder / "made"), None), ImageSet(store, str(folder / "train"), None)


def page_of(copied: tuple[AuditFacts, StoreFacts, ImageSet, ImageSet]) -> str:
    facts, _, made, train = copied
    groups = pair_groups(facts.outcome, facts.evidence, made, train)
    return release_page(facts, groups, "There is none.", copies=copy_views(facts.copies, made, train), fleet=True)


def test_regions_are_outlined_in_both_images(copied: tuple[AuditFacts, StoreFacts, ImageSet, ImageSet]) -> None:
    facts, _, made, train = copied
    views = copy_views(facts.copies, made, train)
    whole = "M0 0H32M0 32H32M0 0V32M32 0V32"
    assert (views[1].outline, views[1].train_outline) == (whole, whole)
    assert (views[3].outline, views[3].train_outline) == (
        "M16 0H32M16 32H32M16 0V32M32 0V32",
        "M0 0H16M0 32H16M0 0V32M16 0V32",
    )
    wide = views[15]  # 160 × 100 pixels, of which the central square was compared
    assert wide.train_outline == "M30 0H80M30 100H80M30 0V100M80 0V100"
    assert (views[2].outline, views[2].train_outline) == ("", "")
    html = page_of(copied)
    assert html.count("<svg viewBox") >= 2 * PICTURED - 3
    assert "region: 50 % of it, 50 % of the training image" in html
    assert "Outlined: the region" in html
    no_regions = [{**row, "region": None, "train_region": None} for row in facts.copies[:3]]
    views = copy_views(no_regions, made, train)
    assert "Outlined" not in release_page(facts, [], "There is none.", copies=views, fleet=False)


@pytest.mark.parametrize("text", ["", "<script>", "abc", "f" * 20_000, "ff" * 7])
def test_a_region_that_is_none_is_not_drawn(
    copied: tuple[AuditFacts, StoreFacts, ImageSet, ImageSet], text: str
) -> None:
    facts, _, made, train = copied
    (view,) = copy_views([{**facts.copies[0], "region": text}], made, train)
    assert (view.outline, view.train_outline != "") == ("", True)


def judged(verdict: str, checks: tuple[str, ...] = (), **columns: Any) -> AuditResult:
    """An audit of 300 images judged by copies; the named checks failed."""
    audit = {
        "release": "r", "version": "1", "run": "1", "verdict": verdict, "images": 300, "distinct_images": 300,
        "copies_at_least": 0, "copies_low": 0.0, "copies_high": 0.004, "copies_p": 0.7, "copies_listed": 0,
        "held_out_leaks": 0, "max_copy_rate": 0.0, "smallest_detectable_rate": 0.003, "invalid_reason": "",
        "sentence": "s", "rejected": 0, "fit_verdict": "no difference seen", "fit_sentence": "closer, p = 0.01",
    }  # fmt: skip
    failed = [
        {"name": name, "passed": False, "severity": "inconclusive", "remedy": f"mend {name}", "sentence": name}
        for name in checks
    ]
    return AuditResult({**audit, **columns}, [], failed)


CLOSER: dict[str, Any] = {"fit_verdict": "closer than unseen"}
ALLOWED: dict[str, Any] = {"copies_at_least": 3, "copies_low": 0.004, "copies_high": 0.008, "max_copy_rate": 0.01,
                           "copies_listed": 3}  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "tone", "headline"),
    [
        (judged("copying", copies_at_least=12), "bad",
         "At least 12 of 300 images of r@1 are copies of training images."),
        (judged("copying", copies_at_least=1), "bad",
         "At least 1 of 300 images of r@1 is a copy of a training image."),
        (judged("copying", copies_at_least=12, distinct_images=60), "bad",
         "At least 12 of 60 distinct images of r@1 are copies of training images."),
        (judged("no copying seen"), "good", "No copies were seen in r@1; the rate is below 0.4 %."),
        (judged("no copying seen", **ALLOWED), "good",
         "At least 3 of 300 images of r@1 are copies of training images, within the limit of 1 %."),
        (judged("inconclusive", ("power",), copies_high=0.1), "open",
         "No copies were seen in r@1, but this audit is too small to rule them out."),
        (judged("inconclusive", copies_at_least=3, copies_low=0.004), "open", "but none can be listed"),
        (judged("inconclusive", **CLOSER), "open",
         "No copies were seen in r@1, but it lies closer to the training images than unseen ones."),
        (judged("inconclusive", **{**ALLOWED, "copies_high": 0.1}), "open", "whether more than the limit are"),
        (judged("invalid", invalid_reason="other sizes"), "open", "not valid"),
    ],
)  # fmt: skip
def test_the_answer_says_what_was_found(outcome: AuditResult, tone: str, headline: str) -> None:
    said = answer(outcome)
    assert said.tone == tone
    assert headline in said.headline
    assert said.sure
    assert said.todo


def test_the_answer_says_what_was_counted_once_and_what_hides_copies() -> None:
    found = answer(judged("copying", copies_at_least=9, copies_listed=11, distinct_images=60, held_out_leaks=4))
    said = " ".join(found.sure)
    assert "11 images are listed below" in said
    assert "240 of its 300 images repeat others" in said
    assert "4 held-out images look like training images" in said
    assert "too small" not in said
    assert any("mend power" in line for line in answer(judged("inconclusive", ("power",))).todo)


def test_the_limits_are_those_of_what_judged() -> None:
    by_copies, by_layers = judged("copying").audit, {"copies_at_least": None}
    assert any("quarter turns 6 %" in line for line in limits(by_copies))
    assert not any("quarter turns" in line for line in limits(by_layers))
    assert rate(by_copies) == "0–0.4 % (95 % bounds)"


def test_every_copy_is_on_the_page(copied: tuple[AuditFacts, StoreFacts, ImageSet, ImageSet]) -> None:
    html = page_of(copied)
    section = html[html.index('id="copies"') : html.index('id="curve"')]
    for i in range(MANY):
        assert f"made-{i:03d}.png" in section
        assert f"train-{i:03d}.png" in section
    assert section.count("<img ") == 2 * PICTURED - 1
    assert "The generated image is not shown" in section
    assert section.count('<li class="pair') == PICTURED
    assert f"The first {PICTURED} are shown as pictures above. Further images: {MANY - PICTURED}." in section
    assert section.count(">not listed<") == 2
    assert "Not listed, but above every unseen image: 2." in section
    assert "The verdict does not rest on them" in html
    assert "on which the verdict rests" not in html
    assert "Dashed: the limit" not in html


@pytest.mark.parametrize(
    ("columns", "said"),
    [({}, "No generated image is listed"), ({"copies_at_least": 2}, "The list of copies is not in the store")],
)
def test_a_page_without_copies_says_so(
    copied: tuple[AuditFacts, StoreFacts, ImageSet, ImageSet], columns: dict[str, Any], said: str
) -> None:
    facts = judged_by_copies(copied[0], [], verdict="no copying seen", **columns)
    assert said in release_page(facts, [], "There is none.", fleet=False)


def test_an_audit_by_layers_has_no_section_of_copies(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    write_audit(store, "old", "old", 1, 0.05)
    html = release_page(audit_facts(store, read_store(store.uri), "old"), [], "There is none.", fleet=False)
    assert 'id="copies"' not in html
    assert "does not rest on them" not in html
    assert "Dashed: the limit, 1 %" in html


def test_a_browser_shows_them_wide_and_narrow(
    copied: tuple[AuditFacts, StoreFacts, ImageSet, ImageSet], browser: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(page_of(copied), encoding="utf-8")
    for way in ("light", "dark", "phone"):
        with opened(browser, path, way) as tab:
            assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            places = "document.querySelectorAll('.outlined')"
            over = "(at, box) => ['x', 'y', 'width', 'height'].every((end) => Math.abs(at[end] - box[end]) < 1)"
            both = "over(one.children[0].getBoundingClientRect(), one.children[1].getBoundingClientRect())"
            outlined = f"[...{places}].filter((one) => one.children[1])"
            assert tab.evaluate(f"(() => {{ const over = {over}; return {outlined}.every((one) => {both}); }})()")
            keep(tab, tmp_path, f"copies-{way}")


def test_the_model_card_has_the_counts(copied: tuple[AuditFacts, StoreFacts, ImageSet, ImageSet]) -> None:
    _, front, text = model_card(copied[0]).split("---\n", 2)
    metrics = yaml.safe_load(front)["model-index"][0]["results"][0]["metrics"]
    assert {one["type"]: one["value"] for one in metrics} == {
        "copies_at_least": 62, "copy_rate_low": 0.19, "copy_rate_high": 0.27
    }  # fmt: skip
    assert "At least 62 of 290 distinct images of glow@1 are copies" in text
    in_groups = judged_by_copies(copied[0], [], verdict="copying", copies_at_least=5, distinct_images=290, units=100)
    assert "At least 5 of 100 groups of images of glow@1 are copies" in model_card(in_groups)
    assert "| images listed as copies | 73 |" in text


def test_the_page_of_all_releases_shows_the_lower_bound(
    copied: tuple[AuditFacts, StoreFacts, ImageSet, ImageSet],
) -> None:
    facts, shared, *_ = copied
    by_layers = {**shared.audits[0], "release": "older"}
    audits = [{**shared.audits[0], **facts.audit}, by_layers]
    html = fleet_page(StoreFacts(shared.uri, audits, [], []), {}, [])
    assert "≥ 19 %" in html
    assert "19–27 %" in html
    assert ">5 %<" in html
