"""The whole path on real services: S3 → Ray → LanceDB → scores → Parquet."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from actors.encoder.decode import jpeg_bytes
from actors.stages import embed as embed_stage
from flows.attribute import attribute_images
from flows.audit import AuditReport, audit, audit_release, build_reference
from flows.demo.data import png_bytes, split_digits
from flows.results.audit_result import COPYING, INCONCLUSIVE, INVALID, NO_COPYING
from flows.runtime.runtime import Runtime, running
from flows.spec.spec import AuditSpec, ReleaseSpec, load_spec
from storage.errors import InputError
from storage.objects.open import open_store
from storage.results.tables import read_result
from tests.flows.conftest import COPIES, HELD_OUT, TRAIN, UNSEEN, Write


@pytest.fixture
def new_spec(write_spec: Write) -> AuditSpec:
    """The laboratory's spec over an empty store on S3."""
    return load_spec(write_spec())


@pytest.fixture
def spec(audited_spec: AuditSpec) -> AuditSpec:
    """The laboratory's spec over a store in which its releases are audited."""
    return audited_spec


def test_copies_are_flagged_and_unseen_images_are_not(runtime: Runtime, new_spec: AuditSpec) -> None:
    copies, unseen = audit(runtime, new_spec).outcomes
    assert (copies.verdict, unseen.verdict) == (COPYING, NO_COPYING), [
        unseen.audit["sentence"],
        *(c["sentence"] for c in unseen.checks if not c["passed"]),
    ]
    assert copies.audit["copy_rate"] > 0.9
    assert all(row["a_hat"] < 0.1 for row in copies.informative)
    assert all(row["a_low"] < 0.5 < row["a_high"] for row in unseen.informative)
    assert runtime.forward_images == TRAIN + HELD_OUT + COPIES + UNSEEN


def test_every_result_table_is_written(runtime: Runtime, spec: AuditSpec) -> None:
    outcome = audit_release(runtime, spec, spec.release("copies"))
    store = open_store(spec.store)
    scores = read_result(store, "scores", outcome.audit_id)
    assert scores["layer"].to_pylist() == list(range(7))
    assert set(scores["m"].to_pylist()) == {COPIES}
    rows = read_result(store, "profiles", outcome.audit["profile_id"]).to_pylist()
    assert {row["part"] for row in rows} == {0, 1, 2, 3}  # 80 images: three parts of at least 25
    assert sum(row["m"] for row in rows if row["layer"] == 0 and row["part"] > 0) == COPIES
    profile = [row for row in rows if row["part"] == 0]
    covariance = np.array([row["covariance"] for row in profile])
    assert np.allclose(covariance, covariance.T)
    assert (np.linalg.eigvalsh(covariance) > -1e-12).all()
    assert np.allclose(np.diag(covariance), [row["variance"] for row in profile])
    settings = json.loads(outcome.audit["settings"])
    assert settings["releases"][0]["name"] == "copies"
    assert outcome.audit["forward_images"] == TRAIN + HELD_OUT + COPIES


def test_evidence_names_the_copied_images(runtime: Runtime, spec: AuditSpec) -> None:
    outcome = audit_release(runtime, spec, spec.release("copies"))
    evidence = read_result(open_store(spec.store), "evidence", outcome.audit_id).to_pylist()
    assert len(evidence) == 7 * 20
    for pair in evidence:
        assert pair["distance"] == 0
        assert pair["identical"]
        assert pair["image_key"] == pair["train_key"]  # copies/00007.png is train/00007.png
        assert pair["p_value"] == pytest.approx(1 / (HELD_OUT + 1))


def test_every_listed_copy_has_its_region(runtime: Runtime, spec: AuditSpec) -> None:
    outcome = audit_release(runtime, spec, spec.release("copies"))
    assert len(outcome.listed) > COPIES / 2
    shares = [(row["region_share"], row["train_region_share"]) for row in outcome.copies]
    assert np.median(shares) > 0.7  # whole copies
    assert {len(row["region"]) for row in outcome.copies} == {4}  # 2 × 2 patches: 4 × 4 cells


def test_a_repeated_audit_runs_no_forward_pass(runtime: Runtime, audited: AuditReport, spec: AuditSpec) -> None:
    first = audited.outcomes
    second = audit(runtime, spec).outcomes
    assert runtime.forward_images == 0
    assert [outcome.audit for outcome in second] == [outcome.audit for outcome in first]


def test_a_second_release_embeds_only_its_own_images(runtime: Runtime, new_spec: AuditSpec) -> None:
    audit_release(runtime, new_spec, new_spec.release("copies"))
    runtime.forward_images = 0
    audit_release(runtime, new_spec, new_spec.release("unseen"))
    assert runtime.forward_images == UNSEEN


def test_another_gate_is_another_audit_without_a_forward_pass(runtime: Runtime, spec: AuditSpec) -> None:
    strict = audit_release(runtime, spec, spec.release("copies"))
    runtime.forward_images = 0
    gate = spec.gate.model_copy(update={"max_copy_rate": 0.999})
    loose = audit_release(runtime, spec.model_copy(update={"gate": gate}), spec.release("copies"))
    assert runtime.forward_images == 0
    assert (strict.verdict, loose.verdict) == (COPYING, INCONCLUSIVE)
    assert strict.audit_id != loose.audit_id


@pytest.mark.parametrize("preset", ["paper", "meehan"])
def test_published_presets_see_the_copies(runtime: Runtime, spec: AuditSpec, preset: str) -> None:
    chosen = spec.model_copy(update={"scoring": spec.scoring.model_copy(update={"preset": preset})})
    copies, unseen = audit(runtime, chosen).outcomes
    assert all(row["c_t"] < -5 for row in copies.informative)
    assert all(abs(row["c_t"]) < 3 for row in unseen.informative)


def test_an_unreadable_image_becomes_a_reject(runtime: Runtime, spec: AuditSpec, s3_prefix: str) -> None:
    images = open_store(f"{s3_prefix}/mixed")
    for i, digit in enumerate(split_digits(0).unseen[:40]):
        images.put(f"{i:02d}.png", png_bytes(digit))
    images.put("broken.png", b"\x89PNG\r\n\x1a\n not a picture")
    images.put("empty.png", b"")
    release = ReleaseSpec(name="mixed", images=f"{images.uri}/")
    outcome = audit_release(runtime, spec, release)
    rejects = read_result(open_store(spec.store), "rejects", outcome.audit_id).to_pylist()
    assert {row["key"] for row in rejects} == {"broken.png", "empty.png"}
    assert all(row["role"] == "release" and row["reason"] for row in rejects)
    assert (outcome.audit["images"], outcome.audit["rejected"]) == (40, 2)

    strict = spec.model_copy(update={"gate": spec.gate.model_copy(update={"max_rejected": 0.01})})
    with pytest.raises(InputError, match="2 of 42 images could not be read"):
        audit_release(runtime, strict, release)


def test_one_bad_release_does_not_stop_the_others(runtime: Runtime, spec: AuditSpec, s3_prefix: str) -> None:
    gone = ReleaseSpec(name="gone", images=f"{s3_prefix}/nowhere/")
    report = audit(runtime, spec, [gone, spec.release("copies")])
    assert [outcome.label for outcome in report.outcomes] == ["copies@1"]
    assert "no image here" in report.failures["gone@1"].found
    with pytest.raises(InputError, match="no image here"):
        audit(runtime, spec, [gone])


def test_fresh_copies_are_attributed_to_the_memorizer(runtime: Runtime, new_spec: AuditSpec, lab: str) -> None:
    with pytest.raises(InputError, match="no profile to compare with"):
        attribute_images(runtime, new_spec, f"{lab}/fresh/")
    audit(runtime, new_spec)
    found = attribute_images(runtime, new_spec, f"{lab}/fresh/")
    assert found.images == TRAIN - COPIES
    copies, unseen = found.answer.candidates
    assert (copies.maker, unseen.maker) == ("copies@1", "unseen@2")
    assert copies.curve_posterior > 0.99
    assert copies.d2_p > 0.01 > unseen.d2_p
    assert (found.trials, found.trials_right) == (3 + 4, 7)
    rows = read_result(open_store(new_spec.store), "attributions").to_pylist()
    assert [(row["rank"], row["maker"]) for row in rows] == [(1, "copies@1"), (2, "unseen@2")]
    assert sum(row["posterior"] for row in rows) + rows[0]["unknown"] == pytest.approx(1)


def test_profiles_of_another_encoder_are_not_compared(runtime: Runtime, spec: AuditSpec, lab: str) -> None:
    audit(runtime, spec)
    other = spec.model_copy(update={"encoder": spec.encoder.model_copy(update={"layers": [0, 3]})})
    with pytest.raises(InputError, match="2 profiles were made with another encoder"):
        attribute_images(runtime, other, f"{lab}/fresh/")


def test_a_layer_without_information_says_so(runtime: Runtime, new_spec: AuditSpec) -> None:
    cls = new_spec.model_copy(
        update={"encoder": new_spec.encoder.model_copy(update={"pooling": "cls", "layers": [0, 6]})}
    )
    outcome = audit_release(runtime, cls, new_spec.release("copies"))
    first, last = outcome.scores
    assert not first["informative"]
    assert first["a_hat"] is None
    assert last["informative"]
    assert outcome.verdict == COPYING


def test_a_reference_that_is_built_is_found(runtime: Runtime, new_spec: AuditSpec) -> None:
    first = build_reference(runtime, new_spec)
    assert runtime.forward_images == TRAIN + HELD_OUT
    assert build_reference(runtime, new_spec) == first
    assert runtime.forward_images == TRAIN + HELD_OUT


def test_every_check_is_a_named_row(runtime: Runtime, spec: AuditSpec) -> None:
    outcome = audit_release(runtime, spec, spec.release("copies"))
    assert {check["name"]: check["passed"] for check in outcome.checks} == {
        "random halves of held-out": True,
        "order of held-out": True,
        "train and held-out": True,
        "contamination": True,
        "held-out: codec": True,
        "held-out: native size": True,
        "release: codec": True,
        "release: native size": True,
        "search": True,
        "power": True,
        "repetition": True,
    }
    assert outcome.audit["invalid_reason"] == ""


def test_the_fit_verdict_stands_beside_the_copying_verdict(runtime: Runtime, spec: AuditSpec) -> None:
    copies, unseen = audit(runtime, spec).outcomes
    assert copies.audit["fit_verdict"] == "closer than unseen"
    assert copies.audit["fit_p"] < 0.01
    assert unseen.audit["fit_verdict"] == "no difference seen"
    assert 0 <= unseen.audit["frechet_low"] <= unseen.audit["frechet_high"]
    assert all(row["p_adjusted"] < 0.01 for row in copies.informative)
    assert all(row["discoveries"] == row["near_duplicates"] == COPIES for row in copies.informative)
    assert all(row["authentic"] == 0 for row in copies.informative)
    assert all(row["discoveries"] == 0 for row in unseen.informative)


def test_contaminated_held_out_images_are_left_out(runtime: Runtime, spec: AuditSpec, lab: str, s3_prefix: str) -> None:
    dirty = open_store(f"{s3_prefix}/dirty")
    for source, count in (("held_out", HELD_OUT), ("train", 10)):
        for i in range(count):
            dirty.put(f"{source}-{i:03d}.png", open_store(lab).get(f"{source}/{i:05d}.png"))
    reference = spec.reference.model_copy(update={"held_out": f"{dirty.uri}/"})
    store = {"store": f"{s3_prefix}/audits-dirty"}
    outcome = audit_release(runtime, spec.model_copy(update={"reference": reference, **store}), spec.release("copies"))
    clean = audit_release(runtime, spec, spec.release("copies"))
    assert (outcome.audit["contaminated"], outcome.audit["held_out_images"]) == (10, HELD_OUT)
    for name in ("a_hat", "copy_rate", "c_t", "n"):
        assert [row[name] for row in outcome.scores] == [row[name] for row in clean.scores]


def test_a_mixed_release_is_invalid_until_it_is_harmonised(
    runtime: Runtime, new_spec: AuditSpec, lab: str, s3_prefix: str
) -> None:
    mixed = open_store(f"{s3_prefix}/mixed")
    for i in range(UNSEEN):
        png = open_store(lab).get(f"unseen/{i:05d}.png")
        with Image.open(io.BytesIO(png)) as image:
            # a fifth of the images, which a glance at 16 files lets pass
            mixed.put(f"{i:03d}.png", png) if i % 5 else mixed.put(f"{i:03d}.jpg", jpeg_bytes(image, 95, "4:4:4"))
    release = ReleaseSpec(name="mixed", images=f"{mixed.uri}/")
    outcome = audit_release(runtime, new_spec, release)
    assert outcome.verdict == INVALID
    assert "release: codec" in outcome.audit["invalid_reason"]
    assert "--harmonise" in outcome.audit["invalid_reason"]

    encoder = new_spec.encoder.model_copy(update={"harmonise": "jpeg:75"})
    harmonised = audit_release(runtime, new_spec.model_copy(update={"encoder": encoder}), release)
    assert harmonised.verdict == NO_COPYING
    assert harmonised.audit["encoder_digest"] != outcome.audit["encoder_digest"]
    assert json.loads(harmonised.audit["settings"])["encoder"]["harmonise"] == "jpeg:75"


def test_too_few_images_make_a_clean_verdict_inconclusive(runtime: Runtime, spec: AuditSpec) -> None:
    gate = spec.gate.model_copy(update={"detectable_copy_rate": 0.02})
    outcome = audit_release(runtime, spec.model_copy(update={"gate": gate}), spec.release("unseen"))
    assert outcome.verdict == INCONCLUSIVE
    assert "too few images to rule out a rate of 2 %" in outcome.audit["sentence"]


def test_the_layers_judge_where_the_copy_score_is_off(runtime: Runtime, spec: AuditSpec) -> None:
    by_layers = spec.model_copy(update={"copies": False})
    copies, unseen = audit(runtime, by_layers).outcomes
    assert runtime.forward_images == 0
    assert (copies.verdict, unseen.verdict) == (COPYING, NO_COPYING)
    assert [outcome.audit["copies_low"] for outcome in (copies, unseen)] == [None, None]
    gate = spec.gate.model_copy(update={"detectable_copy_rate": 0.02})
    outcome = audit_release(runtime, by_layers.model_copy(update={"gate": gate}), spec.release("unseen"))
    assert outcome.verdict == INCONCLUSIVE
    assert outcome.audit["invalid_reason"].startswith("power: with 100 generated")


def test_no_number_depends_on_batches_or_shards(
    runtime: Runtime, spec: AuditSpec, s3_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = audit_release(runtime, spec, spec.release("unseen"))
    monkeypatch.setattr(embed_stage, "shard_size", lambda images: 33)
    monkeypatch.setenv("LAYERPRINT_BATCH_SIZE", "7")
    other = spec.model_copy(update={"store": f"{s3_prefix}/cut"})
    with running() as small:
        assert small.settings.batch_size == 7
        cut = audit_release(small, other, other.release("unseen"))
    for before, after in zip(whole.scores, cut.scores, strict=True):
        for name, value in before.items():
            expected = pytest.approx(value, rel=1e-5, abs=1e-7) if isinstance(value, float) else value
            assert after[name] == expected, name
