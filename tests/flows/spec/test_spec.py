"""The spec: what is accepted, and what each wrong field is answered with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.encoder.config import CopySettings
from flows.spec.spec import AuditSpec, load_spec
from storage.errors import InputError

MINIMAL: dict[str, Any] = {
    "store": "audits",
    "encoder": {"model": "test_vit"},
    "reference": {"name": "digits", "train": "train", "held_out": "s3://data/test/"},
    "releases": [{"name": "glow", "version": 80, "images": "out.npz#glow"}],
}

Change = Callable[[dict[str, Any]], object]


def written(folder: Path, change: Change = lambda spec: None) -> Path:
    spec = yaml.safe_load(yaml.safe_dump(MINIMAL))
    change(spec)
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def test_defaults_are_those_of_the_documentation(tmp_path: Path) -> None:
    spec = load_spec(written(tmp_path))
    assert spec.scoring.model_dump() == {
        "preset": "default",
        "components": 64,
        "cells": 10,
        "seed": 0,
        "search": "auto",
    }
    assert (spec.gate.max_copy_rate, spec.gate.detectable_copy_rate) == (0, 0.01)
    assert spec.copy_settings == CopySettings(None, ("as it is", "mirrored", "shifted"))
    assert (spec.encoder.weights, spec.encoder.pooling, spec.encoder.layers) == ("hub", "mean", "all")
    assert spec.releases[0].label == "glow@80"


@pytest.mark.parametrize("change", [{"copies": False}, *({"scoring": {"preset": p}} for p in ("paper", "meehan"))])
def test_the_layers_can_be_the_judges(tmp_path: Path, change: dict[str, Any]) -> None:
    assert load_spec(written(tmp_path, lambda spec: spec.update(change))).copy_settings is None


def test_what_the_copy_score_looks_at_can_be_chosen(tmp_path: Path) -> None:
    copies = {"layer": 3, "views": ["as it is"]}
    assert load_spec(written(tmp_path, lambda spec: spec.update(copies=copies))).copy_settings == CopySettings(
        3, ("as it is",)
    )


def test_groups_are_named_by_keys(tmp_path: Path) -> None:
    pattern = r"prompt_(\d+)_"
    spec = load_spec(written(tmp_path, lambda spec: spec["releases"][0].update(groups=pattern)))
    assert (spec.releases[0].groups, spec.reference.held_out_groups) == (pattern, None)
    spec = load_spec(written(tmp_path, lambda spec: spec["reference"].update(held_out_groups=pattern)))
    assert (spec.releases[0].groups, spec.reference.held_out_groups) == (None, pattern)


def test_relative_paths_start_at_the_spec(tmp_path: Path) -> None:
    spec = load_spec(written(tmp_path, lambda spec: spec["encoder"].update(weights="w/digits.pth")))
    assert spec.store == str(tmp_path / "audits")
    assert spec.encoder.weights == str(tmp_path / "w" / "digits.pth")
    assert spec.reference.train == str(tmp_path / "train")
    assert spec.reference.held_out == "s3://data/test/"
    assert spec.releases[0].images == f"{tmp_path}/out.npz#glow"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("store"), "store: missing"),
        (lambda s: s["scoring"].update(component=3) if "scoring" in s else s.update(scoring={"component": 3}),
         "scoring.component: unknown field (found 3)"),
        (lambda s: s.update(scoring={"cells": "many"}), "scoring.cells: Input should be a valid integer"),
        (lambda s: s.update(scoring={"cells": 0}), "(found 0)"),
        (lambda s: s.update(scoring={"preset": "papr"}), "'default', 'meehan' or 'paper' (found 'papr')"),
        (lambda s: s.update(gate={"max_copy_rate": 1.5}), "gate.max_copy_rate"),
        (lambda s: s["releases"][0].update(groups="prompt"), "releases.0.groups: it has no group in parentheses"),
        (lambda s: s["releases"][0].update(groups="(a)(b)"), "releases.0.groups: it has several groups"),
        (lambda s: s["releases"][0].update(groups="(" + 200 * "a" + ")"), "groups: String should have at most"),
        (lambda s: s["reference"].update(held_out_groups="(?=a)(b)"), "held_out_groups: it is not a regular"),
        (lambda s: s.update(copies={"layer": -1}), "copies.CopiesSpec.layer: Input should be greater"),
        (lambda s: s.update(copies={"views": []}), "copies.CopiesSpec.views: List should have at least 1 item"),
        (lambda s: s.update(copies={"views": ["mirrored"] * 2}), "a view is listed twice"),
        (lambda s: s.update(copies={"views": ["sideways"]}), "found 'sideways'"),
        (lambda s: s.update(copies={"view": []}), "copies.CopiesSpec.view: unknown field"),
        (lambda s: s.update(copies=True), "found True"),
        (lambda s: s["encoder"].update(pooling="max"), "encoder.pooling: Input should be 'mean' or 'cls'"),
        (lambda s: s["encoder"].update(layers=[-1]), "none below 0"),
        (lambda s: s["encoder"].update(layers=[]), "at least one"),
        (lambda s: s["encoder"].update(image_size=2), "encoder.image_size"),
        (lambda s: s["reference"].update(held_out="train/"), "train and held_out are the same set"),
        (lambda s: s.update(releases=[]), "releases: List should have at least 1 item"),
        (lambda s: s["releases"].append(dict(s["releases"][0])), "glow@80 is listed twice"),
        (lambda s: s["releases"][0].update(name="a\nb"), "releases.0.name"),
        (lambda s: s["releases"][0].pop("images"), "releases.0.images: missing"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_its_value(tmp_path: Path, change: Change, message: str) -> None:
    with pytest.raises(InputError) as raised:
        load_spec(written(tmp_path, change))
    assert message in raised.value.found
    assert raised.value.remedy


def test_all_wrong_fields_are_named_at_once(tmp_path: Path) -> None:
    def change(spec: dict[str, Any]) -> None:
        spec["scoring"] = {"cells": 0, "seed": -1}
        spec["encoder"]["image_size"] = "big"

    with pytest.raises(InputError) as raised:
        load_spec(written(tmp_path, change))
    for field in ("scoring.cells", "scoring.seed", "encoder.image_size"):
        assert field in raised.value.found


@pytest.mark.parametrize(
    ("text", "message"), [("", "contains nothing"), ("- a", "contains list"), ("a: [", "cannot be read")]
)
def test_a_file_that_is_no_spec(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_spec(path)


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("store: !!python/object/apply:os.system ['touch hacked']")
    with pytest.raises(InputError, match="cannot be read"):
        load_spec(path)
    assert not (tmp_path / "hacked").exists()


def test_a_release_is_found_by_name_or_version() -> None:
    spec = AuditSpec.model_validate(
        {**MINIMAL, "releases": [{"name": "glow", "version": v, "images": "x"} for v in (1, 2)]}
    )
    assert spec.release("glow@2").version == "2"
    with pytest.raises(InputError, match="ambiguous"):
        spec.release("glow")
    with pytest.raises(InputError, match="not in the spec"):
        spec.release("flow")
