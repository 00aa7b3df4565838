"""docs/tutorial.md: its snippet, spec and commands run, and print the output that it shows."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.main import run
from flows.runtime.runtime import Runtime
from tests.flows.docs.pages import blocks, commands

PAGE = "docs/tutorial.md"
ROW = re.compile(
    r"^(mymodel@\d) +(copying|no copying seen) +≥ (\d+) of 500 +([\d.]+)–([\d.]+) +([\d.]+) +([\d.]+)", re.MULTILINE
)


def rows(text: str) -> dict[str, tuple[str, list[float]]]:
    """Verdict and numbers of each release."""
    return {name: (verdict, list(map(float, numbers))) for name, verdict, *numbers in ROW.findall(text)}


@pytest.mark.timeout(600)
def test_the_tutorial_is_true(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (snippet,), (spec,) = blocks(PAGE, "python"), blocks(PAGE, "yaml")
    Path("make_images.py").write_text(snippet)
    Path("spec.yaml").write_text(spec)
    shown = ""
    for command in [command.text for command in commands(PAGE) if command.block or "attribute" in command.text]:
        program, *arguments = shlex.split(command)
        if program == "python":
            subprocess.run([sys.executable, *arguments], check=True)
        elif arguments[0] != "open":  # tests/flows/docs/test_commands.py opens the page
            assert run(arguments) == 0, command
            shown += capsys.readouterr().out
    actual, documented = rows(shown), rows("\n".join(blocks(PAGE, "text")))
    assert set(actual) == set(documented) == {"mymodel@1", "mymodel@2"}
    for release, (verdict, numbers) in documented.items():
        assert actual[release][0] == verdict
        assert actual[release][1] == pytest.approx(numbers, abs=1)
    assert len(list(tmp_path.glob("audits/pictures/*.png"))) == 4
    assert re.search(r"^0002\.png +0002\.png", shown, re.MULTILINE)
    placebos, kinds = (
        re.compile(r"^.* no copying seen  ok$", re.M),
        re.compile(r"^(\S.*?) +100 +(\d+) +\d+ +\d+ ", re.M),
    )
    block = blocks(PAGE, "text")[-2]
    assert set(placebos.findall(block)) <= set(placebos.findall(shown))
    actual_kinds, documented_kinds = (
        {name: int(found) for name, found in kinds.findall(text)} for text in (shown, block)
    )
    assert len(documented_kinds) == 11
    assert actual_kinds == pytest.approx(documented_kinds, abs=10)
