"""The Ray of a process: how it starts on a slow machine, and what it says when it cannot."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ray._private import services

from actors.ray_cluster import private_ray as module, watcher
from actors.ray_cluster.private_ray import on_loopback, ray_settings
from storage.errors import StageError
from tests.paths import ROOT

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": None}


class Node:
    """Ray's `get_node`: the node registers at the third question."""

    def __init__(self, at: int = 3) -> None:
        self.left = at

    def __call__(self, *arguments: Any) -> dict[str, str]:
        self.left -= 1
        if self.left > 0:
            raise RuntimeError("no node of this id")
        return {"node_id": "a"}


def test_it_waits_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(services, "get_node", Node())
    monkeypatch.setattr(module, "node_runs", lambda folder: True)
    monkeypatch.setattr(module, "NOTICE_S", 0.0)
    with caplog.at_level(logging.WARNING), module.patient(tmp_path):
        assert services.get_node("address", "a") == {"node_id": "a"}
    assert "waits for Ray to start" in caplog.text
    assert isinstance(services.get_node, Node)


@pytest.mark.parametrize("reason", ["stalled", "died"])
def test_it_says_why_it_did_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reason: str) -> None:
    monkeypatch.setattr(services, "get_node", Node(at=10_000))
    monkeypatch.setattr(module, "node_runs", lambda folder: reason == "stalled")
    monkeypatch.setattr(module, "STALLED_S", 0.5)
    logs = tmp_path / "ray" / "session_2026" / "logs"
    logs.mkdir(parents=True)
    (logs / "raylet.err").write_text("")
    (logs / "raylet.out").write_text("E something is wrong with the disk\n")
    with module.patient(tmp_path), pytest.raises(StageError, match=r"raylet\.out: E something is wrong with the disk"):
        services.get_node("address", "a")


START = """
from actors.ray_cluster.private_ray import private_ray
from storage.errors import StageError
from tests.paths import ROOT
try:
    with private_ray(1):
        print("started")
except StageError as error:
    print(error)
"""


def test_a_folder_that_is_too_long_for_sockets_is_an_error(processes: None, tmp_path: Path) -> None:
    place = tmp_path / ("long" * 25)
    place.mkdir()
    environment = {**os.environ, "RAY_TMPDIR": str(place)}
    done = subprocess.run(
        [sys.executable, "-c", START], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "Ray did not start" in done.stdout
    assert "RAY_TMPDIR" in done.stdout
    assert list(place.iterdir()) == []


def test_the_users_settings_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "the user's own")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    before = dict(os.environ)
    with on_loopback(), ray_settings(TOKEN):
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert "RAY_AUTH_TOKEN" not in os.environ
    assert dict(os.environ) == before


def test_only_our_own_processes_with_files_below_a_folder_use_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with open(tmp_path / "a" / "log", "w"):
        assert watcher.users_of(str(tmp_path)) == [os.getpid()]
        assert watcher.users_of(str(tmp_path / "b")) == []
        watcher.end(str(tmp_path / "a"), os.getpid())  # the command itself stays
    assert not (tmp_path / "a").exists()
