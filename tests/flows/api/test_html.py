"""The cards of a store in which every text is hostile."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from flows.api.html import attribution_card, audit_card, pairs_card
from flows.report.facts import AuditFacts, audit_facts, read_store
from flows.report.figures.copies import copy_views
from flows.report.figures.pairs import ImageSet, PairView, pair_groups
from storage.objects.open import LocalStore
from tests.flows.report.synthetic import HOSTILE, copy_row, judged_by_copies, write_hostile
from tests.storage.results.test_tables import row

ALLOWED = set(
    re.findall(
        r"\w+",
        "div p strong details summary table thead tbody tr th td figure figcaption br img "
        "svg defs clippath g path line rect text title",
    )
)


class Elements(HTMLParser):
    """The elements and attributes of a fragment."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs


def is_safe(html: str) -> None:
    """Assert that a fragment has no element of a stranger, runs nothing, loads nothing."""
    elements = Elements(html)
    assert elements.tags <= ALLOWED
    assert not [name for name, _ in elements.attributes if name.startswith("on")]
    assert not [value for name, value in elements.attributes if name in ("href", "src", "xlink:href")]
    assert not {"\u202e", "\u2066", "\u0000", "\u001b"} & set(html)
    assert not re.search(r"url\((?!#)", html)
    assert len(html) < 200_000


@pytest.fixture(params=range(len(HOSTILE)))
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[AuditFacts, list[PairView]]:
    store = LocalStore(tmp_path / "store")
    audit = write_hostile(store, "audit", HOSTILE[request.param])
    facts = audit_facts(store, read_store(store.uri), audit["audit_id"])
    nowhere = ImageSet(store, str(tmp_path / "none"), None)
    return facts, pair_groups(facts.outcome, facts.evidence, nowhere, nowhere)[0].pairs


def test_a_hostile_audit_is_only_text(hostile: tuple[AuditFacts, list[PairView]]) -> None:
    facts, pairs = hostile
    assert pairs
    is_safe(audit_card(facts, pairs))
    is_safe(pairs_card(pairs))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_copies_are_only_text(text: str, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    audit = write_hostile(store, "audit", "name")
    names = {"image_key": text, "train_key": text, "view": text}
    rows = [row("copies", audit_id="audit", rank=i, listed=True, identical=False, **names) for i in range(1, 9)]
    facts = judged_by_copies(audit_facts(store, read_store(store.uri), audit["audit_id"]), rows)
    card = audit_card(facts, [])
    is_safe(card)
    assert card.count("a part") == 5
    assert "and 3 more" in card


def test_the_strongest_copies_are_pictures_with_their_regions(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    audit = write_hostile(store, "audit", "name")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (32, 32), "navy").save(tmp_path / "images" / "a.png")
    images = ImageSet(store, str(tmp_path / "images"), None)
    upper = {"region": "ff" * 4 + "00" * 4, "train_region": "<script>"}
    rows = [copy_row(1, "a.png", "a.png", **upper), copy_row(2, "a.png", "gone.png")]
    facts = judged_by_copies(audit_facts(store, read_store(store.uri), audit["audit_id"]), rows)
    card = audit_card(facts, [], copy_views(rows, images, images))
    assert Elements(card).tags <= ALLOWED
    assert card.count("<img ") == 3
    assert card.count('<path d="M0 0H32M0 16H32M0 0V16M32 0V16"') == 2
    assert "The training image is not shown" in card


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_maker_is_only_text(text: str) -> None:
    is_safe(attribution_card(text, text, [{"maker": text, "probability": 0.5, "p_value": None}], 0.5))
