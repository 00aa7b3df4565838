"""The S3 server of the stack: ``python -m flows.local_stack.s3 FOLDER BUCKET`` serves until SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from storage.errors import LayerprintError
from storage.objects.embedded_s3 import EmbeddedS3

ENVIRONMENT = "environment.json"


def environment_of(folder: Path) -> dict[str, str] | None:
    """The variables that make an AWS client use the server of this folder; None while it is not ready."""
    path = folder / ENVIRONMENT
    values: dict[str, str] | None = json.loads(path.read_text()) if path.exists() else None
    return values


def serve(folder: Path, bucket: str) -> None:
    """Run the server. While it is ready, its folder holds ``environment.json``, readable by the owner only."""
    ready = folder / ENVIRONMENT
    ready.unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with EmbeddedS3(folder) as server:
            server.make_bucket(bucket)
            partial = ready.with_suffix(".new")
            partial.unlink(missing_ok=True)
            with open(partial, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                json.dump(server.environment(), file)
            partial.rename(ready)
            while True:
                signal.pause()
    finally:
        ready.unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]), sys.argv[2])
    except LayerprintError as error:
        sys.exit(str(error))
