"""Another ordinary user of this machine: a user id without rights, groups and capabilities."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

USER = 54_321

_OPEN_THE_INTERPRETER = """
set -e
mount --make-rprivate /
place=$(mktemp -d)
mount --bind "$1" "$place"
mount -t tmpfs -o mode=755 none "$2"
mkdir -p "$1"
mount --move "$place" "$1"
shift 2
exec "$@"
"""
"""Where Python lies in a folder that others cannot enter: in this process's view it lies alone in an open one."""


def run_as_second_user(code: str, *arguments: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
    """Run Python code as that user.

    Args:
        code: Printed text and errors come back.
        arguments: ``sys.argv[1:]``.
        timeout: Seconds.
    """
    require_second_user()
    become = [_program("setpriv"), f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
    command = [*become, sys.executable, "-c", code, *arguments]
    if closed := _closed_folder():
        command = [
            _program("unshare"),
            "-m",
            "sh",
            "-c",
            _OPEN_THE_INTERPRETER,
            "sh",
            sys.base_prefix,
            closed,
            *command,
        ]
    return subprocess.run(
        command,
        cwd="/",
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def require_second_user() -> None:
    """Skip where this process cannot become another user; with LAYERPRINT_ALL_TESTS that is a failure."""
    if os.geteuid() == 0 and shutil.which("setpriv") and (not _closed_folder() or shutil.which("unshare")):
        return
    if os.environ.get("LAYERPRINT_ALL_TESTS"):
        pytest.fail("the tests of another user need root, setpriv and unshare")
    pytest.skip("only root can become another user")


def _program(name: str) -> str:
    path = shutil.which(name)
    assert path is not None, name
    return path


def _closed_folder() -> str | None:
    """The first folder on the way to the interpreter that others cannot enter."""
    prefix = Path(sys.base_prefix).resolve()
    for folder in (*reversed(prefix.parents), prefix):
        if not folder.stat().st_mode & 0o001:
            return str(folder)
    return None
