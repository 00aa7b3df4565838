"""`layerprint report` and `layerprint open`, as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from flows.cli.main import run
from storage.objects.open import open_store
from tests.flows.report.conftest import Reported

Capture = pytest.CaptureFixture[str]


def test_report_writes_files_and_says_where(reported: Reported, tmp_path: Path, capsys: Capture) -> None:
    spec, out = str(reported.path), str(tmp_path / "out")
    assert run(["report", spec, "--out", out]) == 0
    shown = capsys.readouterr().out
    assert "copies@1 copying" in shown
    assert "index.html" in shown
    assert len(list(Path(out).iterdir())) == 3

    assert run(["report", spec, "unseen", "--out", out, "--format", "modelcard", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (one,) = document["reports"]
    assert (one["release"], one["verdict"], document["fleet"], document["missing"]) == (
        "unseen@2",
        "no copying seen",
        None,
        [],
    )
    assert Path(one["path"]).read_text().startswith("---\ntags:")


def test_pages_are_published_into_the_store(reported: Reported, tmp_path: Path, capsys: Capture) -> None:
    command = ["report", str(reported.path), "unseen", "--out", str(tmp_path), "--publish"]
    assert run([*command, "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["reports"]
    assert one["published"] == f"{reported.spec.store}/reports/{one['audit_id']}.html"
    published = open_store(reported.spec.store).get(f"reports/{one['audit_id']}.html").decode()
    assert published == Path(one["path"]).read_text()
    assert run([*command, "--format", "modelcard"]) == 2
    assert "--format html" in capsys.readouterr().err


def test_mistakes_end_with_2(reported: Reported, tmp_path: Path, capsys: Capture) -> None:
    assert run(["report", str(reported.path), "nobody"]) == 2
    assert "nobody is not in the spec" in capsys.readouterr().err
    assert run(["report", str(reported.path), "--format", "pdf"]) == 2
    assert run(["open", str(tmp_path)]) == 2
    assert "layerprint report SPEC" in capsys.readouterr().err
    assert run(["open", str(tmp_path / "nothing")]) == 2


def test_open_serves_until_interrupted(reported: Reported) -> None:
    command = [sys.executable, "-m", "flows.cli.main", "open", str(reported.folder)]
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split()[0]
        with urllib.request.urlopen(url, timeout=10) as reply:
            assert b"2 releases audited" in reply.read()
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=20) == 0
