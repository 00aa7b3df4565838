"""Audits that are disturbed in every way and run again: in the end their tables are those of an undisturbed one.

``LAYERPRINT_ENDURANCE=30`` kills one audit thirty times, makes storage fail for a minute, and does the rest; without it
one audit is killed once, and two run at the same time under different clocks.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from flows.cli import interrupts
from flows.demo.data import split_digits, write_png_set
from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.open import open_store
from storage.results.sql import run_sql
from tests.faults.proxy import Answer, FaultyProxy, Request
from tests.flows.conftest import laboratory_spec, write_yaml
from tests.processes import descendants, kill, wait_until
from tests.result_rows import Rows, result_rows

pytestmark = [pytest.mark.usefixtures("processes"), pytest.mark.timeout(3600)]

TIMES = int(os.environ.get("LAYERPRINT_ENDURANCE", "1"))
BUSY_S = min(60, 6 * TIMES)
STAGES = ("embed train", "search copies@1", "score copies@1", "embed unseen@2")
CLOCK = "import time; now = time.time; time.time = lambda: now() - 86_400\n"

long = pytest.mark.skipif(TIMES < 2, reason="takes minutes: LAYERPRINT_ENDURANCE=30")

Start = Callable[..., "Command"]
Undisturbed = tuple[Rows, float]


class Command:
    """`layerprint audit` as a process, in its own environment."""

    def __init__(self, spec: Path, folder: Path, **environment: str) -> None:
        self._err = folder / "err"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        with self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli.entry", "audit", str(spec)],
                stdout=subprocess.DEVNULL,
                stderr=err,
                env={**clean, "PREFECT_HOME": str(folder / "prefect"), **environment},
            )

    @property
    def said(self) -> str:
        """What it printed on stderr, without line breaks."""
        return " ".join(self._err.read_text().split())

    def reaches(self, words: str) -> None:
        """Wait until it says something, or ends."""
        wait_until(lambda: words in self.said or self.process.poll() is not None, 300, words)

    def ends_well(self) -> None:
        assert self.process.wait(300) == 0, self.said


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Command] = []

    def begin(spec: Path, **environment: str) -> Command:
        folder = tmp_path / f"command-{len(started)}"
        folder.mkdir()
        started.append(Command(spec, folder, **environment))
        return started[-1]

    yield begin
    for command in started:
        kill(descendants(command.process.pid))
        command.process.wait()


@pytest.fixture(scope="module")
def undisturbed(lab: str, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The rows of an audit that nothing disturbs, and the seconds that it takes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    Command(write_yaml(folder / "spec.yaml", laboratory_spec(lab, f"{lab}-undisturbed")), folder).ends_well()
    return result_rows(f"{lab}-undisturbed"), time.monotonic() - began


@pytest.fixture
def spec(lab: str, s3_prefix: str, tmp_path: Path) -> Path:
    return write_yaml(tmp_path / "spec.yaml", laboratory_spec(lab, f"{s3_prefix}/audits"))


def test_killed_again_and_again(spec: Path, s3_prefix: str, start: Start, undisturbed: Undisturbed) -> None:
    expected, seconds = undisturbed
    chance = random.Random(0)
    for _ in range(TIMES):
        command = start(spec)
        time.sleep(chance.uniform(0.1, 1) * seconds)
        command.process.kill()
        command.process.wait()
    start(spec).ends_well()
    assert result_rows(f"{s3_prefix}/audits") == expected


@long
def test_terminated_in_each_stage(spec: Path, s3_prefix: str, start: Start, undisturbed: Undisturbed) -> None:
    for stage in STAGES:
        command = start(spec)
        command.reaches(stage)
        command.process.send_signal(signal.SIGTERM)
        code = command.process.wait(120)
        assert code == 143, command.said
        assert interrupts.sentence(signal.SIGTERM) in command.said
        assert "Traceback" not in command.said
    start(spec).ends_well()
    assert result_rows(f"{s3_prefix}/audits") == undisturbed[0]


@long
@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (429, "TooManyRequests")])
def test_storage_is_busy_for_a_while(
    s3: EmbeddedS3, spec: Path, s3_prefix: str, start: Start, undisturbed: Undisturbed, status: int, code: str
) -> None:
    until: list[float] = []

    def busy(request: Request) -> Answer | None:
        if not until and "vectors" in request.path:
            until.append(time.monotonic() + BUSY_S)
        return Answer(status, code) if until and time.monotonic() < until[0] else None

    with FaultyProxy(s3.endpoint) as proxy:
        proxy.rule = busy
        command = start(spec, AWS_ENDPOINT_URL=proxy.endpoint)
        ended = command.process.wait(600)
        assert ended in (0, 2), command.said  # 2: busy for longer than all attempts
        assert proxy.broken
        assert "Traceback" not in command.said
        if ended:
            wait_until(lambda: time.monotonic() > until[0], BUSY_S + 10, "storage")
            start(spec, AWS_ENDPOINT_URL=proxy.endpoint).ends_well()
    assert result_rows(f"{s3_prefix}/audits") == undisturbed[0]


@long
def test_the_storage_server_is_restarted(tmp_path: Path, start: Start, undisturbed: Undisturbed) -> None:
    folder, digits = tmp_path / "server", split_digits(0)
    sets = {"train": digits.train[:160], "held_out": digits.held_out[:140], "copies": digits.train[:80]}
    with pytest.MonkeyPatch.context() as patch:
        with EmbeddedS3(folder) as server:
            for name, value in server.environment().items():
                patch.setenv(name, value)
            server.make_bucket("own")
            for name, images in {**sets, "unseen": digits.unseen[:100]}.items():
                write_png_set(images, open_store("s3://own/lab").put, f"{name}/")
            spec = write_yaml(tmp_path / "spec.yaml", laboratory_spec("s3://own/lab", "s3://own/audits"))
            command = start(spec)
            command.reaches("embed train")
        time.sleep(1)
        with EmbeddedS3(folder) as again:
            assert again.endpoint == server.endpoint
            if command.process.wait(600):
                assert "Traceback" not in command.said
                start(spec).ends_well()
            found = result_rows("s3://own/audits")
    scores = [{k: v for k, v in row.items() if "id" not in k} for row in found["scores"]]
    expected = [{k: v for k, v in row.items() if "id" not in k} for row in undisturbed[0]["scores"]]
    assert len(scores) == len(expected)
    assert sorted(map(repr, scores)) == sorted(map(repr, expected))


@long
def test_images_change_while_they_are_read(lab: str, s3_prefix: str, tmp_path: Path, start: Start) -> None:
    copies = open_store(f"{s3_prefix}/copies")
    source = open_store(f"{lab}/copies")
    for info in source.list():
        copies.put(info.key, source.get(info.key))
    content = laboratory_spec(lab, f"{s3_prefix}/audits")
    content["releases"][0]["images"] = f"{s3_prefix}/copies/"
    spec = write_yaml(tmp_path / "spec.yaml", content)
    command = start(spec)
    command.reaches("embed train")
    keys = sorted(info.key for info in copies.list())
    for key in keys[:5]:
        copies.delete(key)
    for key in keys[5:10]:
        image = tmp_path / "changed.png"
        Image.new("L", (8, 8), 90).save(image)
        copies.put(key, image.read_bytes())
    command.process.wait(300)
    assert "Traceback" not in command.said
    start(spec).ends_well()
    content["store"] = f"{s3_prefix}/fresh"
    start(write_yaml(tmp_path / "fresh.yaml", content)).ends_well()
    latest = "SELECT label, layer, a_hat, m FROM latest_scores ORDER BY ALL"
    assert run_sql(f"{s3_prefix}/audits", latest).to_pylist() == run_sql(f"{s3_prefix}/fresh", latest).to_pylist()


def test_two_commands_and_a_clock_that_was_set_back(
    spec: Path, s3_prefix: str, tmp_path: Path, start: Start, undisturbed: Undisturbed
) -> None:
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(CLOCK)
    path = os.pathsep.join(filter(None, (str(tmp_path / "clock"), os.environ.get("PYTHONPATH"))))
    for command in [start(spec), start(spec, PYTHONPATH=path)]:
        command.ends_well()
    start(spec, PYTHONPATH=path).ends_well()
    assert result_rows(f"{s3_prefix}/audits") == undisturbed[0]
