"""Quiet libraries: users see our lines, nothing is sent to anyone."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_log = logging.getLogger(__name__)


def quiet_libraries(verbose: bool = False) -> None:
    """Switch off telemetry and, unless `verbose`, the libraries' logs. Call it before Prefect and Ray are imported."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    for library in ("lance is not fork-safe", "lancedb fork support"):
        warnings.filterwarnings("ignore", message=library)  # a fork that becomes Ray at once is harmless
    warnings.filterwarnings("ignore", message="Failed to create the Prefect home")  # a command's server has its own
    if not verbose:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
        os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "false")
        os.environ.setdefault("PREFECT_INTERNAL_LOGGING_LEVEL", "CRITICAL")
        logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
        os.environ.setdefault("RUST_LOG", "error")


@contextmanager
def prefect_home() -> Iterator[None]:
    """Within this block Prefect has a folder that it can write: a temporary one where the user's cannot be written.

    Enter it before Prefect is imported.
    """
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        _log.warning("%s cannot be written (%s): Prefect's files go to a temporary folder", existing, error.strerror)
    else:
        yield
        return
    before = os.environ.get("PREFECT_HOME")
    with tempfile.TemporaryDirectory(prefix="layerprint-prefect-", ignore_cleanup_errors=True) as folder:
        os.environ["PREFECT_HOME"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["PREFECT_HOME"]
            else:
                os.environ["PREFECT_HOME"] = before
