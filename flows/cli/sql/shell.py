"""The interactive shell of `layerprint sql`, and the same for statements from a file."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from flows.cli.console import print_error
from flows.cli.sql.output import Format, write_rows
from flows.text import terminal_text
from storage.errors import InputError, LayerprintError
from storage.results.sql import SqlSession
from storage.results.statements import split_statements

HELP = """\
A statement ends with ; and may have several lines. Ctrl-C stops one that runs, Tab completes, ↑ recalls.
  .tables         the views
  .schema TABLE   the columns of a view
  .help           this
  .quit           leave (or Ctrl-D)
Questions to start from: docs/sql.md
"""


class SqlShell:
    """Runs statements and commands one after the other; an error is shown and does not end it.

    Args:
        session: The store.
        form: How rows are written to stdout.
    """

    def __init__(self, session: SqlSession, form: Format) -> None:
        self._session = session
        self._form = form
        self._views = session.columns()
        self.failed = False

    def script(self, text: str) -> None:
        """Run the statements of a text; the last needs no ``;``."""
        for piece in _pieces(text):
            self.run(piece)

    def interact(self, history: History | None = None) -> None:
        """Ask for statements until the user leaves."""
        sys.stdout.write("SQL over the results; .help explains, .quit leaves.\n")
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
            except KeyboardInterrupt:  # what was typed is dropped
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
        """One statement, or one command that begins with a dot."""
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
                found = f"no view {terminal_text(view)!r}" if view else "which view?"
                raise InputError(f".schema: {found}", f"the views are {', '.join(self._views)}")
            case _:
                raise InputError(f"no command {line!r}", "the commands are .tables, .schema TABLE, .help and .quit")


_WORD = re.compile(r"\w+")


class SqlCompleter(Completer):
    """Completes views, columns and keywords; after ``.schema``, FROM and JOIN only views.

    Args:
        views: The columns of every view.
        keywords: The words of SQL.
    """

    def __init__(self, views: dict[str, list[tuple[str, str]]], keywords: list[str]) -> None:
        self._views = list(views)
        columns = dict.fromkeys(name for columns in views.values() for name, _ in columns)
        names = [*self._views, *columns]
        self._words = [*names, *(word for word in keywords if word.lower() not in names)]

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What the word before the cursor may become."""
        word = document.get_word_before_cursor(pattern=_WORD)
        before = document.text_before_cursor[: document.cursor_position - len(word)].split()
        wanted = self._views if before and before[-1].upper() in (".SCHEMA", "FROM", "JOIN") else self._words
        if not word and wanted is self._words:
            return
        for one in wanted:
            if one.upper().startswith(word.upper()):
                yield Completion(one, start_position=-len(word))


def is_unfinished(text: str) -> bool:
    """Whether Enter begins a new line rather than ending the input.

    >>> is_unfinished("SELECT 1"), is_unfinished("SELECT 1;"), is_unfinished(".tables"), is_unfinished("")
    (True, False, False, False)
    """
    return not text.lstrip().startswith(".") and bool(split_statements(text).rest)


def _pieces(text: str) -> Iterator[str]:
    """Statements, and lines that begin with a dot where a statement could begin."""
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
    """A file of the user's own; none where it cannot be written."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / "layerprint" / "sql_history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(path)
