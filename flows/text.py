"""Untrusted text (names, keys, messages), made safe for the medium that a function is named after."""

from __future__ import annotations

import re

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~$&]|^[-+#]|:(?=//)|\.(?<=www\.))", re.MULTILINE)
"""What Markdown, HTML or a math renderer would interpret, and what makes a bare address a link."""


_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that Python calls printable and that show nothing: fillers, joiners, variation selectors."""


def terminal_text(text: str) -> str:
    r"""Text for a terminal, which control characters in it could drive or make deceptive; line breaks stay.

    What is not printable becomes �: control characters of both sets (U+0000 to U+001F, U+007F to U+009F), characters
    that change the direction of text or take no space, line and paragraph separators, surrogates, unassigned ones.

    >>> terminal_text("a\x1b[2Jb\x9b1m"), terminal_text("x\u202egnp.exe"), terminal_text("a\u200b\ufe0fb")
    ('a�[2Jb�1m', 'x�gnp.exe', 'a��b')
    """
    text = _INVISIBLE.sub("�", text)
    return text if text.isprintable() else "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def one_line(text: object, limit: int = 40) -> str:
    r"""Text for one line of a terminal or chart, shortened in the middle.

    >>> one_line("a" * 50, 9), one_line("x\u202ey\n")
    ('aaaa…aaaa', 'x�y�')
    """
    line = terminal_text(str(text)).replace("\n", "�")
    if len(line) <= limit:
        return line
    tail = (limit - 1) // 2
    return f"{line[: limit - 1 - tail]}…{line[-tail:]}"


def markdown(text: str, limit: int | None = None) -> str:
    r"""Text within Markdown: no markup, no HTML, no links.

    Args:
        text: The text.
        limit: Put it on one line, shortened to so many characters before it is escaped; None keeps its lines.

    >>> print(markdown("- [x](https://y) <b>", 40))
    \- \[x\](https\://y) \<b\>
    """
    return _MARKDOWN.sub(r"\\\1", terminal_text(text) if limit is None else one_line(text, limit))


def file_name(label: str) -> str:
    """A part of a file name.

    >>> file_name("../my model@1")
    'my-model-1'
    """
    return re.sub(r"[^A-Za-z0-9_]+", "-", label).strip("-")[:40]


def artifact_key(kind: str, name: str) -> str:
    """The key of a Prefect artifact: lower-case letters, digits and dashes.

    >>> artifact_key("scores", "My Model@1.0#2")
    'scores-my-model-1-0-2'
    """
    return re.sub(r"[^a-z0-9]+", "-", f"{kind}-{name}".lower()).strip("-")[:200]


def bare_uri(uri: str) -> str:
    """A URI for a message: without user, password and query.

    >>> bare_uri("http://user:secret@host:8333/api?key=secret"), bare_uri("./audits")
    ('http://host:8333/api', './audits')
    """
    bare = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/]*@", r"\1", uri)
    return bare.partition("?")[0] if re.match(r"https?://", bare, re.IGNORECASE) else bare
