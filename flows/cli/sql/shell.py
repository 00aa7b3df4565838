"""The interactive shell of `layerprint sql`, which also runs statements from a file."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from flows.cli.console import print_error
from flows.cli.sql.output import RowFormat, write_rows
from flows.text import terminal_text
from storage.errors import InputError, LayerprintError
from storage.results.statements import split_statements

if TYPE_CHECKING:
    from storage.results.sql import SqlSession
    from storage.results.sql_process import SqlProcess

HELP = """\
End a statement with ; (it may span several lines). Tab completes, ↑ recalls, Ctrl-C stops a running statement.
  .tables         list the tables
  .schema TABLE   list the columns of a table
  .help           show this help
  .quit           leave the shell (or Ctrl-D)
Example queries: docs/sql.md
"""


class SqlShell:
    """Runs statements and dot commands one after the other; an error is shown and does not end the shell.

    Args:
        session: The store.
        form: The format of the rows.
    """

    def __init__(self, session: SqlSession | SqlProcess, form: RowFormat) -> None:
        self._session = session
        self._form = form
        self._views = session.columns()
        self.failed = False

    def script(self, text: str) -> None:
        """Run the statements of a text; the last one needs no ``;``."""
        for piece in _pieces(text):
            self.run(piece)

    def interact(self, history: History | None = None) -> None:
        """Read statements from the terminal until the user leaves."""
        sys.stdout.write("SQL shell over the audit results. Type .help for help, .quit to leave.\n")
        prompt: PromptSession[str] = PromptSession(
            history=history or _history(),
            completer=SqlCompleter(self._views, self._session.keywords()),
            complete_while_typing=False,
            auto_suggest=AutoSuggestFromHistory(),
            multiline=Condition(lambda: is_unfinished(prompt.default_buffer.text)),
            prompt_continuation="     ...> ",
        )
        while True:
            try:
                text = prompt.prompt("layerprint> ")
            except KeyboardInterrupt:  # drops the input
                continue
            except EOFError:
                return
            if text.strip() == ".quit":
                return
            try:
                self.script(text)
            except KeyboardInterrupt:
                sys.stdout.write("stopped\n")

    def run(self, piece: str) -> None:
        """Run one statement, or one command that starts with a dot."""
        try:
            if piece.startswith("."):
                self._command(piece)
            else:
                write_rows(self._session.run(piece), self._form)
        except LayerprintError as error:
            self.failed = True
            sys.stdout.flush()
            print_error(error, as_json=False)

    def _command(self, line: str) -> None:
        name, _, argument = line.partition(" ")
        match name, argument.strip():
            case ".help", "":
                sys.stdout.write(HELP)
            case ".tables", "":
                sys.stdout.write("".join(f"{view}\n" for view in self._views))
            case ".schema", view if view in self._views:
                width = max(len(column) for column, _ in self._views[view])
                sys.stdout.write("".join(f"{column:{width}}  {kind}\n" for column, kind in self._views[view]))
            case ".schema", view:
                problem = f"no table {terminal_text(view)!r}" if view else "no table is given"
                raise InputError(f".schema: {problem}", f"use one of {', '.join(self._views)}")
            case _:
                raise InputError(f"unknown command {line!r}", "use .tables, .schema TABLE, .help or .quit")


_WORD = re.compile(r"\w+")


class SqlCompleter(Completer):
    """Completes tables, columns and keywords; after ``.schema``, FROM and JOIN tables only.

    Args:
        views: The columns of every view, by its name.
        keywords: The keywords of SQL.
    """

    def __init__(self, views: dict[str, list[tuple[str, str]]], keywords: list[str]) -> None:
        self._views = list(views)
        columns = dict.fromkeys(name for columns in views.values() for name, _ in columns)
        names = [*self._views, *columns]
        self._words = [*names, *(word for word in keywords if word.lower() not in names)]

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """The completions of the word before the cursor."""
        word = document.get_word_before_cursor(pattern=_WORD)
        before = document.text_before_cursor[: document.cursor_position - len(word)].split()
        candidates = self._views if before and before[-1].upper() in (".SCHEMA", "FROM", "JOIN") else self._words
        if not word and candidates is self._words:
            return
        for candidate in candidates:
            if candidate.upper().startswith(word.upper()):
                yield Completion(candidate, start_position=-len(word))


def is_unfinished(text: str) -> bool:
    """Whether Enter starts a new line instead of ending the input.

    >>> is_unfinished("SELECT 1"), is_unfinished("SELECT 1;"), is_unfinished(".tables"), is_unfinished("")
    (True, False, False, False)
    """
    return not text.lstrip().startswith(".") and bool(split_statements(text).rest)


def _pieces(text: str) -> Iterator[str]:
    """Split a text into statements and dot commands."""
    pending = ""
    for line in text.splitlines():
        if not split_statements(pending).rest and line.strip().startswith("."):
            yield line.strip()
            continue
        complete, pending = split_statements(f"{pending}\n{line}")
        yield from complete
    if pending:
        yield pending


def _history() -> History:
    """The user's history file; in memory if it cannot be written."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / "layerprint" / "sql_history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)
