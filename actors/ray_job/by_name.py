"""Secrets by name: ``env:NAME`` and ``file:PATH`` say where a value is, and are read where it is needed.

So a spec, Prefect's database and a store hold the name alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.errors import InputError

PREFIXES = ("env:", "file:")


def read(where: str, field: str) -> str:
    """The value that ``env:NAME`` or ``file:PATH`` names, without white space around it.

    Args:
        where: The name.
        field: The field of the spec, for messages.

    Raises:
        InputError: It is not set, or cannot be read.
    """
    kind, _, name = where.partition(":")
    try:
        value = os.environ[name] if kind == "env" else Path(name).expanduser().read_text(encoding="utf-8")
    except KeyError:
        raise InputError(f"{field}: the variable {name} is not set", "set it where this command runs") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{field}: {name} cannot be read ({type(error).__name__})", "correct the path") from None
    return value.strip()


def with_values(runtime_env: Mapping[str, Any]) -> dict[str, Any]:
    """A Ray runtime environment whose named variables have their values.

    Raises:
        InputError: One cannot be read.
    """
    variables = dict(runtime_env.get("env_vars") or {})
    for name, value in variables.items():
        if isinstance(value, str) and value.startswith(PREFIXES):
            variables[name] = read(value, f"cluster.runtime_env.env_vars.{name}")
    return {**runtime_env, "env_vars": variables} if variables else dict(runtime_env)
