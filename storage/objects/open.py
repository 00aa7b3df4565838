"""Where bytes live: a local folder or an S3 prefix, opened by URI, for us and for Lance and Arrow."""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from pyarrow import fs as arrow_fs

from storage.errors import InputError, StoreError
from storage.objects.base import (
    BrokenObjectError,
    ObjectChangedError,
    ObjectInfo,
    ObjectMissingError,
    ObjectStore,
    checked_key,
)
from storage.objects.local import LocalStore
from storage.objects.s3 import S3Store
from storage.objects.s3_client import CONNECT_TIMEOUT_S, READ_TIMEOUT_S, connection, s3_errors

LANCE_RETRIES = 7
"""Retries of one request, with pauses that double from 0.1 s; Lance's default of 3 ends within a second."""

__all__ = [
    "BrokenObjectError",
    "LocalStore",
    "ObjectChangedError",
    "ObjectInfo",
    "ObjectMissingError",
    "ObjectStore",
    "S3Store",
    "arrow_filesystem",
    "lance_storage_options",
    "open_parent",
    "open_store",
]


def open_store(uri: str) -> ObjectStore:
    """The store at a path, a ``file://`` or an ``s3://bucket/prefix`` URI.

    Raises:
        InputError: Another scheme, no bucket, or credentials within the URI.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    if scheme is None:
        if not uri or "\0" in uri:
            raise InputError(f"{uri!r} is not a place", "give a folder or s3://bucket/prefix")
        return LocalStore(uri)
    rest = uri[scheme.end() :]
    match scheme[1].lower():
        case "file" if rest.startswith(("/", "localhost/")):
            return LocalStore(unquote(rest.removeprefix("localhost")))
        case "s3":
            return _s3_store(rest)
        case _:
            raise InputError(
                f"{_redacted(uri)}: this place cannot be opened",
                "give a folder, file:///path or s3://bucket/prefix",
            )


def open_parent(uri: str) -> tuple[ObjectStore, str]:
    """The store that holds the object of this URI, and its key there."""
    folder, slash, name = uri.rpartition("/")
    return open_store(folder or slash or "."), name


def _s3_store(rest: str) -> S3Store:
    bucket, _, prefix = rest.partition("/")
    if "@" in bucket:
        raise InputError(
            "an s3:// URI with credentials in it",
            "write s3://bucket/prefix; credentials belong in the environment",
        )
    if not bucket:
        raise InputError(f"s3://{rest} names no bucket", "write s3://bucket/prefix")
    if prefix.strip("/"):
        checked_key(prefix.strip("/"))
    return S3Store(bucket, prefix)


def _redacted(uri: str) -> str:
    """The URI without user and password.

    >>> _redacted("gs://key:secret@bucket/x")
    'gs://bucket/x'
    """
    scheme, _, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def lance_storage_options(uri: str) -> dict[str, str] | None:
    """The storage options with which LanceDB reaches a store; None for a local one.

    They contain credentials: pass them to LanceDB only, never to a log or a table.

    Raises:
        StoreError: No credentials are found.
    """
    store = open_store(uri)
    if not isinstance(store, S3Store):
        return None
    access = _s3_access(store.bucket)
    options = {
        "aws_access_key_id": access.access_key,
        "aws_secret_access_key": access.secret_key,
        "aws_region": access.region,
        "client_max_retries": str(LANCE_RETRIES),
    }
    if access.token:
        options["aws_session_token"] = access.token
    if access.endpoint:
        options["aws_endpoint"] = access.endpoint
        options["allow_http"] = str(access.endpoint.startswith("http://")).lower()
    return options


def arrow_filesystem(uri: str) -> tuple[Any, str]:
    """A ``pyarrow.fs.FileSystem`` and the store's root as a path on it.

    Raises:
        StoreError: No credentials are found.
    """
    store = open_store(uri)
    if not isinstance(store, S3Store):
        return arrow_fs.LocalFileSystem(), store.uri
    access = _s3_access(store.bucket)
    endpoint = urlsplit(access.endpoint) if access.endpoint else None
    filesystem = arrow_fs.S3FileSystem(
        access_key=access.access_key,
        secret_key=access.secret_key,
        session_token=access.token,
        region=access.region,
        scheme=endpoint.scheme if endpoint else "https",
        endpoint_override=endpoint.netloc if endpoint else None,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=READ_TIMEOUT_S,
    )
    return filesystem, f"{store.bucket}/{store.prefix}".rstrip("/")


class _S3Access(NamedTuple):
    access_key: str
    secret_key: str
    token: str | None
    region: str
    endpoint: str | None


def _s3_access(bucket: str) -> _S3Access:
    client, session, endpoint = connection()
    with s3_errors(f"s3://{bucket}"):
        credentials = session.get_credentials()
        frozen = credentials.get_frozen_credentials() if credentials else None
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            raise StoreError(
                f"s3://{bucket}: no AWS credentials found",
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            )
        region = session.region_name or "us-east-1"
        if endpoint is None:  # boto3 follows redirects to the bucket's region, the others do not
            region = client.head_bucket(Bucket=bucket).get("BucketRegion", region)
    return _S3Access(frozen.access_key, frozen.secret_key, frozen.token, region, endpoint)
