"""The curves part of the attribution benchmark, on curves made up here."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks.attribution_curves import (
    answers,
    covariance_aware,
    mean_of_splits,
    open_set_of_curves,
    published,
    read_batches,
    read_curves,
)
from scoring.attribution.run_covariance import depth_covariance

MAKERS = [maker for maker in "abcd" for _ in range(3)]


@pytest.fixture
def curves() -> np.ndarray:
    """4 makers of 3 runs; runs differ by a level that all layers share, makers by single layers."""
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(0, 0.6, (4, 8)), 3, axis=0)
    return 2 + centres + rng.multivariate_normal(np.zeros(8), depth_covariance(8, 1.0, 0.98, 30.0), 12)


def test_knowing_how_runs_differ_tells_makers_apart(curves: np.ndarray) -> None:
    right = {
        rule.__name__: sum(answers(rule, curves, MAKERS, [i]) == [MAKERS[i]] for i in range(12))
        for rule in (published, covariance_aware)
    }
    assert right["covariance_aware"] >= 11 > right["published"]
    assert mean_of_splits(covariance_aware, curves, MAKERS) > mean_of_splits(published, curves, MAKERS)
    area, open_area = open_set_of_curves(covariance_aware, curves, MAKERS)
    assert open_area <= area
    assert area > 0.9


def test_curves_are_read_by_layer_and_without_notes(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "architecture", "run", "layer", "score", "note"])
        writer.writeheader()
        for layer in (2, 1, 10):
            common = {"file": "model_ct_scores.txt", "run": "1", "layer": layer, "score": layer / 2}
            writer.writerow({**common, "architecture": "gan", "note": ""})
            writer.writerow({**common, "architecture": "odd", "note": "copied by hand"})
    x, makers = read_curves(path)
    assert makers == ["gan"]
    assert x.tolist() == [[0.5, 1.0, 5.0]]


def test_batches_are_those_of_the_fingerprinting_files_without_the_constant_layer(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "architecture", "run", "layer", "score", "note"])
        writer.writeheader()
        for name, run in (("ffull", "train1"), ("ffull", "train2"), ("fsmall", "test1"), ("fsmall", "train1")):
            for layer, score in ((0, "nan"), (2, "4"), (1, "3" if name == "ffull" else "5")):
                where = f"fingerprinting_baseline/{name}_scores.txt"
                writer.writerow(
                    {"file": where, "architecture": "gan", "run": run, "layer": layer, "score": score, "note": "batch"}
                )
    x, makers = read_batches(path)
    assert makers == ["gan"] * 3
    assert x.tolist() == [[3.0, 4.0], [3.0, 4.0], [5.0, 4.0]]
