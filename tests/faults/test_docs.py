"""The tests that docs/faults.md names exist."""

from __future__ import annotations

import re

from tests.paths import ROOT


def test_every_named_test_is_there() -> None:
    text = (ROOT / "docs" / "faults.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)((?:::\w+)+)`", text)
    assert len(named) > 20
    for file, path in named:
        for name in path.removeprefix("::").split("::"):
            assert re.search(rf"^\s*(def|class) {name}\b", (ROOT / file).read_text(), re.MULTILINE), (file, name)
