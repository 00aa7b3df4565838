"""What the benchmarks of the whole command stand on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.command import MIB, SHARD_IMAGES, _descendants, _peak, run_command, write_audit
from benchmarks.line import line
from flows.spec.spec import load_spec
from storage.image_sets.open import list_images


def test_the_peak_of_a_process_is_what_it_held_at_most() -> None:
    before = _peak(os.getpid())
    held = np.ones(100 * MIB, np.uint8)
    assert _peak(os.getpid()) >= max(before, len(held))
    del held
    assert _peak(os.getpid()) >= before
    assert _peak(2**22 + 1) == 0


@pytest.mark.usefixtures("processes")
def test_descendants_are_found_at_any_depth() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        while len(list(_descendants(process.pid))) < 1:
            assert process.poll() is None
        assert process.pid in _descendants(os.getpid())
        assert set(_descendants(process.pid)) < set(_descendants(os.getpid()))
        process.communicate(b"\n")


def test_the_sets_have_their_sizes_and_the_spec_can_be_loaded(tmp_path: Path) -> None:
    sizes = {"train": SHARD_IMAGES + 5, "held_out": 60, "release": 40}
    spec = load_spec(write_audit(tmp_path, sizes, {"model": "test_vit", "weights": "random"}, side=4))
    uris = (spec.reference.train, spec.reference.held_out, spec.releases[0].images)
    assert [len(list_images(uri)) for uri in uris] == list(sizes.values())


@pytest.mark.usefixtures("processes")
def test_a_command_that_fails_shows_its_words(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"there is no spec .*nowhere\.yaml"):
        run_command(["audit", str(tmp_path / "nowhere.yaml")], tmp_path / "prefect")


def test_a_line_has_name_ratio_both_figures_and_the_machine() -> None:
    shown = line("search", "2 ×", "4/s", "2/s", "why")
    assert shown.startswith("search: 2 × (4/s against 2/s; why) [")
    assert f"{os.cpu_count()} cores" in shown
