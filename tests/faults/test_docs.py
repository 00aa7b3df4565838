"""The tests that docs/faults.md and docs/security.md name exist."""

from __future__ import annotations

import re

import pytest

from tests.paths import ROOT


@pytest.mark.parametrize(("page", "least"), [("faults.md", 20), ("security.md", 8)])
def test_every_named_test_is_there(page: str, least: int) -> None:
    text = (ROOT / "docs" / page).read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)((?:::\w+)+)`", text)
    assert len(named) > least
    for file, path in named:
        for name in path.removeprefix("::").split("::"):
            assert re.search(rf"^\s*(def|class) {name}\b", (ROOT / file).read_text(), re.MULTILINE), (file, name)
