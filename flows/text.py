"""Make untrusted text safe to print, to cut, and to use as a file name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing it would load Ray for --help
    pass
import html
import re


def printable(text: str) -> str:
    r"""Without control characters, which a stranger's name could use to drive the terminal.

    >>> printable("a\x1b[2Jb")
    'a�[2Jb'
    """
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def cut(text: object, limit: int = 40) -> str:
    r"""A stranger's text on one line, without control characters, cut in the middle.

    >>> cut("a" * 50, 9), cut("x\u202ey\n")
    ('aaaa…aaaa', 'x�y�')
    """
    line = printable(str(text)).replace("\n", "�")
    if len(line) <= limit:
        return line
    tail = (limit - 1) // 2
    return f"{line[: limit - 1 - tail]}…{line[-tail:]}"


def file_name(label: str) -> str:
    """A stranger's name as part of a file's name.

    >>> file_name("../my model@1")
    'my-model-1'
    """
    return re.sub(r"[^A-Za-z0-9_]+", "-", label).strip("-")[:40]


def slug(kind: str, name: str) -> str:
    """The key of an artifact: lower-case letters, digits and dashes.

    >>> slug("scores", "My Model@1.0#2")
    'scores-my-model-1-0-2'
    """
    return re.sub(r"[^a-z0-9]+", "-", f"{kind}-{name}".lower()).strip("-")[:200]


def plain(text: str) -> str:
    r"""A stranger's text within Markdown: no HTML, no markup, no links.

    >>> plain("<b>[x](y)*")
    '&lt;b&gt;\\[x\\](y)\\*'
    """
    return re.sub(r"([\\`*_\[\]#|~!])", r"\\\1", html.escape(text, quote=False))


_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$&]|^[-+#]|:(?=//)|\.(?<=www\.))")
"""What Markdown, HTML or a math renderer would read, and what makes a bare address a link."""


def escaped(text: str, limit: int) -> str:
    r"""A stranger's text in Markdown: on one line, with nothing that Markdown or HTML would read.

    >>> print(escaped("- [x](https://y) <b>", 40))
    \- \[x\](https\://y) \<b\>
    """
    return _SPECIAL.sub(r"\\\1", cut(text, limit))


def shown(uri: str) -> str:
    """A URI without user, password and query.

    >>> shown("http://user:secret@host:8333/api?key=secret"), shown("./audits")
    ('http://host:8333/api', './audits')
    """
    bare = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/]*@", r"\1", uri)
    return bare.partition("?")[0] if re.match(r"https?://", bare, re.IGNORECASE) else bare
