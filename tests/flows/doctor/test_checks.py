"""The doctor with real problems: closed ports, unwritable folders, wrong versions, a real Ray."""

from __future__ import annotations

import importlib.metadata as metadata
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from PIL import Image

from flows.doctor import checks as doctor_checks, machine_checks
from flows.doctor.checks import Finding, check_store, exit_code, isolated, run_checks
from flows.doctor.machine_checks import device_finding
from flows.runtime import machine
from storage.objects.open import LocalStore
from tests.paths import ROOT

SECRET = "a-secret-never-shown"


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed_port: int) -> str:
    """AWS settings that point to a server that does not run."""
    endpoint = f"http://127.0.0.1:{closed_port}"
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    settings = {"AWS_ENDPOINT_URL": endpoint, "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": str(tmp_path / "none"),
                "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return endpoint


@pytest.fixture
def health() -> Iterator[tuple[str, list[int]]]:
    """A server that answers with the status in the list."""
    status = [200]

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status[0] if self.path == "/api/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api", status
        server.shutdown()
        thread.join()


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


@pytest.mark.usefixtures("processes")
def test_every_problem_has_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "check_ray", lambda: iter([Finding("ray start", "ok", "not started")]))
    monkeypatch.setattr(doctor_checks, "check_device", lambda: iter([Finding("device", "ok", "not checked")]))
    Image.new("L", (8, 8)).save(tmp_path / "one.png")
    findings = list(run_checks(str(tmp_path / "store"), [str(tmp_path), str(tmp_path / "absent")]))
    by_name = {finding.name: finding for finding in findings}
    assert len(by_name) == len(findings)
    assert set(machine_checks.PACKAGES) < set(by_name)
    assert by_name["store"].status == "ok"
    assert by_name[f"images {tmp_path}"][1:3] == ("ok", "1 image")
    assert by_name[f"images {tmp_path / 'absent'}"].status == "fail"
    assert all((finding.status == "ok") == (finding.remedy == "") for finding in findings)
    assert exit_code(findings) == 2
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_only_failures_end_with_2() -> None:
    assert exit_code([Finding("a", "ok", ""), Finding("b", "warn", "", "do")]) == 0
    assert exit_code([Finding("a", "ok", ""), Finding("b", "fail", "", "do")]) == 2


def test_versions_are_compared_with_our_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "lancedb":
            raise metadata.PackageNotFoundError(name)
        return "0.155.0" if name == "fastapi" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    by_name = {finding.name: finding for finding in machine_checks.check_packages()}
    assert by_name["ray"].status == "ok"
    assert by_name["fastapi"].status == "fail"
    assert by_name["fastapi"].found.startswith("0.155.0, ")
    assert by_name["fastapi"].remedy.startswith("pip install 'fastapi")
    assert by_name["lancedb"].status == "fail"
    assert by_name["lancedb"].remedy.startswith("pip install 'lancedb")


def test_a_remedy_for_an_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "0.1")
    by_name = {finding.name: finding for finding in machine_checks.check_packages()}
    assert by_name["ray"].remedy.startswith("pip install 'ray[default]")


def test_old_python_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(machine_checks.check_python()).status == "ok"
    monkeypatch.setattr("platform.python_version", lambda: "3.9.1")
    finding = only(machine_checks.check_python())
    assert finding.status == "fail"
    assert "3.9.1" in finding.found
    assert ">=3.11" in finding.found


@pytest.mark.usefixtures("processes")
def test_versions_are_read_without_importing() -> None:
    code = "import sys, flows.doctor.machine_checks as d; list(d.check_packages()); print('torch' in sys.modules)"
    assert machine.run_python(code, 60, {"PYTHONPATH": str(ROOT)}) == "False"


def test_a_file_where_the_store_should_be_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    findings = list(isolated("store", lambda: check_store(str(tmp_path / "file"))))
    (finding,) = [finding for finding in findings if finding.status != "ok"]
    assert finding.status == "fail"
    assert str(tmp_path / "file") in finding.found
    assert finding.remedy


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a file system that nobody can write to")
def test_a_folder_that_nobody_can_write_to_fails() -> None:
    findings = list(isolated("store", lambda: check_store("/proc/layerprint")))
    finding = next(finding for finding in findings if finding.name == "store")
    assert finding.status == "fail"
    assert "/proc/layerprint" in finding.found


def test_a_store_without_conditional_writes_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def put_always(self: LocalStore, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True

    monkeypatch.setattr(LocalStore, "put_if_absent", put_always)
    finding = list(check_store(str(tmp_path)))[-1]
    assert finding.status == "fail"
    assert "put-if-absent" in finding.found


def test_a_closed_s3_port_fails_and_no_secret_is_shown(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA-" + SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    settings = list(doctor_checks.check_s3())
    assert settings == [
        Finding("s3 endpoint", "ok", f"{aws}, us-east-1"),
        Finding("s3 credentials", "ok", "from env"),
    ]
    store = only(isolated("store", lambda: check_store("s3://bucket/prefix")))
    assert store.status == "fail"
    assert store.remedy
    assert SECRET not in f"{settings}{store}"


@pytest.mark.usefixtures("aws")
def test_no_credentials_fail() -> None:
    finding = list(doctor_checks.check_s3())[-1]
    assert finding[:2] == ("s3 credentials", "fail")
    assert "AWS_ACCESS_KEY_ID" in finding.remedy


def test_prefect_absent_present_and_failing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed_port: int, health: tuple[str, list[int]]
) -> None:
    url, status = health
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(tmp_path / "profiles.toml"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert only(doctor_checks.check_prefect()).status == "ok"
    monkeypatch.setenv("PREFECT_API_URL", url)
    assert only(doctor_checks.check_prefect()) == Finding("prefect server", "ok", f"server at {url}")
    status[0] = 503
    finding = only(doctor_checks.check_prefect())
    assert finding.status == "fail"
    assert "503" in finding.found
    status[0] = 401
    assert "PREFECT_API_KEY" in only(doctor_checks.check_prefect()).remedy
    monkeypatch.setenv("PREFECT_API_URL", f"http://user:{SECRET}@127.0.0.1:{closed_port}/api")
    finding = only(doctor_checks.check_prefect())
    assert finding.status == "fail"
    assert f"http://127.0.0.1:{closed_port}/api " in finding.found
    assert "ConnectError" in finding.found
    assert SECRET not in str(finding)


def test_a_broken_check_is_a_finding_without_its_text() -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("half", "ok", "done")
        raise RuntimeError(SECRET)

    first, second = isolated("thing", broken)
    assert first.name == "half"
    assert second[:2] == ("thing", "fail")
    assert "RuntimeError" in second.found
    assert SECRET not in str(second)


def test_ray_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed_port: int) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert only(machine_checks.check_ray_address()).status == "ok"
    record = tmp_path / "ray" / "ray_current_cluster"
    record.parent.mkdir()
    record.write_text(f"127.0.0.1:{closed_port}")
    assert only(machine_checks.check_ray_address())[1::2] == ("warn", f"ray stop; rm {record}")
    with socket.create_server(("127.0.0.1", 0)) as alive:
        record.write_text(f"127.0.0.1:{alive.getsockname()[1]}")
        assert only(machine_checks.check_ray_address()).status == "ok"
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    finding = only(machine_checks.check_ray_address())
    assert finding.status == "warn"
    assert "head:6379" in finding.found


@pytest.mark.parametrize(("cores", "files"), [
    (0.5, {"cpu.max": "50000 100000"}),
    (0.25, {"cpu/cpu.cfs_quota_us": "25000", "cpu/cpu.cfs_period_us": "100000"}),
])  # fmt: skip
def test_cores_obey_the_quota(tmp_path: Path, cores: float, files: dict[str, str]) -> None:
    unlimited = machine.usable_cores(tmp_path)
    assert unlimited == len(os.sched_getaffinity(0))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.usable_cores(tmp_path) == cores
    (tmp_path / "cpu.max").write_text("max 100000")
    (tmp_path / "cpu").mkdir(exist_ok=True)
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1")
    assert machine.usable_cores(tmp_path) == unlimited


@pytest.mark.parametrize(("folder", "limit", "usage", "stat"), [
    ("", "max", "current", "inactive_file 100"),
    ("memory", "limit_in_bytes", "usage_in_bytes", "inactive_file 7\ntotal_inactive_file 100"),
])  # fmt: skip
def test_memory_obeys_the_limit(tmp_path: Path, folder: str, limit: str, usage: str, stat: str) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 99 kB\nMemAvailable:       10 kB\n")
    assert machine.available_memory(tmp_path, meminfo) == 10 * 1024
    group = tmp_path / folder
    group.mkdir(exist_ok=True)
    for name, text in ((limit, "2000"), (usage, "1500"), ("stat", stat)):
        (group / f"memory.{name}").write_text(text)
    assert machine.available_memory(tmp_path, meminfo) == 600


def test_amounts_at_their_bounds() -> None:
    statuses = [machine_checks.amount("x", n, 2, 4, "do").status for n in (1, 2, 3, 4)]
    assert statuses == ["fail", "warn", "warn", "ok"]


def test_disk_of_a_path_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert machine.disk_at(tmp_path / "a" / "b").total == machine.disk_at(tmp_path).total


def test_a_device_that_torch_cannot_use_is_a_warning() -> None:
    cpu = machine.Device(None, [])
    assert device_finding(cpu, driver=False).status == "ok"
    assert device_finding(cpu, driver=True).status == "warn"
    gpu = machine.Device("13.0", [("NVIDIA H100", 80 * machine.GIB)])
    assert device_finding(gpu, driver=True).found == "NVIDIA H100 (80 GiB)"


@pytest.mark.usefixtures("processes")
def test_a_child_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    code = f"""
import pathlib, subprocess, time
child = subprocess.Popen(["sleep", "600"])
pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(child.pid))
time.sleep(600)
"""
    with pytest.raises(subprocess.TimeoutExpired):
        machine.run_python(code, 3.0)
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.usefixtures("processes")
def test_the_error_of_an_import_of_torch_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.99: cannot open')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finding = only(machine_checks.check_device())
    assert finding.status == "fail"
    assert "libcudart.so.99: cannot open" in finding.found


@pytest.mark.usefixtures("processes")
def test_ray_really_starts() -> None:
    finding = only(machine_checks.check_ray())
    assert finding.status == "ok", finding
