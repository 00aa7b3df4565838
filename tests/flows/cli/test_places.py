"""Places that are not what a command expects: a store of nowhere, a server that is gone, a home, an output."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.cli.console import encodable
from flows.cli.main import run
from flows.runtime.libraries import prefect_home
from storage.objects.open import ObjectStore, open_store
from tests.flows.conftest import laboratory_spec, write_yaml

Capture = pytest.CaptureFixture[str]


@pytest.fixture(params=["local", "s3"])
def nowhere(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """A folder that is missing; a prefix without objects."""
    uri = str(tmp_path / "nowhere") if request.param == "local" else request.getfixturevalue("s3_prefix")
    return open_store(uri)


@pytest.mark.usefixtures("processes")  # `sql` starts one
@pytest.mark.parametrize("command", [["status"], ["sql", "FROM audits"], ["releases"], ["maintain"]])
def test_a_store_of_nowhere_is_an_error(nowhere: ObjectStore, command: list[str], capsys: Capture) -> None:
    assert run([*command, "--store", nowhere.uri]) == 2
    shown = capsys.readouterr()
    assert (shown.out, "there is no store here" in shown.err) == ("", True)
    nowhere.put("something/else.txt", b"x")
    assert run([*command, "--store", nowhere.uri]) == 2


def test_reports_of_nowhere_are_an_error(tmp_path: Path, capsys: Capture) -> None:
    spec = write_yaml(tmp_path / "spec.yaml", laboratory_spec(str(tmp_path), str(tmp_path / "audits")))
    for command in (["report", str(spec)], ["open", str(spec)], ["open", str(tmp_path / "none")]):
        assert run(command) == 2
    assert capsys.readouterr().out == ""


def test_a_dead_prefect_server_is_named(tmp_path: Path, capsys: Capture) -> None:
    spec = write_yaml(tmp_path / "spec.yaml", laboratory_spec(str(tmp_path), str(tmp_path / "audits")))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert run(["audit", str(spec)]) == 1
    shown = capsys.readouterr().err
    assert "PREFECT_API_URL: no Prefect server answers at http://127.0.0.1:9/api" in shown
    assert "Traceback" not in shown


def test_a_home_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("PREFECT_HOME", "/proc/1/home/.prefect")
    with prefect_home():
        folder = Path(os.environ["PREFECT_HOME"])
        assert (folder / "profiles.toml").write_text("") == 0
    assert not folder.exists()
    assert os.environ["PREFECT_HOME"] == "/proc/1/home/.prefect"
    assert "/proc/1 cannot be written" in caplog.text


def test_an_output_that_is_not_utf_8() -> None:
    document = json.dumps({"name": "Â\n→"}, ensure_ascii=False)
    assert encodable(document, "utf-8") == document
    assert json.loads(encodable(document, "ascii").encode("ascii")) == {"name": "Â\n→"}
