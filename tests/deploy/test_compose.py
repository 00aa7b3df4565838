"""The compose file: read by docker-compose, refuses to start without its secrets, nothing open, everything checked."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.files import DEPLOY, ran, tool

FILE = DEPLOY / "compose.yaml"
NAMES = re.findall(r"^(\w+)=", (DEPLOY / ".env.example").read_text(), re.MULTILINE)
ONE_SHOT = {"bucket"}


def compose() -> str:
    return tool("docker-compose", "apt-get install docker-compose")


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    path = tmp_path / "env"
    path.write_text("".join(f"{name}=value{number}\n" for number, name in enumerate(NAMES)))
    return path


@pytest.fixture
def services(processes: None, filled: Path) -> dict[str, Any]:
    shown = ran(
        compose(), "--env-file", str(filled), "-f", str(FILE), "-f", str(DEPLOY / "compose.gpu.yaml"),
        "--profile", "observability", "config",
    )  # fmt: skip
    return dict(yaml.safe_load(shown)["services"])


def test_every_variable_is_in_the_example_and_the_example_is_empty() -> None:
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", FILE.read_text()))
    assert used == set(NAMES)
    assert re.findall(r"^\w+=.+$", (DEPLOY / ".env.example").read_text(), re.MULTILINE) == []
    assert all(f"${{{name}:?" in FILE.read_text() for name in NAMES)


@pytest.mark.parametrize("missing", NAMES)
@pytest.mark.usefixtures("processes")
def test_nothing_starts_without_a_value(missing: str, filled: Path) -> None:
    lines = filled.read_text().splitlines()
    filled.write_text("\n".join(line for line in lines if not line.startswith(missing + "=")))
    done = subprocess.run(
        [compose(), "--env-file", str(filled), "-f", str(FILE), "--profile", "observability", "config", "-q"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "set it in deploy/.env" in done.stderr


def test_the_env_file_is_never_committed() -> None:
    assert "deploy/.env" in (DEPLOY.parent / ".gitignore").read_text().splitlines()


def test_all_parts_are_there(services: dict[str, Any]) -> None:
    assert set(services) == {
        "postgres", "seaweedfs", "bucket", "prefect-server", "prefect-worker", "ray-head", "ray-worker",
        "prometheus", "grafana",
    }  # fmt: skip


def test_every_service_is_checked_and_restarts(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if name in ONE_SHOT:
            assert service["restart"] == "no"
        else:
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"], name


def test_ports_are_published_on_loopback_only(services: dict[str, Any]) -> None:
    published = [str(port) for service in services.values() for port in service.get("ports", [])]
    assert len(published) == 5
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_no_service_has_more_rights_than_it_needs(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged"), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        ours = service["image"] == "value0"
        assert ours or re.search(r":v?\d+\.\d+", service["image"]), name
        assert ("user" in service) is not ours, name  # our image's own user is not root


def test_the_object_store_asks_for_keys_on_all_ports(services: dict[str, Any]) -> None:
    script = services["seaweedfs"]["command"][-1]
    keys, server = (line.split() for line in script.replace("\\\n", "").strip().splitlines())
    assert keys[:3] == ["python", "-m", "storage.objects.server_keys"]
    assert {f"-config_dir={keys[3]}", f"-ip={keys[4]}"} <= set(server)


def test_ray_asks_for_its_token_and_prefect_for_its_password(services: dict[str, Any]) -> None:
    token = f"value{NAMES.index('RAY_AUTH_TOKEN')}"
    for name in ("ray-head", "ray-worker", "prefect-worker"):
        environment = services[name]["environment"]
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["RAY_AUTH_TOKEN"] == token
    password = f"value{NAMES.index('PREFECT_AUTH_STRING')}"
    assert services["prefect-server"]["environment"]["PREFECT_SERVER_API_AUTH_STRING"] == password
    assert services["prefect-worker"]["environment"]["PREFECT_API_AUTH_STRING"] == password


def test_mounted_files_are_there(services: dict[str, Any]) -> None:
    mounted = [
        str(volume).split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
        if str(volume).endswith(":ro")
    ]
    assert len(mounted) == 5
    assert all(Path(path).is_file() for path in mounted)


def test_gpus_go_to_the_workers(services: dict[str, Any]) -> None:
    (device,) = services["ray-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
