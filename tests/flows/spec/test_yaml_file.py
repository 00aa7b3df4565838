"""YAML of strangers is plain data of bounded size, and an error names the line."""

from __future__ import annotations

import pytest
import yaml

from flows.spec.yaml_file import MAX_BYTES, MAX_DEPTH, MAX_VALUES, read_yaml
from storage.errors import InputError
from tests.paths import ROOT


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: 1\nb: &x 2", "line 2: it has an anchor (&x)"),
        ("a: *x", "line 1: it has an alias (*x)"),
        ("a: 1\nb: !!str 2", "line 2: it has a tag"),
        ("a: 1\nb:\n  c: 1\n  c: 2", "line 4: 'c' is given twice"),
        ("a: 1\n\nb: [", "line 4: "),
        ("a: 1\nb: \x01", "line 2: "),
        ("a: 1\nb: 2026-13-01", "line 2: not a date"),
        (f"a: {'9' * 101}", "line 1: a number of 101 characters"),
        ("[" * (MAX_DEPTH + 1), f"line 1: it is nested more than {MAX_DEPTH} deep"),
        ("- x\n" * (MAX_VALUES + 1), f"line {MAX_VALUES}: it has more than {MAX_VALUES:,} values"),
        ("a: 1\n---\nb: 2", "line 2: "),
        ("#" * (MAX_BYTES + 1), "more than 1024 KiB"),
    ],
)
def test_what_is_refused(text: str, found: str) -> None:
    with pytest.raises(InputError) as refused:
        read_yaml(text.encode(), "s3://b/spec.yaml", "write it anew")
    assert f"s3://b/spec.yaml: {found}" in refused.value.found
    assert refused.value.remedy == "write it anew"
    assert len(refused.value.found) < 400


def test_plain_data_is_what_a_safe_loader_reads() -> None:
    text = 'a: [1, 0x10, 1.5, 1e3, yes, null, 2026-01-02, "é"]\nb:\n  c: |\n    x\n    y\n<<: {d: 1}\n'
    assert read_yaml(text.encode(), "x", "") == yaml.safe_load(text)


def test_no_other_module_loads_yaml() -> None:
    loads = [
        str(path.relative_to(ROOT))
        for folder in ("actors", "flows", "layerprint", "storage")
        for path in (ROOT / folder).rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in ("yaml.load", "yaml.safe_load", "yaml.parse("))
    ]
    assert loads == ["flows/spec/yaml_file.py"]
