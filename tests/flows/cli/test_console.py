from __future__ import annotations

from pathlib import Path

import pytest

from flows.cli import console
from flows.cli.console import CleanConsole
from flows.cli.progress import ProgressBoard
from flows.inputs import list_set
from flows.runtime.runtime import Runtime
from storage.errors import InputError

URI = "s3://bucket/a-prefix/that-is-longer/than-the-room-that-is-left/on-the-line/shard-000.tar"
ERROR = InputError(
    f"reference.train: {URI} cannot be read: no [bold]such[/] object", f"look into {URI}, then run again"
)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_an_error_breaks_between_words(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        console,
        "CleanConsole",
        lambda **kept: CleanConsole(**kept, force_terminal=True, color_system=None, width=width),
    )
    console.print_error(ERROR, as_json=False)
    shown = capsys.readouterr().err
    lines = [line.rstrip() for line in shown.splitlines()]
    assert " ".join(shown.split()) == f"Error: {ERROR.found} → {ERROR.remedy}"
    assert sum(line.startswith(("Error: ", "→")) for line in lines) == 2
    assert all(line.startswith(("Error: ", "→", "  ")) for line in lines)
    assert all(len(line) <= width for line in lines if URI not in line)
    assert sum(URI in line for line in lines) == 2


def test_an_error_in_a_file_is_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_error(ERROR, as_json=False)
    assert capsys.readouterr().err.splitlines() == [f"Error: {ERROR.found}", f"→ {ERROR.remedy}"]


def test_ignored_files_of_a_set_are_reported_once(
    runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.tif", "c.tif", "d.heic"):
        (tmp_path / name).write_bytes(b"x")
    with ProgressBoard():
        for _ in range(2):
            assert len(list_set(runtime, str(tmp_path))) == 1
    shown = " ".join(capsys.readouterr().err.split())
    assert shown.count("2 .tif files") == shown.count("1 .heic file") == 1
