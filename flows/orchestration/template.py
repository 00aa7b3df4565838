"""An empty database of Prefect, kept so that the next private server starts without all migrations.

A copy is used only if it is whole, the user's own and of this Prefect; without one the server makes its tables itself.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path

_DIGEST_BYTES = 32
DATABASE = "prefect.db"


def place() -> Path:
    """The file, in the user's cache folder; it begins with the SHA-256 of the database that follows."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return cache / "layerprint" / f"prefect-{version('prefect')}.db"


def fill(home: Path) -> bool:
    """Put the empty database into the home of a server; False where there is none that can be trusted."""
    try:
        status = place().lstat()
        content = place().read_bytes()
    except OSError:
        return False
    digest, database = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if status.st_uid != os.geteuid() or status.st_mode & 0o022 or hashlib.sha256(database).digest() != digest:
        return False
    (home / DATABASE).write_bytes(database)
    return True


def keep(home: Path) -> None:
    """Keep the database of a server that was just started, for the next one; without a place for it, do not."""
    with suppress(OSError, sqlite3.Error), tempfile.TemporaryDirectory(dir=home) as folder:
        copy = Path(folder) / DATABASE
        with closing(sqlite3.connect(home / DATABASE)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        database = copy.read_bytes()
        place().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(dir=place().parent)  # of mode 0600
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(database).digest() + database)
        os.replace(name, place())
