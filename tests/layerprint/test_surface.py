"""What `import layerprint` offers, exactly: a change here is a change for every user."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest

import layerprint
from tests.paths import ROOT

NAMES = [
    "Attribution",
    "Audit",
    "InputError",
    "LayerprintError",
    "Pairs",
    "__version__",
    "attribute",
    "audit",
    "connect",
]

ARGUMENTS = {
    "audit": "train held_out images encoder name store version run family reference scoring gate cluster harmonise "
    "quiet",
    "attribute": "images store train held_out encoder reference scoring cluster harmonise reject unknown quiet",
    "connect": "store",
}

MEMBERS = {
    "Audit": "pairs report",
    "Pairs": "to_pandas",
    "Attribution": "",
}

IMPORT = """
import sys, time
began = time.perf_counter()
import layerprint
seconds = time.perf_counter() - began
heavy = {"torch", "ray", "prefect", "lancedb", "pyarrow", "duckdb", "numpy"} & sys.modules.keys()
assert not heavy, heavy
assert seconds < 0.3, seconds
"""


def test_the_names() -> None:
    assert layerprint.__all__ == NAMES
    assert dir(layerprint) == NAMES
    assert all(getattr(layerprint, name) is not None for name in NAMES)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = layerprint.nothing


def test_the_version_is_the_distribution_s() -> None:
    assert layerprint.__version__ == version("layerprint")


@pytest.mark.parametrize("function", ARGUMENTS)
def test_the_arguments(function: str) -> None:
    parameters = inspect.signature(getattr(layerprint, function)).parameters
    assert list(parameters) == ARGUMENTS[function].split()
    if function != "connect":
        assert {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("function", ARGUMENTS)
def test_every_argument_is_explained(function: str) -> None:
    text = inspect.getdoc(getattr(layerprint, function)) or ""
    assert all(f"    {name}: " in text for name in ARGUMENTS[function].split())


@pytest.mark.parametrize("kind", MEMBERS)
def test_the_methods(kind: str) -> None:
    members = [name for name, _ in inspect.getmembers(getattr(layerprint, kind), inspect.isfunction)]
    assert [name for name in members if not name.startswith("_")] == MEMBERS[kind].split()


@pytest.mark.usefixtures("processes")
def test_importing_it_is_fast_and_loads_nothing_heavy() -> None:
    subprocess.run([sys.executable, "-c", IMPORT], cwd=ROOT, check=True)


def test_it_is_typed() -> None:
    assert (ROOT / "layerprint" / "py.typed").is_file()
