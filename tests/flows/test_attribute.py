"""Enrolment and attribution on the laboratory of digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from actors.encoder.processing import PROCESSINGS
from flows.attribute import attribute_images
from flows.audit import audit_release, built_reference
from flows.cli.main import run
from flows.demo.data import split_digits, write_png_set
from flows.enrol import enrol_releases
from flows.results.profile_rows import enrolled_runs, packed, unpacked
from flows.runtime.runtime import Runtime, running
from flows.shifts import with_shifts
from flows.spec.spec import AuditSpec, ReleaseSpec, load_spec
from flows.stress import stress_attribution
from storage.errors import InputError
from storage.objects.open import open_store
from storage.results.tables import read_result
from tests.flows.conftest import COPIES, UNSEEN, Write


@pytest.fixture
def spec(audited_spec: AuditSpec) -> AuditSpec:
    """The laboratory's spec over a store with both releases embedded and profiled."""
    return audited_spec


@pytest.fixture
def inverted(s3_prefix: str) -> str:
    """Digits white on black become black on white: a maker that nobody could mistake."""
    store = open_store(f"{s3_prefix}/inverted")
    write_png_set(255 - split_digits(0).unseen[:60], store.put, "")
    return f"{store.uri}/"


def test_enrolment_stores_profiles_without_an_audit(runtime: Runtime, write_spec: Write) -> None:
    spec = load_spec(write_spec())
    copies, unseen = enrol_releases(runtime, spec, spec.releases)
    assert (copies.release, copies.images, copies.parts) == ("copies@1", COPIES, 3)
    assert (unseen.release, unseen.images, unseen.parts) == ("unseen@2", UNSEEN, 4)
    store = open_store(spec.store)
    assert read_result(store, "audits").num_rows == 0
    with running() as again:
        assert enrol_releases(again, spec, spec.releases) == [copies, unseen]
    assert again.forward_images == 0


def test_an_audit_and_an_enrolment_store_the_same_profile(runtime: Runtime, write_spec: Write) -> None:
    spec = load_spec(write_spec())
    (enrolled,) = enrol_releases(runtime, spec, [spec.release("copies")])
    outcome = audit_release(runtime, spec, spec.release("copies"))
    assert outcome.audit["profile_id"] == enrolled.profile_id
    assert len(enrolled_runs(open_store(spec.store), spec, built_reference(runtime, spec))) == 1


def test_a_profile_comes_back_as_it_was(runtime: Runtime, spec: AuditSpec) -> None:
    enrol_releases(runtime, spec, spec.releases)
    store = open_store(spec.store)
    copies, unseen = enrolled_runs(store, spec, built_reference(runtime, spec))
    assert (copies.run.maker, unseen.run.maker) == ("copies@1", "unseen@2")
    assert [part.images for part in copies.run.parts] == [27, 27, 26]
    rows = read_result(store, "profiles", copies.profile_id).to_pylist()
    whole = [row["placement"] for row in rows if row["part"] == 0]
    assert copies.run.whole.placed.mean == pytest.approx(whole, abs=1e-12)
    matrix = np.cov(np.random.default_rng(0).normal(size=(5, 9)))
    assert (unpacked(packed(matrix).tolist()) == matrix).all()


def test_several_runs_of_one_release(runtime: Runtime, spec: AuditSpec, lab: str) -> None:
    more = ReleaseSpec(name="copies", version="1", run="2", images=f"{lab}/fresh/")
    assert more.label == "copies@1#2"
    enrol_releases(runtime, spec, [*spec.releases, more])
    found = attribute_images(runtime, spec, f"{lab}/copies/")
    assert found.runs_compared
    assert found.enrolled_as == ["copies@1"]
    assert [one.maker for one in found.answer.candidates] == ["copies@1", "unseen@2"]
    assert found.trials == 3 + 3 + 4 + 2  # the parts of three runs, and the two runs of copies
    later = ReleaseSpec(name="copies", version="1", run="2", images=f"{lab}/copies/")
    enrol_releases(runtime, spec, [later])  # the run's newest images count
    runs = enrolled_runs(open_store(spec.store), spec, built_reference(runtime, spec))
    assert [(one.run.maker, one.run.name, one.run.whole.images) for one in runs] == [
        ("copies@1", "1", COPIES), ("copies@1", "2", COPIES), ("unseen@2", "1", UNSEEN),
    ]  # fmt: skip


def test_a_maker_that_is_not_enrolled_is_refused(runtime: Runtime, spec: AuditSpec, inverted: str) -> None:
    enrol_releases(runtime, spec, spec.releases)
    sure = attribute_images(runtime, spec, inverted, reject=0.2)
    assert sure.answer.verdict == "unknown"
    assert max(one.p_value for one in sure.answer.candidates) == pytest.approx(1 / 8)
    cautious = attribute_images(runtime, spec, inverted)
    assert cautious.answer.verdict == "unknown"  # seven trials reject nothing at 5 %, but it is unlike both
    assert cautious.answer.unknown >= 0.95


def test_what_was_done_to_the_images_is_named(runtime: Runtime, spec: AuditSpec, lab: str, s3_prefix: str) -> None:
    enrol_releases(runtime, spec, spec.releases)
    store = open_store(f"{s3_prefix}/mirrored")
    write_png_set(split_digits(0).unseen[:60, :, ::-1], store.put, "")
    before = runtime.forward_images
    found = attribute_images(runtime, spec, f"{store.uri}/")
    (own,) = [one for one in found.answer.candidates if one.maker == "unseen@2"]
    assert own.processing == "mirroring"
    held_out = built_reference(runtime, spec).tables.held_out.rows  # the releases' were processed when enrolled
    assert runtime.forward_images - before == 60 + held_out * (1 + len(PROCESSINGS))
    assert found.answer.curve_weight == 0 or "curve" not in found.answer.sentence
    assert {row["processing"] for row in read_result(open_store(spec.store), "attributions").to_pylist()} <= {
        "original", *PROCESSINGS,
    }  # fmt: skip


def test_a_release_whose_images_are_gone_is_still_compared(runtime: Runtime, spec: AuditSpec, lab: str) -> None:
    enrol_releases(runtime, spec, spec.releases)
    store = open_store(spec.store)
    gone = [info.key for info in store.list("processed/") if info.key.endswith("shifts.npz")]
    assert len(gone) == 2
    store.delete(gone[0])
    with running() as again:
        rows = enrolled_runs(store, spec, built_reference(again, spec))
        lost = [one._replace(images_uri=f"{lab}/nowhere/") for one in rows]
        kept = [bool(with_shifts(again, spec, built_reference(again, spec), one).shifts) for one in lost]
    assert sorted(kept) == [False, True]


def test_the_baselines_stand_beside_the_answer(runtime: Runtime, spec: AuditSpec, lab: str) -> None:
    enrol_releases(runtime, spec, spec.releases)
    found = attribute_images(runtime, spec, f"{lab}/fresh/")
    simpler = found.baselines
    for scores in (simpler.published_similarity, simpler.frechet, simpler.mean_distance, simpler.probe_log_p):
        assert set(scores) == {"copies@1", "unseen@2"}
    assert max(simpler.published_similarity, key=lambda one: simpler.published_similarity[one]) == "copies@1"
    assert simpler.probe_missing == []
    rows = read_result(open_store(spec.store), "attributions").to_pylist()
    assert {row["maker"]: row["probe_log_p"] for row in rows} == simpler.probe_log_p


def test_a_probe_without_its_images_is_left_out(runtime: Runtime, spec: AuditSpec, lab: str) -> None:
    enrol_releases(runtime, spec, spec.releases)
    store = open_store(spec.store)
    table = enrolled_runs(store, spec, built_reference(runtime, spec))[1].table[0]
    store.delete(f"tables/{table}.json")
    found = attribute_images(runtime, spec, f"{lab}/fresh/")
    assert (found.baselines.probe_log_p, found.baselines.probe_missing) == ({}, ["unseen@2"])
    assert found.answer.candidates[0].maker == "copies@1"


def test_stress_says_what_breaks_the_answer(runtime: Runtime, spec: AuditSpec, lab: str) -> None:
    enrol_releases(runtime, spec, spec.releases)
    found = stress_attribution(runtime, spec, f"{lab}/fresh/")
    assert list(found.perturbed) == ["jpeg 90", "jpeg 75", "resize", "crop", "noise"]
    broken = [name for name in found.perturbed if not found.same(name)]
    assert all(name in found.sentence for name in broken or found.perturbed)
    assert all(one.answer.candidates[0].t2 != found.plain.answer.candidates[0].t2 for one in found.perturbed.values())
    rows = read_result(open_store(spec.store), "attributions").to_pylist()
    assert {row["perturbation"] for row in rows} == {"", *found.perturbed}
    with running() as again:
        assert stress_attribution(again, spec, f"{lab}/fresh/").to_json() == found.to_json()
    assert again.forward_images == 0


def test_the_commands(
    runtime: Runtime, write_spec: Write, lab: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_spec())
    assert run(["attribute", path, f"{lab}/fresh/"]) == 2
    assert "layerprint enrol" in capsys.readouterr().err
    assert run(["enrol", path, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["enrolled"]) == 2
    assert run(["enrol", path, "copies@1", f"{lab}/fresh/", "--run", "2"]) == 0
    assert "copies@1" in capsys.readouterr().out
    assert run(["enrol", path, "bad\nname", f"{lab}/fresh/"]) == 2
    assert run(["attribute", path, f"{lab}/copies/", "--reject", "0"]) == 2
    capsys.readouterr()
    assert run(["attribute", path, f"{lab}/copies/", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["candidates"][0]["maker"] == "copies@1"
    assert document["candidates"][0]["posterior"] + document["candidates"][1]["posterior"] + document[
        "unknown"
    ] == pytest.approx(1)
    assert run(["attribute", path, f"{lab}/copies/", "--stress"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "copies@1 was enrolled with" in shown
    assert "published rule copies@1" in shown
    assert "unchanged" in shown


def test_profiles_under_another_scoring_are_named(runtime: Runtime, spec: AuditSpec, lab: str) -> None:
    enrol_releases(runtime, spec, spec.releases)
    other = spec.model_copy(update={"scoring": spec.scoring.model_copy(update={"seed": 7})})
    with pytest.raises(InputError, match="its 2 profiles were made with another scoring"):
        attribute_images(runtime, other, f"{lab}/fresh/")
