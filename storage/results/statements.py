"""Splits text into statements with the lexer of DuckDB."""

from __future__ import annotations

from typing import NamedTuple

import duckdb


class Statements(NamedTuple):
    """The statements of a text.

    Attributes:
        complete: Those that end with ``;``, without it.
        rest: The text after the last of them, or "" if it is blank or a comment.
    """

    complete: list[str]
    rest: str


def split_statements(text: str) -> Statements:
    """Split a text after every ``;`` outside strings, names and comments; empty statements are left out.

    >>> split_statements("SELECT ';'; -- not; here")
    Statements(complete=["SELECT ';'"], rest='')
    >>> split_statements("FROM a; FROM b")
    Statements(complete=['FROM a'], rest='FROM b')
    """
    data = text.encode()
    complete: list[str] = []
    start, filled = 0, False
    for offset, kind in duckdb.tokenize(text):
        if data[offset : offset + 1] == b";":
            if filled:
                complete.append(data[start:offset].decode().strip())
            start, filled = offset + 1, False
        elif kind != duckdb.token_type.comment:
            filled = True
    return Statements(complete, data[start:].decode().strip() if filled else "")
