"""What holds for every file of `deploy/`: images pinned, no secrets, no machine's path, links that lead somewhere."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.deploy.files import DEPLOY, texts
from tests.paths import ROOT

IMAGE = re.compile(r"^\s*(?:-\s+)?(?:image|newName):[ \t]+(\S+)", re.MULTILINE)
SECRETS = [
    r"AKIA[0-9A-Z]{16}",
    r"-----BEGIN [A-Z ]*PRIVATE KEY",
    r"xox[abprs]-[0-9A-Za-z-]{10,}",
    r"hooks\.slack\.com/services/\w",
    r"gh[pousr]_[A-Za-z0-9]{30,}",
    r"glpat-[\w-]{15,}",
    r"eyJ[A-Za-z0-9_-]{20,}\.",
    r"(?<![\w@])[0-9a-f]{64}(?!\w)",
    r"://[^\s/:@{}$]+:[^\s/:@{}$]{6,}@",
]
PINNED = re.compile(r"^[\w./-]+:(?!latest)[\w.-]*\d[\w.-]*$|@sha256:[0-9a-f]{64}$")


def secrets_in(text: str) -> list[str]:
    return [found[0] for pattern in SECRETS for found in re.finditer(pattern, text)]


def test_the_scan_finds_what_it_looks_for() -> None:
    for secret in (
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "https://hooks.slack.com/" + "services/T0",
        "RAY_AUTH_TOKEN=" + "0a" * 32,
        "postgresql://prefect:" + "hunter22@db/prefect",
    ):
        assert secrets_in(secret), secret


@pytest.mark.parametrize("path", texts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_secret_and_no_path_of_a_machine(path: object) -> None:
    text = texts()[path]  # type: ignore[index]
    assert secrets_in(text) == []
    assert not re.search(r"/(root|work|Users)/|/home/(?!layerprint\b)", text)


def test_every_image_is_pinned_by_version() -> None:
    found = [
        (path.name, image.strip("\"'"))
        for path, text in texts().items()
        if path.suffix in (".yaml", ".yml")
        for image in IMAGE.findall(text)
    ]
    assert len(found) > 10
    ours = {"layerprint", "ACCOUNT.dkr.ecr.REGION.amazonaws.com/layerprint"}  # the overlays set its tag
    others = [(name, image) for name, image in found if not image.startswith("$") and image not in ours]
    assert [(name, image) for name, image in others if not PINNED.search(image)] == []
    assert all(":latest" not in text for text in texts().values())


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.yaml")), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_yaml_is_read(path: object) -> None:
    assert list(yaml.safe_load_all(texts()[path]))  # type: ignore[index]


@pytest.mark.parametrize("name", ["deploy/README.md", "deploy/RUNBOOK.md", "docs/operations.md"])
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", page.read_text())
    assert links
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_every_runbook_link_of_an_alert_is_a_section() -> None:
    sections = {
        re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", (DEPLOY / "RUNBOOK.md").read_text(), re.MULTILINE)
    }
    linked = re.findall(r"RUNBOOK\.md#([\w-]+)", (DEPLOY / "observability/alerts.yaml").read_text())
    assert linked
    assert set(linked) <= sections


QUOTED = [
    "could not be read, more than the allowed",
    "needs at least",
    "images are (nearly) train",
    "belongs to the reference",
    "releases.from: no folder",
    "the encoder on this machine has digest",
    "a process died at",
    "cluster.ray: ",
    "refuses the token",
    "the cluster runs layerprint",
    "no AWS credentials found",
    "S3 settings: AWS_ENDPOINT_URL or AWS_DEFAULT_REGION is malformed",
    "not what was written there",
    "belongs to an S3 server that still runs",
    "did not start; its log",
    "command is running there",
    "this is a fault of layerprint or of a library",
]


@pytest.mark.parametrize("message", QUOTED)
def test_messages_of_the_runbook_are_those_of_the_code(message: str) -> None:
    assert message in (DEPLOY / "RUNBOOK.md").read_text()
    code = [path.read_text() for folder in ("actors", "flows", "storage") for path in (ROOT / folder).rglob("*.py")]
    assert any(message in text for text in code)
