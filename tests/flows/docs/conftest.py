"""A folder in which the commands of the pages can be run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flows.cli.main import run


@pytest.fixture(scope="session")
def workplace(lab: str, services: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages mention: spec.yaml with the audited release glow@80, and the store ./audits."""
    folder = tmp_path_factory.mktemp("workplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["init", "spec.yaml"]) == 0
        spec = yaml.safe_load(Path("spec.yaml").read_text())
        spec["encoder"] |= {"model": "test_vit", "weights": "random", "image_size": 8, "model_args": {"patch_size": 4}}
        spec["reference"] |= {"train": f"{lab}/train/", "held_out": f"{lab}/held_out/"}
        spec["releases"][0]["images"] = f"{lab}/unseen/"
        spec["scoring"]["cells"] = 2
        spec["gate"]["detectable_copy_rate"] = 0.1  # the laboratory has few images
        Path("spec.yaml").write_text(yaml.safe_dump(spec))
        assert run(["audit", "spec.yaml"]) == 0
    return folder
