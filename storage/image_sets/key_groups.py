"""Groups of images that their keys name, by a regular expression: all images of one prompt, seed or identity.

The expression may come from a stranger (``release.yaml``), and keys always do. RE2, which Arrow uses, matches in time
linear in the length of a key, whatever the expression is, and refuses expressions that need much memory.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from storage.errors import InputError

_REMEDY = r"give an RE2 expression with one group in parentheses, such as 'prompt_(\d+)_'"


def check_pattern(pattern: str) -> None:
    r"""Refuse what is not a regular expression with exactly one group.

    Raises:
        ValueError: It says what is wrong.

    >>> check_pattern(r"prompt_(\d+)_")
    >>> check_pattern("prompt")
    Traceback (most recent call last):
    ValueError: it has no group in parentheses, whose text would name the group of an image
    """
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
        _group(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        if "Rewrite schema" in str(error):
            raise ValueError("it has no group in parentheses, whose text would name the group of an image") from None
        why = str(error).split(": ")[1]  # what follows is the expression itself
        raise ValueError(f"it is not a regular expression of RE2: {why}") from None
    try:
        pc.replace_substring_regex(pa.array([""]), pattern=pattern, replacement=r"\2")
    except pa.ArrowInvalid:
        return
    raise ValueError("it has several groups in parentheses: write all but one as (?:…)")


def key_groups(keys: pa.ChunkedArray | pa.Array, pattern: str, what: str) -> NDArray[np.int64]:
    r"""Number the groups that keys name.

    Args:
        keys: The keys (m,) of images.
        pattern: A regular expression with one group, whose first match within a key names the image's group.
        what: What the groups are of, for errors.

    Returns:
        (m,) int64, the place of the first image of each one's group. An image whose key does not match, or matches with
        an empty name, is alone.

    Raises:
        InputError: The expression is not valid, or matches no key.

    >>> key_groups(pa.array(["a_1_x", "a_2_x", "a_1_y", "b"]), r"a_(\d)", "groups").tolist()
    [0, 1, 0, 3]
    """
    try:
        check_pattern(pattern)
    except ValueError as error:
        raise InputError(f"{what}: {error}", _REMEDY) from None
    matches = pc.match_substring_regex(keys, pattern)
    names = pc.if_else(matches, _group(keys, pattern), "")
    named = np.array(pc.not_equal(names, "").to_pylist(), np.bool_)
    if not named.any():
        raise InputError(f"{what}: no key matches {pattern!r}", _REMEDY)
    _, first, inverse = np.unique(np.array(names.to_pylist(), object), return_index=True, return_inverse=True)
    return np.where(named, first[inverse], np.arange(len(named)))


def _group(keys: pa.ChunkedArray | pa.Array, pattern: str) -> pa.ChunkedArray | pa.Array:
    """The text of the group where a key matches, the key elsewhere."""
    return pc.replace_substring_regex(keys, pattern=f"(?s)^.*?(?:{pattern}).*$", replacement=r"\1")
