"""The rows of an audit that is judged by the copy score, on the tables of a finished store."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors.encoder.config import EncoderFacts
from actors.stages.copies import CopiesFound, ScoredImages
from actors.stages.reference import ReferenceTables
from actors.stages.score import Scored
from actors.workers.copy_region import CopyRegion
from flows.results.audit_result import (
    COPYING,
    INCONCLUSIVE,
    INVALID,
    NO_COPYING,
    NOT_JUDGED,
    load_audit_result,
    load_whole_audit,
)
from flows.results.audit_rows import FinishedAudit, save_audit_result
from flows.results.copies_rows import judge_copies
from flows.results.identity import Reference
from flows.spec.spec import load_spec
from scoring.checks.check import Check
from scoring.copies.units import Units
from scoring.verdict.copies import copies_verdict
from scoring.verdict.fit import ALIKE, CLOSER
from storage.layout import embedding_table
from storage.objects.open import open_store
from storage.results.sql import run_sql
from storage.results.tables import read_result, result_key, result_keys
from storage.vectors.tables import VectorStore
from tests.paths import ROOT

TRAIN, RELEASE, HELD_OUT = 160, 80, 140
LEFT_OUT = 4


def scored(scores: Sequence[float], images: int | None = None) -> ScoredImages:
    count = len(scores)
    return ScoredImages(
        rows=np.arange(count),
        scores=np.array(scores, np.float64),
        late=np.linspace(1, 2, count),
        votes=np.linspace(3, 4, count),
        sources=np.arange(count)[::-1] % 50,
        parts=np.arange(count) % 2 == 1,
        views=np.arange(count) % 3,
        identical=np.arange(count) == 0,
        images=count if images is None else images,
        files=np.ones(count, np.int64),
        pictures=np.arange(count),
        train_files=np.ones(count, np.int64),
        train_alike=np.ones(count, np.int64),
    )


def found_copies(copies: int, leaks: int = 0, distinct: int = RELEASE) -> CopiesFound:
    """The first images of a release score above every held-out image, the later ones the more."""
    release = np.linspace(0, 1, distinct)
    release[:copies] = 10 + np.arange(copies)
    used = HELD_OUT - LEFT_OUT
    leaked = np.arange(used) < leaks
    return CopiesFound(
        held_out=scored(np.linspace(0, 1.1, used).tolist()),
        generated=scored(release.tolist(), RELEASE),
        leaks=leaked,
        views=("as it is", "mirrored", "shifted"),
        layer=4,
        table="tokens_of_the_release",
        units=Units.single(used, distinct),
    )


@pytest.fixture
def done(tmp_path: Path) -> FinishedAudit:
    """An audit without layers over the embedding tables of the old store: its release is 80 training images."""
    shutil.copytree(ROOT / "tests" / "data" / "store-0.1.0", tmp_path / "old")
    with tarfile.open(tmp_path / "old" / "store.tar.xz") as archive:
        archive.extractall(tmp_path / "old", filter="data")
    spec = load_spec(tmp_path / "old" / "spec.yaml")
    vectors = VectorStore(open_store(spec.store))
    sizes = {table.rows: table for table in map(vectors.committed, vectors.finished()) if table is not None}
    audit = next(row for row in run_sql(spec.store, "FROM audits").to_pylist() if row["release"] == "copies")
    table = vectors.committed(embedding_table(audit["encoder_digest"], audit["images_digest"]))
    assert table is not None
    tables = ReferenceTables(
        layers=(),
        train=sizes[TRAIN],
        held_out=sizes[HELD_OUT],
        partition="partition",
        nearest="nearest",
        contaminated="contaminated",
        contaminated_images=LEFT_OUT,
        metric="euclidean",
        search="in_cell",
        seed=0,
    )
    facts = EncoderFacts("encoder", "weights", {}, {}, (), (), "bicubic", 8, "cls", "test_vit")
    return FinishedAudit(
        spec=spec.model_copy(update={"gate": spec.gate.model_copy(update={"max_copy_rate": 0.0})}),
        release=spec.release("copies"),
        reference=Reference(facts, tables, []),
        table=table,
        images_digest="images",
        train_digest="train",
        nearest="nearest",
        scored=Scored({}, None),
        profile_id=None,
        seconds=1.0,
        forward_images=0,
    )


def test_every_copy_is_a_row_and_the_verdict_is_theirs(done: FinishedAudit) -> None:
    done = replace(done, copies=found_copies(20))
    store = open_store(done.spec.store)
    save_audit_result(store, done)
    outcome = load_whole_audit(store, done.audit_id)
    assert outcome is not None
    audit = outcome.audit
    assert (outcome.verdict, outcome.by_copies) == (COPYING, True)
    assert (audit["copies_layer"], audit["tokens"], audit["copying_layer"]) == (4, "tokens_of_the_release", None)
    assert (audit["distinct_images"], audit["distinct_held_out"]) == (RELEASE, HELD_OUT - LEFT_OUT)
    assert audit["held_out_leaks"] == 0
    assert 17 <= audit["copies_at_least"] <= 20
    assert 0 < audit["copies_low"] < 20 / RELEASE < audit["copies_high"] < 0.5
    assert audit["copies_p"] < 0.001
    assert f"at least {audit['copies_at_least']} of {RELEASE} images" in audit["sentence"]
    power = next(check for check in outcome.checks if check["name"] == "power")
    assert (power["value"], power["threshold"]) == (
        audit["smallest_detectable_rate"],
        done.spec.gate.detectable_copy_rate,
    )
    assert len(outcome.copies) == audit["copies_listed"] == len(outcome.listed) == 20
    assert [row["rank"] for row in outcome.copies] == list(range(1, 21))
    assert [row["score"] for row in outcome.copies] == [29.0 - i for i in range(20)]
    vectors = VectorStore(store)
    images = vectors.identities(done.table, range(20))
    train = vectors.identities(done.reference.tables.train, range(50))
    for row in outcome.copies:
        at = 20 - row["rank"]
        assert row["image_key"] == images[at].key
        assert row["train_key"] == train[(RELEASE - 1 - at) % 50].key
        assert (row["part"], row["identical"]) == (at % 2 == 1, at == 0)
        assert row["view"] == ("as it is", "mirrored", "shifted")[at % 3]
        assert row["p_value"] == pytest.approx(1 / (HELD_OUT - LEFT_OUT + 1))
    assert outcome.to_json()["copies"] == outcome.copies
    (latest,) = run_sql(done.spec.store, "FROM releases WHERE release = 'copies'").to_pylist()
    assert (latest["copies_at_least"], latest["copies_low"]) == (audit["copies_at_least"], audit["copies_low"])
    assert run_sql(done.spec.store, "FROM latest_copies").num_rows == 20


def test_the_region_of_each_copy_is_in_its_row(done: FinishedAudit) -> None:
    done = replace(done, copies=found_copies(20))
    upper, none = np.zeros((8, 8), np.bool_), np.zeros((8, 8), np.bool_)
    upper[:4, 2:] = True
    regions = [CopyRegion(upper, none)] * 20
    store = open_store(done.spec.store)
    save_audit_result(store, done, regions)
    rows = read_result(store, "copies", done.audit_id).to_pylist()
    assert len(rows) == len(done.shown) == 20
    for row in rows:
        assert (row["region_share"], row["train_region_share"]) == (0.375, 0.0)
        assert [row[f"region_{end}"] for end in ("left", "top", "right", "bottom")] == [2, 0, 8, 4]
        assert [row[f"train_region_{end}"] for end in ("left", "top", "right", "bottom")] == [None] * 4
        assert (row["region"], row["train_region"]) == ("3f" * 4 + "00" * 4, "00" * 8)
    (bits,) = run_sql(done.spec.store, "SELECT DISTINCT bit_count(unhex(region)::BIT) AS n FROM copies").to_pylist()
    assert bits["n"] == 24


def test_regions_that_are_not_known_are_null(done: FinishedAudit) -> None:
    done = replace(done, copies=found_copies(20))
    store = open_store(done.spec.store)
    save_audit_result(store, done)
    rows = read_result(store, "copies", done.audit_id).to_pylist()
    assert {row[name] for row in rows for name in row if "region" in name} == {None}


def test_a_broken_list_makes_the_audit_again(done: FinishedAudit) -> None:
    done = replace(done, copies=found_copies(20))
    store = open_store(done.spec.store)
    save_audit_result(store, done)
    store.put(result_key("copies", done.audit_id), b"broken")
    assert load_audit_result(store, done.audit_id) is None
    assert load_whole_audit(store, done.audit_id) is None


def test_without_copy_scores_nothing_is_written_of_them(done: FinishedAudit) -> None:
    store = open_store(done.spec.store)
    save_audit_result(store, done)
    outcome = load_whole_audit(store, done.audit_id)
    assert outcome is not None
    assert (outcome.verdict, outcome.by_copies, outcome.copies) == (NOT_JUDGED, False, [])
    assert all(value is None for name, value in outcome.audit.items() if name.startswith("copies_"))
    assert read_result(store, "copies").num_rows == 0
    assert "copies" not in outcome.to_json()
    assert result_keys(store, "copies") == []


def test_repeated_images_are_said_to_be_few(done: FinishedAudit) -> None:
    done = replace(done, copies=found_copies(5, distinct=16))
    store = open_store(done.spec.store)
    save_audit_result(store, done)
    audit = read_result(store, "audits", done.audit_id).to_pylist()[0]
    assert (audit["images"], audit["distinct_images"]) == (RELEASE, 16)
    assert f"{RELEASE} files hold 16 distinct images" in audit["sentence"]


def test_groups_repetition_and_multiplicities_are_told(done: FinishedAudit) -> None:
    """Eighty images show forty pictures, ten of them copies; three of their sources occur more than once in train."""
    found = found_copies(20)
    pictures = np.arange(RELEASE) // 2 * 2
    files, alike = np.ones(RELEASE, np.int64), np.ones(RELEASE, np.int64)
    files[:3], alike[5] = 17, 4
    generated = replace(found.generated, pictures=pictures, train_files=files, train_alike=alike)
    units = replace(found.units, generated=pictures, files=generated.picture_files)
    done = replace(done, copies=replace(found, generated=generated, units=units))
    store = open_store(done.spec.store)
    save_audit_result(store, done)
    outcome = load_whole_audit(store, done.audit_id)
    assert outcome is not None
    audit = outcome.audit
    assert outcome.verdict == COPYING
    assert (audit["distinct_images"], audit["units"], audit["held_out_units"]) == (RELEASE, 40, HELD_OUT - LEFT_OUT)
    assert (audit["pictures"], audit["repeated_pictures"], audit["repeated_images"], audit["most_repeated"]) == (
        (40, 40, RELEASE, 2)
    )
    assert audit["copied_files_at_least"] == 2 * audit["copies_at_least"]
    assert f"at least {audit['copies_at_least']} of 40 groups of images are copies" in audit["sentence"]
    assert f"{RELEASE} files are 40 groups of images" in audit["sentence"]
    assert "3 of the 20 training images that are copied occur 17 times in the training set" in audit["sentence"]
    repetition = next(check for check in outcome.checks if check["name"] == "repetition")
    assert (repetition["passed"], repetition["value"], repetition["severity"]) == (False, 1.0, "note")
    for row in outcome.copies:
        at = 20 - row["rank"]
        assert (row["picture"], row["picture_files"]) == (at // 2 * 2, 2)
        assert (row["train_files"], row["train_alike"]) == (files[at], alike[at])


def test_held_out_images_that_look_like_training_images_are_told(done: FinishedAudit) -> None:
    checks = {check.name: check for check in replace(done, copies=found_copies(20, leaks=3)).checks}
    assert "3 more look like training images" in checks["contamination"].sentence
    assert (checks["contamination"].passed, checks["contamination"].severity) == (False, "inconclusive")


def test_no_copying_seen_is_taken_back_for_a_reason() -> None:
    held_out = np.linspace(0, 1, 1000)
    none = copies_verdict(held_out, held_out * 0.9, max_copy_rate=0.0, detectable=0.01)
    copying = copies_verdict(held_out, held_out + 0.5, max_copy_rate=0.0, detectable=0.01)
    weak = Check("power", False, 0.2, 0.01, "copies would be called at a rate of 20 %", "", "inconclusive")
    broken = Check("parity", False, 0.2, 0.01, "codecs differ", "", "invalid")
    note = Check("order", False, 0.2, 0.01, "order", "", "note")
    assert judge_copies(none, [note], ALIKE) == (NO_COPYING, none.sentence)
    verdict, sentence = judge_copies(none, [], CLOSER)
    assert verdict == INCONCLUSIVE
    assert sentence.startswith("inconclusive: 0 of 1,000 images")
    assert "closer to the training images than unseen ones" in sentence
    verdict, sentence = judge_copies(none, [weak], ALIKE)
    assert verdict == INCONCLUSIVE
    assert weak.sentence in sentence
    assert judge_copies(copying, [weak], CLOSER) == (COPYING, copying.sentence)
    assert judge_copies(copying, [broken], ALIKE)[0] == INVALID
