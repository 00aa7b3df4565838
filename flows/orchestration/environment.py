"""The environments of the services that we start: each gets what it needs, and no credential of anything else."""

from __future__ import annotations

import os

_SYSTEM = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "DO_NOT_TRACK")
_PYTHON = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
_NETWORK = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NO_PROXY")
_NAMES = frozenset((*_SYSTEM, *_PYTHON, *_NETWORK))
_PREFIXES = ("LC_", "XDG_", "OMP_", "MKL_", "OPENBLAS_", "COVERAGE_")


def lean_environment(*prefixes: str) -> dict[str, str]:
    """This process's environment without what a service does not need, such as the user's credentials.

    Args:
        prefixes: Beginnings of names that are kept too.
    """
    kept = {name: value for name, value in os.environ.items() if name.upper() in _NAMES or name.startswith(_PREFIXES)}
    kept |= {name: value for name, value in os.environ.items() if prefixes and name.startswith(prefixes)}
    if paths := kept.get("PYTHONPATH"):  # the service has a working folder of its own
        kept["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in paths.split(os.pathsep) if path)
    return kept
