"""YAML from a stranger as plain data: of bounded size and depth, without aliases, tags or repeated keys.

Every YAML file that layerprint reads passes through `read_yaml`.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml.constructor import ConstructorError

from flows.text import one_line
from storage.errors import InputError

MAX_BYTES = 2**20
MAX_DEPTH = 50
MAX_VALUES = 100_000
MAX_DIGITS = 100

_Base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, ten times as fast


def read_yaml(data: bytes, where: str, remedy: str, limit: int = MAX_BYTES) -> Any:
    """The content of a YAML document.

    Args:
        data: The file, or its first ``limit + 1`` bytes.
        where: Names the file in errors.
        remedy: What to do about a file that cannot be used.
        limit: The largest file, in bytes.

    Raises:
        InputError: It is larger, or not a plain YAML document; it names the line.

    >>> read_yaml(b"a: [1, x]", "spec.yaml", "")
    {'a': [1, 'x']}
    """
    if len(data) > limit:
        raise InputError(f"{where}: more than {limit // 2**10} KiB", remedy)
    try:
        _check_events(data)
        return yaml.load(data, _PlainLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise InputError(f"{where}: {line}{one_line(error.problem or error.context, 200)}", remedy) from error
    except yaml.reader.ReaderError as error:
        row = data.count(b"\n", 0, error.position) + 1
        raise InputError(f"{where}: line {row}: {one_line(error.reason, 200)}", remedy) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{where}: {one_line(error, 200)}", remedy) from error


def _check_events(data: bytes) -> None:
    """Refuse what would take long to build, before anything is built."""
    depth = values = 0
    for event in yaml.parse(data, _Base):
        if anchor := getattr(event, "anchor", None):
            kind = "an alias (*" if isinstance(event, yaml.AliasEvent) else "an anchor (&"
            raise _problem(f"it has {kind}{anchor}): write the value itself", event)
        if tag := getattr(event, "tag", None):
            raise _problem(f"it has a tag ({tag})", event)
        if isinstance(event, yaml.NodeEvent):
            values += 1
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _problem(f"it is nested more than {MAX_DEPTH} deep", event)
        if values > MAX_VALUES:
            raise _problem(f"it has more than {MAX_VALUES:,} values", event)


def _problem(text: str, place: Any) -> yaml.MarkedYAMLError:
    """An error at the place of an event or a node."""
    return ConstructorError(None, None, text, place.start_mark)


class _PlainLoader(_Base):  # type: ignore[misc, valid-type]
    """Plain data; a repeated key or an endless number is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise _problem(f"{key.value!a} is given twice", key)
                seen.add((key.tag, key.value))
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        if len(node.value) > MAX_DIGITS:
            raise _problem(f"a number of {len(node.value):,} characters", node)
        whole = node.tag.endswith(":int")
        number: int | float = self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)
        return number

    def construct_time(self, node: yaml.ScalarNode) -> Any:
        try:
            return self.construct_yaml_timestamp(node)
        except (ArithmeticError, ValueError) as error:
            raise _problem(f"not a date: {error}", node) from error


_PlainLoader.add_constructor("tag:yaml.org,2002:timestamp", _PlainLoader.construct_time)
for _tag in ("int", "float"):
    _PlainLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _PlainLoader.construct_number)
