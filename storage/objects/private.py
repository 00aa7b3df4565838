"""Who may read what layerprint creates: its owner alone, unless the user asks to share it.

A command sets its umask, which its workers and servers inherit. In a Python session the umask is the user's, and left
alone: a new store's folder is then closed to others, whatever the files in it say.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

SHARED = "LAYERPRINT_SHARED"
"""Environment variable: ``1`` leaves everything to the umask."""

_OTHERS = 0o077


def shared() -> bool:
    """Whether the user wants to share what is created."""
    return os.environ.get(SHARED, "").lower() in ("1", "true", "yes", "on")


def store_folder_mode() -> int:
    """The mode of a new store's folder, before the umask."""
    return 0o777 if shared() else 0o700


@contextmanager
def private_files() -> Iterator[None]:
    """Within this block new files and folders of this process and those it starts are private, unless `shared`."""
    before = os.umask(_OTHERS)
    os.umask(before if shared() else before | _OTHERS)
    try:
        yield
    finally:
        os.umask(before)
