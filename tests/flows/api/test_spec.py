"""From arguments to a spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.api.spec import build_spec
from flows.spec.spec import AuditSpec, EncoderSpec, GateSpec


def build(**changed: Any) -> AuditSpec:
    arguments: dict[str, Any] = {
        "train": "data/train",
        "held_out": Path("data/test"),
        "encoder": "some_vit",
        "store": None,
        "reference": None,
        "harmonise": None,
        "releases": [{"name": "glow", "images": "generated.npz#images"}],
    }
    return build_spec("audit", **{**arguments, **changed})


def test_paths_start_at_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = build(encoder={"model": "some_vit", "weights": "w.safetensors"}, store="s3://bucket/audits")
    assert spec.reference.train == f"{tmp_path}/data/train"
    assert spec.reference.held_out == f"{tmp_path}/data/test"
    assert spec.releases[0].images == f"{tmp_path}/generated.npz#images"
    assert spec.encoder.weights == f"{tmp_path}/w.safetensors"
    assert spec.store == "s3://bucket/audits"


def test_a_reference_has_one_default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = build().store
    assert Path(store).parent == tmp_path / "layerprint-audits"
    assert Path(store).name.startswith("data-")
    assert build(encoder="another", releases=[]).store == store
    assert build(train="data/more").store != store
    assert build(reference="cifar10").store != store


def test_parts_are_mappings_or_models() -> None:
    assert build(gate={"max_copy_rate": 0.0}).gate == build(gate=GateSpec(max_copy_rate=0.0)).gate
    encoder = EncoderSpec(model="some_vit", image_size=64)
    assert build(encoder=encoder).encoder == encoder
    assert build(encoder=encoder, harmonise="jpeg:75").encoder.jpeg_quality == 75
    assert build(scoring=None).scoring == build().scoring
