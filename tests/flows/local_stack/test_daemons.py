"""Background processes: all of ours are stopped, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.local_stack.daemons import Daemon
from tests.flows.processes import gone, gone_now

pytestmark = pytest.mark.usefixtures("processes")

SLEEP = [sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(100)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'])\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(100)",
]


def logged(daemon: Daemon) -> str:
    end = time.monotonic() + 20
    while time.monotonic() < end and not daemon.log.read_text().endswith("\n"):
        time.sleep(0.02)
    return daemon.log.read_text().strip()


def test_runs_until_stopped(tmp_path: Path) -> None:
    assert Daemon(tmp_path, "one").pid is None
    daemon = Daemon(tmp_path, "one")
    daemon.start(SLEEP, os.environ)
    assert logged(daemon) == "awake"
    pid = daemon.pid
    assert pid is not None
    assert Daemon(tmp_path, "one").pid == pid  # as a later command finds it
    assert os.getsid(pid) == pid
    assert daemon.stop()
    assert gone(pid)
    assert daemon.pid is None
    assert not daemon.stop()


def test_a_later_process_with_the_same_id_is_not_stopped(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, "one")
    with subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL) as other:
        (tmp_path / "one.pid").write_text(f"{other.pid} 12345\n")  # started at another time
        assert daemon.pid is None
        assert not daemon.stop()
        assert other.poll() is None
        other.kill()


def test_a_process_that_ignores_sigterm_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.local_stack.daemons.STOP_TIMEOUT_S", 0.5)
    daemon = Daemon(tmp_path, "stubborn")
    daemon.start(STUBBORN, os.environ)
    child, pid = int(logged(daemon)), daemon.pid
    assert pid is not None
    assert daemon.stop()
    assert gone(pid)
    assert gone(child)


def test_a_process_that_died_is_noticed(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, "short")
    daemon.start([sys.executable, "-c", "print('no port'); raise SystemExit(1)"], os.environ)
    assert logged(daemon) == "no port"
    end = time.monotonic() + 5
    while daemon.pid is not None and time.monotonic() < end:
        time.sleep(0.02)
    assert daemon.pid is None
    assert daemon.log_end() == "no port"


def test_the_children_of_a_killed_process_are_stopped_too(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, "killed")
    daemon.start(STUBBORN, os.environ)
    child, pid = int(logged(daemon)), daemon.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    assert daemon.pid is None
    assert not gone_now(child)
    assert not daemon.stop()
    assert gone(child)
