"""Groups that the keys of images name."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest

from storage.errors import InputError
from storage.image_sets.key_groups import check_pattern, key_groups

KEYS = pa.array(["r/prompt_12_seed_1.png", "r/prompt_3_seed_1.png", "r/prompt_12_seed_2.png", "odd.png", "odd\n.png"])


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"prompt_(\d+)_", [0, 1, 0, 3, 4]),
        (r"seed_(\d)", [0, 0, 2, 3, 4]),
        (r"(?i)PROMPT_(\d+)|never", [0, 1, 0, 3, 4]),
        (r"(?P<name>.)prompt", [0, 0, 0, 3, 4]),
        (r"^(?:r/)?([a-z]+)", [0, 0, 0, 3, 3]),
        (r"odd(x*)|prompt", None),  # matches, but names nothing
    ],
)
def test_images_of_one_name_are_a_group(pattern: str, groups: list[int] | None) -> None:
    if groups is None:
        with pytest.raises(InputError, match="no key matches"):
            key_groups(KEYS, pattern, "groups of r@1")
    else:
        assert key_groups(pa.chunked_array([KEYS]), pattern, "groups of r@1").tolist() == groups


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("prompt", "no group in parentheses"),
        (r"(a)(b)", "several groups"),
        ("(a", "not a regular expression"),
        ("a)|(?:(b", "not a regular expression"),
        (r"(a)\Q", "not a regular expression"),
        (r"(?=a)(b)", "not a regular expression"),
        (r"((x{1000}){1000})", "not a regular expression"),
    ],
)
def test_other_expressions_are_refused(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_pattern(pattern)
    with pytest.raises(InputError, match=f"groups of r@1: .*{why}"):
        key_groups(KEYS, pattern, "groups of r@1")


def test_an_expression_that_backtracks_takes_no_time() -> None:
    """A stranger's expression on a stranger's keys: `re` would not end."""
    began = time.monotonic()
    with pytest.raises(InputError, match="no key matches"):
        key_groups(pa.array(["a" * 5000] * 50), r"^((?:a+)+)!$", "groups")
    with pytest.raises(InputError, match="no key matches"):
        key_groups(pa.array(["a" * 5000] * 50), r"^((?:a|a)*?(?:a+)+)!$", "groups")
    assert time.monotonic() - began < 5
