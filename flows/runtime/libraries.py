"""Quiet libraries: users see our lines, nothing is sent to anyone."""

from __future__ import annotations

import logging
import os
import warnings


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
