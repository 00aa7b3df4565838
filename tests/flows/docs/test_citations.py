"""Code that cites a page names a section that is there; pages that list folders and files name ones that are there."""

from __future__ import annotations

import re

import pytest

from tests.paths import ROOT

FOLDERS = ("actors", "benchmarks", "examples", "flows", "layerprint", "scoring", "storage", "tests")
CITATION = re.compile(r"(docs/\w+\.md): \\?\"([^\"\\]+)\\?\"")
INVENTED = re.compile(r"median_ratio|image_sets/zip|prune")
"""What CONTRIBUTING.md adds as an example."""


def code() -> list[str]:
    files = [ROOT / "pyproject.toml", *(path for name in FOLDERS for path in (ROOT / name).rglob("*.py"))]
    return [
        re.sub(r"\n\s*", " ", path.read_text(encoding="utf-8")) for path in files if path.name != "test_citations.py"
    ]


def test_every_citation_leads_to_a_section() -> None:
    citations = {citation for text in code() for citation in CITATION.findall(text)}
    assert len(citations) > 5
    for page, section in citations:
        assert re.search(rf"^#+ {re.escape(section)}$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE), (
            section
        )


def test_nothing_cites_what_is_not_in_the_repository() -> None:
    assert not [text for text in code() if re.search(r"\b(METHOD|DESIGN)( §|: | decision)", text)]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_what_a_page_names_is_there(page: str) -> None:
    named = re.findall(r"`([\w.]+/[\w./]*)`", (ROOT / page).read_text(encoding="utf-8"))
    here = [name for name in named if name.split("/")[0] in (*FOLDERS, "deploy", "docs") and not INVENTED.search(name)]
    assert len(here) > 5
    assert [name for name in here if not (ROOT / name).exists()] == []
