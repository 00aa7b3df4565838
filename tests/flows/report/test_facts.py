"""What the report says is what the store holds; what the store lacks is a sentence."""

from __future__ import annotations

import dataclasses
import re
from html import unescape
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from flows.report.answers import answer
from flows.report.distances import DistanceHistogram, histogram, read_histogram
from flows.report.facts import AuditFacts, StoreFacts, audit_facts, read_store
from flows.report.figures.pairs import SIDE, ImageSet, PairGroup, Picture, pair_groups
from flows.report.make import make_reports
from flows.report.pages import release_page
from flows.results.audit_result import AuditResult
from flows.results.made_from import made_from
from storage.errors import InputError
from storage.objects.open import LocalStore, open_store
from storage.results.tables import read_result
from tests.flows.conftest import COPIES, HELD_OUT
from tests.flows.report.conftest import Reported
from tests.flows.report.synthetic import write_audit


def facts_of(reported: Reported, release: str) -> AuditFacts:
    store = open_store(reported.spec.store)
    audit_id = next(one.audit_id for one in reported.made.written if one.release == release)
    return audit_facts(store, read_store(store.uri), audit_id)


def groups_of(reported: Reported, facts: AuditFacts, images: str) -> list[PairGroup]:
    store = open_store(reported.spec.store)
    release = ImageSet(store, images, facts.audit["images_digest"])
    return pair_groups(facts.outcome, facts.evidence, release, ImageSet(store, reported.spec.reference.train, None))


def test_the_facts_are_those_of_the_store(reported: Reported) -> None:
    facts = facts_of(reported, "copies@1")
    assert facts.outcome.verdict == "copying"
    assert facts.own.a_hat == [row["a_hat"] for row in facts.outcome.scores]
    (other,) = facts.others
    unseen = facts_of(reported, "unseen@2")
    assert (other.label, facts.enrolled) == ("unseen@2", 1)
    known = [a for a in unseen.own.a_hat if a is not None]
    np.testing.assert_allclose(other.a_hat, known, atol=0.02)  # type: ignore[arg-type]
    assert all(low < a < high for low, a, high in zip(other.low, other.a_hat, other.high, strict=True))  # type: ignore[operator]
    assert [row["key"] for row in unseen.rejects] == ["zz-broken.png"]
    assert [len(candidates) for candidates in facts.asked] == [2]
    assert {row["images_uri"].rsplit("/", 2)[1] for row in facts.named} == {"copies", "fresh"}
    assert facts.evidence == sorted(facts.evidence, key=lambda row: (row["layer"], row["rank"]))


def test_pairs_are_small_pictures_drawn_anew(reported: Reported) -> None:
    facts = facts_of(reported, "copies@1")
    groups = groups_of(reported, facts, reported.spec.releases[0].images)
    assert groups[0].role == "decides"
    assert {group.layer for group in groups} == {facts.decisive, facts.outcome.informative[0]["layer"],
                                                 facts.outcome.informative[-1]["layer"]}  # fmt: skip
    pairs = [pair for group in groups for pair in group.pairs]
    assert len({pair.row["image_key"] for pair in pairs}) == len(pairs)
    for pair in pairs:
        assert pair.missing == ""
        assert pair.row["identical"]
        assert pair.apart == 0.0
        assert {one.role for one in pair.elsewhere} == {"early", "late"}
        for picture in (pair.image, pair.train, pair.difference):
            assert isinstance(picture, Picture)
            assert picture.uri.startswith("data:image/webp;base64,UklGR")
            assert max(picture.width, picture.height) <= SIDE


def with_audit(facts: AuditFacts, **columns: str | None) -> AuditFacts:
    audit = {**facts.audit, **columns}
    return dataclasses.replace(facts, outcome=dataclasses.replace(facts.outcome, audit=audit))


def test_images_that_are_gone_are_a_sentence(reported: Reported) -> None:
    facts = facts_of(reported, "copies@1")
    groups = groups_of(reported, facts, f"{reported.spec.store}/nothing")
    for pair in (pair for group in groups for pair in group.pairs):
        assert pair.image is None
        assert pair.difference is None
        assert pair.train is not None
        assert re.match(r"The generated image is not shown: .+", pair.missing)
    page = release_page(facts, groups, "", fleet=False)
    assert "The generated image is not shown" in page
    assert "cannot be drawn" in page


def test_the_histogram_counts_the_distances_of_the_audit(reported: Reported) -> None:
    facts = facts_of(reported, "copies@1")
    counted = read_histogram(open_store(reported.spec.store), facts)
    assert isinstance(counted, DistanceHistogram)
    row = next(row for row in facts.outcome.scores if row["layer"] == facts.decisive)
    below = round(COPIES * float(counted.generated[counted.edges[1:] <= 1 + 1e-9].sum()))
    assert below == row["copies_below"]
    assert counted.identical == COPIES
    assert round(HELD_OUT * float(counted.unseen.sum())) == HELD_OUT
    gone = with_audit(facts, nearest="nearest/gone")
    assert "cannot be read" in str(read_histogram(open_store(reported.spec.store), gone))


def test_an_audit_without_the_new_columns_has_a_histogram_while_its_reference_is_known(reported: Reported) -> None:
    store, facts = open_store(reported.spec.store), facts_of(reported, "copies@1")
    old = with_audit(facts, **dict.fromkeys(("train_digest", "train_table", "held_out_table", "partition", "nearest")))
    assert made_from(store, old.audit) == made_from(store, facts.audit)
    counted, same = read_histogram(store, old), read_histogram(store, facts)
    assert isinstance(counted, DistanceHistogram)
    assert isinstance(same, DistanceHistogram)
    assert counted.identical == same.identical
    unknown = read_histogram(store, with_audit(old, reference_digest="other"))
    assert "did not record what this audit was made from" in str(unknown)
    assert str(unknown) in unescape(release_page(old, [], unknown, fleet=False))


@pytest.mark.parametrize(("held_out", "release"), [(50, 10), (200, 0)])
def test_a_histogram_without_a_threshold_is_none(held_out: int, release: int) -> None:
    assert histogram(0, np.arange(1.0, held_out + 1), np.ones(release)) is None
    assert histogram(0, np.zeros(200), np.ones(3)) is None


def outcome(verdict: str, **audit: object) -> AuditResult:
    known = {
        "release": "r", "version": "1", "run": "1", "verdict": verdict, "copy_rate": 0.04, "copy_rate_low": 0.02,
        "copy_rate_high": 0.06, "max_copy_rate": 0.01, "copying_layer": 3, "smallest_detectable_rate": 0.05,
        "invalid_reason": "", "sentence": "a sentence", "rejected": 0,
    }  # fmt: skip
    return AuditResult({**known, **audit}, [], [])


@pytest.mark.parametrize(
    ("verdict", "tone", "said"),
    [
        ("copying", "bad", "r@1 copies its training images."),
        ("no copying seen", "good", "No copying above 1 % was seen in r@1."),
        ("inconclusive", "open", "too small"),
        ("not judged", "open", "cannot be judged"),
        ("invalid", "open", "not valid"),
        ("something new", "open", "cannot be judged"),
    ],
)
def test_every_verdict_has_an_answer(verdict: str, tone: str, said: str) -> None:
    found = answer(outcome(verdict))
    assert found.tone == tone
    assert said in found.headline
    assert found.sure
    assert found.todo
    nothing = dict.fromkeys(
        ("copy_rate", "copy_rate_low", "copy_rate_high", "copying_layer", "smallest_detectable_rate")
    )
    assert answer(outcome(verdict, **nothing)).headline == found.headline


def test_only_the_nearest_of_many_curves_are_shown(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    audit = write_audit(store, "mine", "mine", 1, 0.0)
    layers = range(13)
    digests = dict.fromkeys(("reference_digest", "encoder_digest", "scoring_digest"), "d")
    curves = [
        {"profile_id": name, "release": name, "version": "1", "run": "1", "layer": layer, "logit_a": x,
         "variance": 0.01, **digests}
        for name, x in [("mine", 0.0), *((f"far-{i:02d}", 0.2 + i / 10) for i in range(20))]
        for layer in layers
    ]  # fmt: skip
    facts = audit_facts(store, StoreFacts(store.uri, [audit], curves, []), "mine")
    assert (len(facts.others), facts.enrolled) == (8, 20)
    assert [one.label for one in facts.others] == [f"far-{i:02d}@1" for i in range(8)]
    heights = [one.a_hat[0] or 0.0 for one in facts.others]
    assert all(a < b for a, b in pairwise(heights))


def test_an_old_audit_without_anything_is_still_a_page(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    write_audit(store, "old", "old", 1, 0.0, profile_id=None, run=None, search=None)
    facts = audit_facts(store, read_store(store.uri), "old")
    nowhere = ImageSet(store, "x", None)
    page = release_page(facts, pair_groups(facts.outcome, facts.evidence, nowhere, nowhere), "", fleet=False)
    for said in ("No validity checks are stored", "No other release is enrolled", "No pairs are stored",
                 "Attribution was not run", "All images of all sets were read"):  # fmt: skip
        assert said in page


def test_who_was_not_audited_is_said(reported: Reported, tmp_path: Path) -> None:
    spec = reported.spec
    stranger = spec.releases[0].model_copy(update={"name": "stranger"})
    both = spec.model_copy(update={"releases": [spec.releases[0], stranger]})
    made = make_reports(both, None, tmp_path, "html")
    assert ([one.release for one in made.written], made.missing) == (["copies@1"], ["stranger@1"])
    assert "Not audited yet: stranger@1" in (tmp_path / "index.html").read_text()
    with pytest.raises(InputError, match="stranger@1: no audit") as caught:
        make_reports(both, "stranger", tmp_path, "html")
    assert "layerprint audit SPEC --release stranger" in caught.value.remedy
    with pytest.raises(InputError, match="cannot be written"):
        make_reports(both, None, reported.path, "html")


def test_rejects_and_facts_match_the_store(reported: Reported) -> None:
    store = open_store(reported.spec.store)
    for one in reported.made.written:
        page = one.path.read_text(encoding="utf-8")
        for row in read_result(store, "rejects", one.audit_id).to_pylist():
            assert row["key"] in page
        for row in read_result(store, "checks", one.audit_id).to_pylist():
            assert row["name"] in page
