from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from botocore.exceptions import ClientError

from storage.errors import StoreError
from storage.objects.embedded_s3 import EmbeddedS3
from storage.objects.open import open_store
from storage.objects.s3_client import MAX_ATTEMPTS, connection, s3_errors

SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Slow down.</Message></Error>"


class _Busy(BaseHTTPRequestHandler):
    answered = 0

    def do_GET(self) -> None:
        type(self).answered += 1
        self.send_response(503)
        self.send_header("Content-Length", str(len(SLOW_DOWN)))
        self.end_headers()
        self.wfile.write(SLOW_DOWN)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: the test reads the count."""


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Busy]]:
    """A server that always answers 503."""
    server = HTTPServer(("127.0.0.1", 0), _Busy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("time.sleep", lambda _: None)
    yield _Busy
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_busy_server_is_asked_again_and_then_named(busy: type[_Busy]) -> None:
    with pytest.raises(StoreError, match=f"overloaded, after {MAX_ATTEMPTS} attempts") as caught:
        open_store("s3://bucket").get("k")
    assert busy.answered == MAX_ATTEMPTS
    assert "fewer workers" in caught.value.remedy


@pytest.mark.parametrize(
    ("code", "found", "remedy"),
    [
        ("AccessDenied", "access denied", "policy"),
        ("ExpiredToken", "have expired", "sign in again"),
        ("PermanentRedirect", "another region", "AWS_DEFAULT_REGION"),
        ("RequestTimeTooSkewed", "clock", "set the clock"),
        ("Strange", "S3 answered Strange to GetObject", "AWS_ENDPOINT_URL"),
    ],
)
def test_what_a_code_means(code: str, found: str, remedy: str) -> None:
    with pytest.raises(StoreError, match=f"s3://b/k: .*{found}") as caught, s3_errors("s3://b/k"):
        raise ClientError({"Error": {"Code": code, "Message": "AKIASECRET"}}, "GetObject")
    assert remedy in caught.value.remedy
    assert "AKIASECRET" not in str(caught.value)


def test_threads_share_one_client_until_the_settings_change(s3: EmbeddedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(8) as pool:
        clients = {id(made.client) for made in pool.map(lambda _: connection(), range(32))}
    assert len(clients) == 1
    assert connection().endpoint == s3.endpoint
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    assert id(connection().client) not in clients


def test_amazon_itself_has_no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert connection().endpoint is None
    assert connection().client.meta.region_name == "eu-central-1"
