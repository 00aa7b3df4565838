"""The process's S3 client, and its errors as `StoreError` with a remedy.

Settings come from the usual AWS chain: environment, profile, ``AWS_ENDPOINT_URL``. No message contains a credential.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import boto3.session
import botocore.exceptions as aws
from botocore.config import Config

from storage.errors import StoreError, StoreUnavailableError
from storage.objects.base import ObjectChangedError, ObjectMissingError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
else:
    S3Client = object

MAX_ATTEMPTS = 5
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
POOL_CONNECTIONS = 32

_CREDENTIAL_ERRORS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.ProfileNotFound,
    aws.SSOError,
    aws.TokenRetrievalError,
)
_DENIED = "check the policy of these credentials: list, read and write on the bucket are needed"
_WRONG_SECRET = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile in AWS_PROFILE"
_BUSY = "try again later, or with fewer workers"
_EXPIRED = (
    "sign in again (aws sso login) or renew AWS_SESSION_TOKEN, and run again: what is finished is kept; for long runs "
    "let AWS_PROFILE name a profile whose credentials are renewed (sso, role, credential_process)"
)
_OTHER = "check the bucket, the region and the server behind AWS_ENDPOINT_URL"
_NETWORK = "check AWS_ENDPOINT_URL, that the server runs, and the network"
_REGION = "set AWS_DEFAULT_REGION to the region of the bucket"
_CLIENT_ERRORS = {
    "NoSuchBucket": ("no such bucket", "create the bucket, or correct its name and AWS_ENDPOINT_URL"),
    "AccessDenied": ("access denied", _DENIED),
    "AllAccessDisabled": ("access denied", _DENIED),
    "403": ("access denied", _DENIED),
    "SignatureDoesNotMatch": ("the secret key is wrong", _WRONG_SECRET),
    "InvalidAccessKeyId": ("the access key is unknown", _WRONG_SECRET),
    "ExpiredToken": ("the credentials have expired", _EXPIRED),
    "ExpiredTokenException": ("the credentials have expired", _EXPIRED),
    "InvalidToken": ("the session token is not valid", _EXPIRED),
    "RequestTimeTooSkewed": ("the clock of this machine is wrong", "set the clock and try again"),
    "PermanentRedirect": ("the bucket is in another region", _REGION),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", _REGION),
    "RequestTimeout": (f"S3 waited too long for us, {MAX_ATTEMPTS} times", _BUSY),
    "SlowDown": (f"S3 is overloaded, after {MAX_ATTEMPTS} attempts", _BUSY),
    "ServiceUnavailable": (f"S3 is unavailable, after {MAX_ATTEMPTS} attempts", _BUSY),
    **dict.fromkeys(
        (
            "TooManyRequests",
            "TooManyRequestsException",
            "429",
            "Throttling",
            "ThrottlingException",
            "RequestLimitExceeded",
        ),
        (f"S3 is overloaded, after {MAX_ATTEMPTS} attempts", _BUSY),
    ),
    "503": (f"S3 is unavailable, after {MAX_ATTEMPTS} attempts", _BUSY),
    "InternalError": (f"S3 failed inside, after {MAX_ATTEMPTS} attempts", _BUSY),
}
_PASSING = {code for code, (_, remedy) in _CLIENT_ERRORS.items() if remedy == _BUSY}
_TOO_MANY_REQUESTS = 429
_MISSING = {"NoSuchKey", "404", "NotFound"}
_SETTINGS_FILES = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}


class BodyBrokenError(aws.BotoCoreError):
    """A transfer broke off or was too slow; botocore retries requests, not transfers."""

    fmt = "the transfer broke off"


class Connection(NamedTuple):
    """A client with what other libraries need to reach the same server.

    ``endpoint`` is None on AWS itself.
    """

    client: S3Client
    session: boto3.session.Session
    endpoint: str | None


_connections: dict[tuple[object, ...], tuple[object, Connection]] = {}
_lock = threading.Lock()


def connection() -> Connection:
    """The connection of this process under the current AWS settings, shared by threads.

    It is renewed when the credentials or config file changes, since botocore reads them only once.

    Raises:
        StoreError: The AWS settings are contradictory.
    """
    settings = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    key = (os.getpid(), settings)  # a forked child must not share its parent's sockets
    files = tuple(_stamp(os.environ.get(name, usual)) for name, usual in _SETTINGS_FILES.items())
    with _lock:
        if key not in _connections or _connections[key][0] != files:
            with s3_errors("S3 settings"):
                _connections[key] = files, _connect()
        return _connections[key][1]


def _stamp(path: str) -> tuple[int, ...] | None:
    """A stamp that changes when a file is rewritten; None when there is no file."""
    try:
        stat = os.stat(os.path.expanduser(path))
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _config(**more: object) -> Config:
    return Config(
        retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=POOL_CONNECTIONS,
        **more,  # type: ignore[arg-type]
    )


def _connect() -> Connection:
    session = boto3.session.Session()
    try:
        client = session.client("s3", config=_config())
    except ValueError as error:  # botocore's answer to a malformed URL or region
        raise StoreError(
            "S3 settings: AWS_ENDPOINT_URL or AWS_DEFAULT_REGION is malformed",
            "give the endpoint as http://host:port and the region as us-east-1",
        ) from error
    plain = session.client("s3", config=_config(ignore_configured_endpoint_urls=True))
    if client.meta.endpoint_url == plain.meta.endpoint_url:
        return Connection(client, session, None)
    # Other servers seldom resolve bucket.host, and some refuse the newer checksum trailers.
    config = _config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    client = session.client("s3", config=config)
    return Connection(client, session, client.meta.endpoint_url)


def s3_client() -> S3Client:
    """The boto3 client of this process (see `connection`)."""
    return connection().client


@contextmanager
def s3_errors(where: str) -> Iterator[None]:
    """Turns errors of botocore into `StoreError`.

    Args:
        where: The object, prefix or bucket in use, for the message.
    """
    try:
        yield
    except aws.ClientError as error:
        raise _client_error(where, error) from error
    except _CREDENTIAL_ERRORS as error:
        raise StoreError(
            f"{where}: no usable AWS credentials found ({type(error).__name__})",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        ) from error
    except aws.ParamValidationError as error:
        raise StoreError(f"{where}: not a valid bucket or key", "correct the s3:// URI in the spec") from error
    except BodyBrokenError as error:
        raise StoreUnavailableError(f"{where}: its transfer broke off, {MAX_ATTEMPTS} times", _NETWORK) from error
    except aws.BotoCoreError as error:
        raise _network_error(where, error) from error


def _client_error(where: str, error: aws.ClientError) -> StoreError:
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    if code in _MISSING:
        return ObjectMissingError(f"{where}: no such object", "was it deleted or renamed since it was listed?")
    if code == "PreconditionFailed":
        return ObjectChangedError(f"{where}: written again since it was listed", "list the image set again")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code not in _CLIENT_ERRORS and status == _TOO_MANY_REQUESTS:
        code = "TooManyRequests"
    reason, remedy = _CLIENT_ERRORS.get(code, (f"S3 answered {code} to {error.operation_name}", _OTHER))
    return (StoreUnavailableError if code in _PASSING else StoreError)(f"{where}: {reason}", remedy)


def _network_error(where: str, error: aws.BotoCoreError) -> StoreError:
    shown = _without_userinfo(str(error.kwargs.get("endpoint_url") or _present_endpoint()))
    return StoreUnavailableError(f"{where}: the S3 endpoint {shown} cannot be used ({type(error).__name__})", _NETWORK)


def _present_endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "of AWS"


def _without_userinfo(url: str) -> str:
    """The address alone.

    >>> _without_userinfo("http://key:secret@127.0.0.1:9000/bucket/key?X-Amz-Signature=1")
    'http://127.0.0.1:9000'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else url
