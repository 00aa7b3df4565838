"""Ctrl-C, SIGTERM and SIGHUP: one sentence, the exit code of the signal, no process left, and the next run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cli import interrupts
from flows.demo.data import split_digits, write_png_set
from storage.objects.open import open_store
from tests.flows.conftest import laboratory_spec, write_yaml
from tests.processes import alive, descendants, kill, name_of, wait_until

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.timeout(400)]

RAY_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""They look for their dead head for a minute before they end."""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec of digits in a local folder."""
    folder = tmp_path_factory.mktemp("interrupts")
    digits, data = split_digits(0), open_store(str(folder / "lab"))
    sets = {"train": digits.train[:160], "held_out": digits.held_out[:140], "copies": digits.train[:80]}
    for name, images in {**sets, "unseen": digits.unseen[:100]}.items():
        write_png_set(images, data.put, f"{name}/")
    return write_yaml(folder / "spec.yaml", laboratory_spec(str(folder / "lab"), str(folder / "audits")))


def _signals_as_usual() -> None:
    """Tests in the background of a shell run with SIGINT ignored, and hand that on."""
    for number in interrupts.ENDING:
        signal.signal(number, signal.SIG_DFL)


class Command:
    """A command as a user or a service manager starts it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PREFECT_"))}
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            command = [sys.executable, "-m", "flows.cli.entry", *arguments]
            environment = {**clean, "PREFECT_HOME": str(folder / "prefect")}
            self.process = subprocess.Popen(
                command, stdout=out, stderr=err, env=environment, preexec_fn=_signals_as_usual
            )

    @property
    def said(self) -> str:
        """What it printed on stderr, without line breaks."""
        return " ".join(self._err.read_text().split())


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Command]]:
    """Commands of this test; what is left of them is killed."""
    commands: list[Command] = []
    yield commands
    for command in commands:
        kill(descendants(command.process.pid))


def _end(command: Command, number: signal.Signals) -> None:
    below = descendants(command.process.pid)
    command.process.send_signal(number)
    assert command.process.wait(60) == 128 + number, command.said
    assert interrupts.sentence(number) in command.said
    assert "Traceback" not in command.said
    ours = [process for process in below if not name_of(process).startswith(RAY_AGENTS)]
    wait_until(lambda: not any(alive(process) for process in ours), 20, "the end of its processes")


@pytest.mark.parametrize(
    ("number", "after"),
    [(signal.SIGINT, 0.4), (signal.SIGTERM, 0.8), (signal.SIGINT, 1.6), (signal.SIGHUP, 2.5), (signal.SIGINT, 4.0)],
)
def test_while_a_sweep_starts(
    spec: Path, tmp_path: Path, started: list[Command], number: signal.Signals, after: float
) -> None:
    command = Command(tmp_path, "sweep", str(spec), "--settle", "0")
    started.append(command)
    time.sleep(after)
    _end(command, number)


def test_in_the_middle_of_an_audit(spec: Path, tmp_path: Path, started: list[Command]) -> None:
    command = Command(tmp_path, "audit", str(spec))
    started.append(command)
    wait_until(lambda: "embed train" in command.said or command.process.poll() is not None, 200, "the first stage")
    _end(command, signal.SIGTERM)
    again = Command(tmp_path, "audit", str(spec))
    started.append(again)
    assert again.process.wait(200) == 0, again.said
    assert "found in the store" in again.said


def test_a_signal_that_the_caller_switched_off_stays_off(tmp_path: Path) -> None:
    code = (
        "import os, signal; from flows.cli import interrupts; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
        "interrupts.watch(); os.kill(os.getpid(), signal.SIGHUP); interrupts.unwatch(); "
        "os.kill(os.getpid(), signal.SIGHUP); print('goes on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "goes on\n"
