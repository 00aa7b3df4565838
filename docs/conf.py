"""How `make docs` builds the site, with Sphinx: from the Markdown as it stands on GitHub, and from docstrings.

The source folder is the repository's, so that a link between pages, or to a file of the repository, is the same on
GitHub and on the site. Nothing is fetched, neither by the build nor by a reader's browser.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
API = ROOT / "docs" / "api"
PACKAGES = ("actors", "flows", "scoring", "storage")
MODULES = "```{modules}\n```\n"
"""Stands in docs/api/<package>.md for the package's folders and modules."""

project = "layerprint"
author = "the layerprint authors"
project_copyright = "the layerprint authors, Apache-2.0"
version = release = version_of("layerprint")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**", "deploy/*.md"]
exclude_patterns = [".*", "site", "docs/contents.md", "docs/_*"]

# Pages
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3  # GitHub's anchors
suppress_warnings = ["myst.header"]
highlight_language = "text"
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # other projects' names have no page here, and nothing is fetched to find one

# The API reference
default_role = "py:obj"  # of `single backticks` in docstrings: a link where the name is ours
autodoc_default_options = {"members": True, "member-order": "bysource", "ignore-module-all": True}
autodoc_typehints_format = "short"
maximum_signature_line_length = 80
python_display_short_literal_types = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes of a record as one list
napoleon_custom_sections = [("Source", "notes")]

# Looks
html_theme = "furo"
html_title = "layerprint"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style, pygments_dark_style = "tango", "monokai"


def write_commands(app: Sphinx) -> None:
    """The command reference, from the help of the commands themselves."""
    page = ROOT / "docs" / "commands.md"
    options = ["--name", "layerprint", "--title", "Commands", "--output", str(page)]
    arguments = ["flows.cli.main", "utils", "docs", *options]
    subprocess.run([sys.executable, "-m", "typer", *arguments], cwd=ROOT, check=True, capture_output=True)


def write_modules(app: Sphinx) -> None:
    """A page for each folder, from the docstrings of its modules."""
    shutil.rmtree(API / "modules", ignore_errors=True)
    (API / "modules").mkdir()
    for folder in (folder for package in PACKAGES for folder in folders(package)):
        title = heading(folder)
        text = f"{title}\n{'=' * len(title)}\n"
        for module in modules(folder):
            text += f"\n{module}\n{'-' * len(module)}\n\n.. automodule:: {module}\n"
        (API / "modules" / f"{dotted(folder)}.rst").write_text(text, encoding="utf-8")


def folders(package: str) -> list[Path]:
    """The folders of a package that hold modules, its own first."""
    return [path.parent for path in sorted((ROOT / package).rglob("__init__.py")) if modules(path.parent)]


def modules(folder: Path) -> list[str]:
    """The modules of a folder by their full names."""
    return [f"{dotted(folder)}.{path.stem}" for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]


def dotted(path: Path) -> str:
    """The name of a package.

    >>> dotted(ROOT / "flows" / "cli")
    'flows.cli'
    """
    return ".".join(path.relative_to(ROOT).parts)


def heading(folder: Path) -> str:
    """What a folder is: its docstring up to the first colon or full stop."""
    return re.split(r"[:.](?:\s|$)", summary(folder / "__init__.py"), maxsplit=1)[0].replace("`", "")


def summary(path: Path) -> str:
    """The first paragraph of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or dotted(path.parent)
    return text.partition("\n\n")[0].replace("\n", " ")


def expand(app: Sphinx, page: str, source: list[str]) -> None:
    """The table of contents goes under the README, which is the front page; modules are listed with what they are."""
    if page == root_doc:
        source[0] += "\n" + (ROOT / "docs" / "contents.md").read_text(encoding="utf-8")
    elif MODULES in source[0]:
        found = folders(Path(page).name)
        listed = "".join(f"## {heading(folder)}\n\n`{dotted(folder)}`\n\n{_table(folder)}\n" for folder in found)
        pages = "".join(f"modules/{dotted(folder)}\n" for folder in found)
        source[0] = source[0].replace(MODULES, f"{listed}```{{toctree}}\n:hidden:\n\n{pages}```\n")


def _table(folder: Path) -> str:
    lines = ["| module | what it is |", "|---|---|"]
    for module in modules(folder):
        text = summary(ROOT / f"{module.replace('.', '/')}.py").replace("|", r"\|").replace("``", "`")
        lines.append(f"| {{py:mod}}`~{module}` | {re.sub(':[a-z]+:`', '`', text)} |")
    return "\n".join(lines) + "\n"


class Docstrings:
    """What Sphinx would misread in a docstring.

    Napoleon takes what an attribute's docstring says before a colon for its type: ours are plain sentences. And |x| is
    an absolute value, no substitution.
    """

    def __init__(self, app: Sphinx) -> None:
        self._kept: dict[str, list[str]] = {}
        app.connect("autodoc-process-docstring", self._keep, priority=400)
        app.connect("autodoc-process-docstring", self._restore, priority=600)

    def _keep(self, app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        if what in ("attribute", "data", "property"):
            self._kept[name] = lines.copy()

    def _restore(self, app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
        lines[:] = self._kept.pop(name, lines)
        example = False
        for i, line in enumerate(lines):
            example = bool(line) and (example or line.lstrip().startswith(">>>"))
            if not example and what != "module":
                parts = line.split("``")
                parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
                lines[i] = "``".join(parts)


def shorten_types(app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returned: str) -> Any:
    """`NDArray[np.float64]`, which is what the code says, for what Python makes of it."""
    array = re.compile(r"~?numpy\.ndarray\[.*?\], ~?numpy\.dtype\[(.*?)\]\]")
    return tuple(text and array.sub(r"NDArray[\1]", text) for text in (signature, returned))


def write_index(app: Sphinx, error: Exception | None) -> None:
    """Servers and readers look for ``index.html``."""
    if not error and app.builder.format == "html":
        shutil.copyfile(app.outdir / f"{root_doc}.html", app.outdir / "index.html")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_commands, priority=100)
    app.connect("builder-inited", write_modules, priority=100)
    app.connect("source-read", expand)
    app.connect("autodoc-process-signature", shorten_types)
    Docstrings(app)
    app.connect("build-finished", write_index)
