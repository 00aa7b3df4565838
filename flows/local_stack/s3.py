"""The stack's S3 server: ``python -m flows.local_stack.s3 FOLDER BUCKET`` serves until it is asked to end (SIGTERM)."""

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
    """The variables that make an AWS client use the server of this folder, None while none is ready."""
    path = folder / ENVIRONMENT
    values: dict[str, str] | None = json.loads(path.read_text()) if path.exists() else None
    return values


def serve(folder: Path, bucket: str) -> None:
    """Run the server; ``environment.json`` stands in its folder while it is ready, readable by the owner alone."""
    ready = folder / ENVIRONMENT
    ready.unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with EmbeddedS3(folder) as server:
            server.make_bucket(bucket)
            coming = ready.with_suffix(".new")
            coming.unlink(missing_ok=True)
            with open(coming, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                json.dump(server.environment(), file)
            coming.rename(ready)
            while True:
                signal.pause()
    finally:
        ready.unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]), sys.argv[2])
    except LayerprintError as error:
        sys.exit(str(error))
