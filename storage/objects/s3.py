"""A store of objects under a prefix of an S3 bucket."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    FlexibleChecksumError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from tenacity import (
    retry,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from storage.objects.base import ObjectInfo, ObjectStore, checked_key
from storage.objects.s3_client import MAX_ATTEMPTS, READ_TIMEOUT_S, BodyBrokenError, s3_client, s3_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef


SLOWEST_BYTES_PER_S = 4 * 2**10
"""A slower transfer is retried after `READ_TIMEOUT_S`."""

_PIECE_BYTES = 16 * 2**10
_BROKEN = (ConnectionClosedError, FlexibleChecksumError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError)


class S3Store(ObjectStore):
    """A prefix of a bucket. Folder placeholders (keys that end with ``/``) are not objects."""

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        super().__init__(f"s3://{bucket}/{self.prefix}".rstrip("/"))

    @property
    def _client(self) -> S3Client:  # not an attribute: stores are pickled
        return s3_client()

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        with s3_errors(f"{self.uri}/{prefix}"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self._root + prefix):
                for item in page.get("Contents", []):
                    if not item["Key"].endswith("/"):
                        key = item["Key"].removeprefix(self._root)
                        yield ObjectInfo(key, item["Size"], item["ETag"].strip('"'))

    def info(self, key: str) -> ObjectInfo:
        with s3_errors(self.child_uri(key)):
            answer = self._get(key)
            answer["Body"].close()
            return ObjectInfo(key, answer["ContentLength"], answer["ETag"].strip('"'))

    def modified(self, key: str) -> float:
        with s3_errors(self.child_uri(key)):
            answer = self._get(key)
            answer["Body"].close()
            return answer["LastModified"].timestamp()

    def folders(self, prefix: str = "") -> Iterator[str]:
        under = self._root + prefix
        with s3_errors(f"{self.uri}/{prefix}"):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=under, Delimiter="/"):
                for item in page.get("CommonPrefixes", []):
                    yield item["Prefix"].removeprefix(under).removesuffix("/")

    def get(self, key: str, etag: str | None = None) -> bytes:
        with s3_errors(self.child_uri(key)):
            return self._read(key, etag)

    def get_range(self, key: str, start: int, length: int, etag: str | None = None) -> bytes:
        if not length:  # HTTP has no empty range
            return b""
        with s3_errors(self.child_uri(key)):
            try:
                return self._read(key, etag, f"bytes={start}-{start + length - 1}")
            except ClientError as error:
                if _status(error) != 416:  # it starts beyond the object's end
                    raise
                return b""

    @retry(
        retry=retry_if_exception_type(BodyBrokenError),
        stop=stop_after_attempt(MAX_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.2, max=10),
        reraise=True,
    )
    def _read(self, key: str, etag: str | None = None, span: str | None = None) -> bytes:
        """The bytes of an object or of a range; a broken transfer is retried."""
        return _bytes_of(self._get(key, etag, span))

    def _get(self, key: str, etag: str | None = None, span: str | None = None) -> GetObjectOutputTypeDef:
        options = {"IfMatch": etag and f'"{etag}"', "Range": span}
        asked = {name: value for name, value in options.items() if value}
        return self._client.get_object(Bucket=self.bucket, Key=self._key(key), **asked)  # type: ignore[arg-type]

    def put(self, key: str, data: bytes) -> None:
        with s3_errors(self.child_uri(key)):
            self._client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        writer = uuid.uuid4().hex
        with s3_errors(self.child_uri(key)):
            try:
                self._put_new(key, data, writer)
            except ClientError as error:
                if _status(error) != 412:
                    raise
                # A retry after a lost response meets the object of its own first attempt.
                head = self._client.head_object(Bucket=self.bucket, Key=self._key(key))
                return head["Metadata"].get("writer") == writer
        return True

    @retry(
        retry=retry_if_exception(lambda error: isinstance(error, ClientError) and _status(error) == 409),
        stop=stop_after_attempt(8),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        reraise=True,
    )
    def _put_new(self, key: str, data: bytes, writer: str) -> None:
        """Put with ``If-None-Match: *``; 409 means that another writer is active."""
        self._client.put_object(
            Bucket=self.bucket, Key=self._key(key), Body=data, IfNoneMatch="*", Metadata={"writer": writer}
        )

    def exists(self, key: str) -> bool:
        # Not HEAD: its response has no body and cannot distinguish a missing bucket from a wrong secret.
        with s3_errors(self.child_uri(key)):
            try:
                self._get(key, span="bytes=0-0")
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == "NoSuchKey":
                    return False
                if _status(error) != 416:  # an empty object has no first byte
                    raise
        return True

    def delete(self, key: str) -> None:
        with s3_errors(self.child_uri(key)):
            self._client.delete_object(Bucket=self.bucket, Key=self._key(key))

    def move(self, key: str, to: str) -> None:
        with s3_errors(self.child_uri(key)):
            source = {"Bucket": self.bucket, "Key": self._key(key)}
            self._client.copy_object(Bucket=self.bucket, Key=self._key(to), CopySource=source)  # type: ignore[arg-type]
            self._client.delete_object(Bucket=self.bucket, Key=self._key(key))

    def make_durable(self, *places: str) -> None:
        """S3 answers a write once it is durable."""

    def content_tag(self, info: ObjectInfo, start: int = 0, length: int | None = None) -> str:
        return info.etag

    @property
    def _root(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""

    def _key(self, key: str) -> str:
        return self._root + checked_key(key)


def _bytes_of(answer: GetObjectOutputTypeDef) -> bytes:
    """All bytes of a response, within `READ_TIMEOUT_S` plus a second per `SLOWEST_BYTES_PER_S`.

    Raises:
        BodyBrokenError: The transfer broke off or was too slow.
    """
    end = time.monotonic() + READ_TIMEOUT_S + answer["ContentLength"] / SLOWEST_BYTES_PER_S
    pieces = []
    try:
        while piece := answer["Body"].read(_PIECE_BYTES):
            pieces.append(piece)
            if time.monotonic() > end:
                raise BodyBrokenError
    except _BROKEN as error:
        raise BodyBrokenError from error
    finally:
        answer["Body"].close()
    return b"".join(pieces)


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
