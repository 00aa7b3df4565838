"""A tied process ends with the one that started it, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage.objects import tied_process
from storage.objects.tied_process import start_tied, stop_tied
from tests.flows.processes import gone, gone_now

pytestmark = pytest.mark.usefixtures("processes")

STUBBORN = "trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done"
STARTER = """
import sys, time
from pathlib import Path
from storage.objects.tied_process import start_tied
with open("log", "wb") as log:
    start_tied(["sh", "-c", sys.argv[1]], log=log, folder=Path.cwd(), environment={}, descriptors=[])
time.sleep(60)
"""


def _started(folder: Path, script: str) -> subprocess.Popen[bytes]:
    with open(folder / "log", "wb") as log:
        return start_tied(["sh", "-c", script], log=log, folder=folder, environment=os.environ, descriptors=[])


def _pid(folder: Path) -> int:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        text = (folder / "pid").read_text() if (folder / "pid").exists() else ""
        if text.endswith("\n"):
            return int(text)
        time.sleep(0.02)
    raise TimeoutError((folder / "log").read_text())


def test_the_exit_code_and_the_output_are_those_of_the_command(tmp_path: Path) -> None:
    with _started(tmp_path, "echo said; exit 7") as process:
        assert process.wait(10) == 7
    assert (tmp_path / "log").read_text() == "said\n"


@pytest.mark.parametrize("how", ["stop", "SIGTERM"])
def test_it_ends_when_told_to(how: str, tmp_path: Path) -> None:
    process = _started(tmp_path, "echo $$ > pid; exec sleep 60")
    pid = _pid(tmp_path)
    assert (tmp_path / "pid").stat().st_mode & 0o077 == 0
    if how == "stop":
        stop_tied(process)
    else:
        with process:
            process.terminate()
    assert process.wait(10) == -signal.SIGTERM % 256
    assert gone_now(pid)


def test_stopping_ends_a_command_whose_process_in_between_was_killed(tmp_path: Path) -> None:
    process = _started(tmp_path, "echo $$ > pid; exec sleep 60")
    pid = _pid(tmp_path)
    process.kill()
    stop_tied(process)
    assert gone(pid)


def test_what_ignores_sigterm_is_killed_when_its_starter_is(tmp_path: Path) -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER, STUBBORN], cwd=tmp_path)
    pid = _pid(tmp_path)
    starter.kill()
    starter.wait()
    time.sleep(tied_process.STOP_TIMEOUT_S)
    assert gone(pid)
