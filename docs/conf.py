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
GROUP = re.compile(r"^## ([^\n]+)\n\n```\{modules\}\n(.*?)```\n", re.MULTILINE | re.DOTALL)
"""A group of modules in a page of docs/api/: its title and their names."""

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
include_patterns = ["README.md", "CHANGELOG.md", "docs/**", "deploy/*.md"]
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
    """A page for each group of modules that docs/api/ lists, from their docstrings."""
    for page in API.glob("*.md"):
        for title, modules in GROUP.findall(page.read_text(encoding="utf-8")):
            text = f"{title}\n{'=' * len(title)}\n"
            for module in modules.split():
                text += f"\n{module}\n{'-' * len(module)}\n\n.. automodule:: {module}\n"
            place = API / "modules" / f"{page_name(page.stem, title)}.rst"
            place.parent.mkdir(exist_ok=True)
            place.write_text(text, encoding="utf-8")


def page_name(package: str, title: str) -> str:
    """The name of the page of a group."""
    return package + re.sub(r"\W+", "-", f" {title.lower()}").rstrip("-")


def expand(app: Sphinx, page: str, source: list[str]) -> None:
    """The table of contents goes under the README, which is the front page; modules are listed with what they are."""
    if page == root_doc:
        source[0] += "\n" + (ROOT / "docs" / "contents.md").read_text(encoding="utf-8")
    elif groups := GROUP.findall(source[0]):
        pages = [page_name(Path(page).name, title) for title, _ in groups]
        source[0] = GROUP.sub(lambda found: f"## {found[1]}\n\n{_table(found[2].split())}", source[0])
        source[0] += "\n```{toctree}\n:hidden:\n\n" + "".join(f"modules/{name}\n" for name in pages) + "```\n"


def _table(modules: list[str]) -> str:
    lines = ["| module | what it is |", "|---|---|"]
    for module in modules:
        text = (
            ast.get_docstring(ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))) or ""
        )
        summary = text.partition("\n\n")[0].replace("\n", " ").replace("|", r"\|").replace("``", "`")
        lines.append(f"| {{py:mod}}`{module}` | {re.sub(':[a-z]+:`', '`', summary)} |")
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
