"""The commands of the documentation pages."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.paths import ROOT

PAGES = ["README.md", "deploy/README.md", "deploy/RUNBOOK.md"]
PAGES += sorted(
    f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md") if path.name not in ("commands.md", "contents.md")
)
"""All pages for readers, without the generated command reference and the table of contents."""

_PROGRAM = re.compile(
    r"(layerprint|make|python|prefect|ray|kubectl|helm|kind|docker|dc|aws|git|cp|alias|source|export|P=)(?= |\$)"
)
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^    .+\n)+", re.MULTILINE)


class Command(NamedTuple):
    """A command of a page.

    Args:
        page: Path of the page within the repository.
        text: The command on one line, without prompt and comment.
        block: Whether it is in a code block, else in a sentence or a table.
    """

    page: str
    text: str
    block: bool


def text_of(page: str) -> str:
    """The Markdown of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    return [body for name, body in _FENCED.findall(text_of(page)) if name == language]


def commands(page: str) -> list[Command]:
    """All commands of a page, those of its blocks first."""
    return [*_in_blocks(page), *_in_sentences(page)]


def _in_blocks(page: str) -> list[Command]:
    text = text_of(page)
    bodies = [body for language, body in _FENCED.findall(text) if language in ("", "bash", "console", "sh")]
    bodies += [re.sub("^    ", "", body, flags=re.MULTILINE) for body in _INDENTED.findall(_FENCED.sub("", text))]
    lines = [line for body in bodies for line in re.sub(r"\\\n\s*", "", body).splitlines()]
    return [Command(page, _bare(line), True) for line in lines if _PROGRAM.match(line.removeprefix("$ "))]


def _in_sentences(page: str) -> list[Command]:
    spans = re.findall(r"`([^`]+)`", _INDENTED.sub("", _FENCED.sub("", text_of(page))))
    return [Command(page, " ".join(span.split()), False) for span in spans if _PROGRAM.match(span)]


def _bare(line: str) -> str:
    return re.sub(r"\s+# .*$", "", line.removeprefix("$ ")).strip()
