"""What the command line prints: JSON documents on stdout, errors on stderr, untrusted text made safe."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterable
from textwrap import TextWrapper
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment

from flows.text import terminal_text
from storage.errors import LayerprintError


class CleanConsole(Console):
    """A console that writes no character that could drive a terminal, whoever forgot to clean it before."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The pieces of what is printed; only the console's own control codes stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(terminal_text(segment.text), segment.style)


def output(**settings: Any) -> Console:
    """The console for results, on stdout; with the settings of rich's."""
    return CleanConsole(highlight=False, emoji=False, **settings)


def messages(quiet: bool = False) -> Console:
    """The console for messages, on stderr."""
    return output(stderr=True, quiet=quiet)


class CleanRecord(logging.LogRecord):
    """A line of a log, made safe for a terminal."""

    def __init__(self, *args: Any, **fields: Any) -> None:
        super().__init__(*args, **fields)
        if self.exc_info and self.exc_info[0]:
            self.exc_text = terminal_text("".join(traceback.format_exception(*self.exc_info)).rstrip())

    def getMessage(self) -> str:  # noqa: N802 (logging's name)
        return terminal_text(super().getMessage())


def clean_logs() -> None:
    """Make every line safe that this process logs from now on."""
    logging.setLogRecordFactory(CleanRecord)


def print_text(text: str) -> None:
    """Print untrusted lines on stderr."""
    sys.stderr.write(terminal_text(text))


def safe(text: str) -> str:
    """Untrusted text for the terminal: no control characters, no markup."""
    return escape(terminal_text(text))


def print_json(document: Any) -> None:
    """Print one JSON document on stdout; times as ISO text."""
    sys.stdout.write(encodable(json_text(document), sys.stdout.encoding or "utf-8"))


def json_text(document: Any) -> str:
    r"""A JSON document. Characters that could control a terminal are escaped, which changes no value.

    >>> json_text("a\u202eb\x9b")
    '"a\\u202eb\\u009b"\n'
    """
    text = json.dumps(document, default=str, ensure_ascii=False, indent=2)
    if terminal_text(text) != text:
        text = "".join(c if terminal_text(c) == c else json.dumps(c)[1:-1] for c in text)
    return text + "\n"


def encodable(text: str, encoding: str) -> str:
    r"""A JSON document whose characters an encoding has; the others are escaped, which changes no value.

    >>> encodable('"Â"', "ascii"), encodable('"Â"', "utf-8")
    ('"\\u00c2"', '"Â"')
    """
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(c if c.isascii() else json.dumps(c)[1:-1] for c in text)
    return text


def print_error(error: LayerprintError, as_json: bool) -> None:
    """Print what was found and the remedy, without a traceback."""
    if as_json:
        print_json({"error": error.found, "remedy": error.remedy, "exit_code": error.exit_code})
        return
    explain(messages(), "Error:", error.found, error.remedy)


def explain(out: Console, what: str, found: str, remedy: str) -> None:
    """Print what is wrong and the remedy."""
    print_marked(out, what, "bold red", found)
    print_marked(out, "→", "bold", remedy)


def print_marked(out: Console, mark: str, style: str, text: str, indent: int = 2) -> None:
    """Print a coloured mark and untrusted text. On a terminal lines break between words: a URI stays whole."""
    lines = wrapped(f"{mark} {terminal_text(text)}", out.width if out.is_terminal else 0, indent).removeprefix(mark)
    out.print(f"[{style}]{mark}[/]{escape(lines)}", soft_wrap=True)


def wrapped(text: str, width: int, indent: int = 2) -> str:
    r"""Lines of at most `width` characters, broken between words only; a width of 0 breaks nothing.

    >>> wrapped("error s3://bucket/prefix: cannot be read", 20)
    'error\n  s3://bucket/prefix:\n  cannot be read'
    """
    lines = text.splitlines()
    if width:
        wrapper = TextWrapper(width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
        lines = [wrapper.fill(line) for line in lines]
    return "\n".join(lines)
