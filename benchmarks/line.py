"""The line that a benchmark prints: name, ratio, both figures, machine."""

from __future__ import annotations

import os
import platform


def line(name: str, ratio: str, ours: str, theirs: str, note: str = "") -> str:
    """One result beside what it is compared with.

    Args:
        name: What was measured, with its sizes.
        ratio: The result, relative.
        ours: Our absolute figure, with its unit.
        theirs: The other one.
        note: Anything that a reader must know to believe it.

    >>> line("search", "11 ×", "5,500/s", "500/s").partition(" [")[0]
    'search: 11 × (5,500/s against 500/s)'
    """
    return f"{name}: {ratio} ({ours} against {theirs}{'; ' if note else ''}{note}) [{machine()}]"


def machine() -> str:
    """Architecture, cores and load: figures of a busy machine are not worth much."""
    return f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
