"""Base class and field types of the parts of a spec, and the explanation of wrong fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Uri = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]

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
    return "\n".join(_explain_one(item, part) for item in error.errors())


def _explain_one(item: Mapping[str, Any], part: str) -> str:
    where = ".".join(filter(None, (part, *map(_plain, item["loc"])))) or "spec"
    if item["type"] == "missing":
        return f"  {where}: missing"
    if item["type"] == "extra_forbidden":
        return f"  {where}: unknown field (found {_shown(item['input'])})"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error" and where == "spec":
        return f"  {message}"
    found = (
        "" if item["type"] == "value_error" and isinstance(item["input"], dict) else f" (found {_shown(item['input'])})"
    )
    return f"  {where}: {message}{found}"


def _plain(name: object) -> str:
    r"""A field's name without control characters: a stranger may have chosen it.

    >>> _plain("scoring"), _plain("\x1b[31m"), _plain(0)
    ('scoring', '\\x1b[31m', '0')
    """
    return repr(name)[1:-1] if isinstance(name, str) else str(name)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
