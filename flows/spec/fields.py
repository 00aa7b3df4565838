"""Base class and field types of the parts of a spec, and the explanation of wrong fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError

from flows.text import one_line
from storage.image_sets.key_groups import check_pattern

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Uri = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]


def _checked_pattern(value: str) -> str:
    check_pattern(value)
    return value


KeyPattern = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_checked_pattern)]
"""A regular expression with one group, see `storage.image_sets.key_groups`."""

MOST_EXPLAINED = 20
"""Number of wrong fields that are named."""

IMAGE_SET = "folder or s3:// prefix of images or .tar shards, file.tar, file.parquet#column, file.npz#array"


class SpecPart(BaseModel):
    """A part of a spec: frozen; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def explain(error: ValidationError, part: str = "") -> str:
    """One line per wrong field: its name, what is allowed, the value found.

    Args:
        error: The error of pydantic.
        part: The part of the spec that was checked; empty = all of it.
    """
    lines = [_explain_one(item, part) for item in error.errors()[:MOST_EXPLAINED]]
    if (more := error.error_count() - MOST_EXPLAINED) > 0:
        lines.append(f"  and {more:,} more")
    return "\n".join(lines)


def _explain_one(item: Mapping[str, Any], part: str) -> str:
    where = ".".join(filter(None, (part, *(one_line(name, 80) for name in item["loc"])))) or "spec"
    value = f" (found {one_line(repr(item['input']), 80)})"
    if item["type"] == "missing":
        return f"  {where}: missing"
    if item["type"] == "extra_forbidden":
        return f"  {where}: unknown field{value}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error" and where == "spec":
        return f"  {message}"
    whole_part = item["type"] == "value_error" and isinstance(item["input"], dict)
    return f"  {where}: {message}{'' if whole_part else value}"
