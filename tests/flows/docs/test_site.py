"""The documentation site."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import layerprint
from tests.flows.docs.pages import blocks
from tests.paths import ROOT


@pytest.fixture(scope="module")
def site(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it, with warnings as errors."""
    folder = tmp_path_factory.mktemp("site")
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    (line,) = re.findall(r"^\t\$\(BIN\)/sphinx-build (.*) -d site/.doctrees \. site$", recipe, re.MULTILINE)
    command = [sys.executable, "-m", "sphinx", *line.split(), "-d", str(folder / "doctrees"), ".", str(folder / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


def test_the_site_loads_nothing_from_other_hosts(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source|video)\b[^>]*?\ssrc=\"([^\"]*)", text)
        loaded += re.findall(r"<link\b[^>]*?\shref=\"([^\"]*)", text)
        assert [url for url in loaded if re.match(r"(https?:)?//", url)] == []
        here = [page.parent / url.partition("?")[0].partition("#")[0] for url in loaded if not url.startswith("data:")]
        assert [str(path) for path in here if not path.exists()] == []
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_every_public_module_is_listed(site: Path) -> None:
    sources = [path for name in ("actors", "flows", "scoring", "storage") for path in (ROOT / name).rglob("*.py")]
    modules = [path.relative_to(ROOT).with_suffix("") for path in sources if path.name != "__init__.py"]
    text = "".join(page.read_text(encoding="utf-8") for page in site.glob("docs/api/modules/*.html"))
    assert sorted(re.findall(r'id="module-([\w.]+)"', text)) == sorted(".".join(path.parts) for path in modules)
    for name in (
        "scoring.score.c_t.published_ct",
        "storage.results.sql.connect",
        "flows.audit.audit",
        "actors.ray_cluster.pool.Pool",
    ):
        assert f'id="{name}"' in text
    assert "&gt;&gt;&gt; " in text.replace('<span class="gp">', "")
    assert not re.search(r'id="(actors|flows|scoring|storage)\.[\w.]*\._[a-z]', text)


def test_every_folder_is_a_group_of_its_package(site: Path) -> None:
    for package in ("actors", "flows", "scoring", "storage"):
        page = (site / "docs" / "api" / f"{package}.html").read_text(encoding="utf-8")
        folders = {path.parent for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py"}
        for folder in folders:
            assert f'href="modules/{".".join(folder.relative_to(ROOT).parts)}.html' in page


def test_the_public_face_has_its_page(site: Path) -> None:
    page = (site / "docs" / "api" / "layerprint.html").read_text(encoding="utf-8")
    for name in layerprint.__all__:
        assert f'id="layerprint.{name}"' in page or name in ("__version__", "InputError", "LayerprintError")


def test_every_command_has_its_reference(site: Path) -> None:
    text = (site / "docs" / "commands.html").read_text(encoding="utf-8")
    for command in ("audit", "attribute", "sql", "report", "maintain", "stack up"):
        assert f'<span class="pre">layerprint</span> <span class="pre">{command.split()[0]}</span>' in text
    assert "--harmonise" in text


def test_links_between_pages_work(site: Path) -> None:
    for page in site.rglob("*.html"):
        for link in re.findall(r"<a\b[^>]*?\shref=\"([^\"]*)", page.read_text(encoding="utf-8")):
            place, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link):
                continue
            target = page.parent / place if place else page
            assert target.exists(), (page, link)
            if anchor and target.suffix == ".html":
                assert f'id="{anchor}"' in target.read_text(encoding="utf-8"), (page, link)


def test_the_python_of_the_reference_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = blocks("docs/api/index.md", "python")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    assert capsys.readouterr().out == blocks("docs/api/index.md", "text")[0]
