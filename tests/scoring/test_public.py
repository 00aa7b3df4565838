from __future__ import annotations

import subprocess
import sys

import pytest

import scoring


def test_every_public_name_is_there() -> None:
    assert "score_layer" in scoring.__all__
    for name in scoring.__all__:
        assert getattr(scoring, name) is not None
    with pytest.raises(AttributeError, match="'scoring' has no attribute 'nothing'"):
        _ = scoring.nothing


@pytest.mark.usefixtures("processes")
def test_to_import_it_loads_no_library() -> None:
    code = (
        "import sys, scoring; print({'numpy', 'scipy', 'sklearn'} & set(sys.modules), scoring.PRESETS['paper'].metric)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "set() abs_cosine\n"
