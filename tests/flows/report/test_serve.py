"""The report server: the pages of one folder, on loopback, and nothing else."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.report.serve import report_server
from storage.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    reports = tmp_path / "reports"
    (reports / "inner").mkdir(parents=True)
    (reports / "index.html").write_text("all")
    (reports / "glow-80-ab.html").write_text("glow")
    (reports / "notes.txt").write_text("hush")
    (reports / ".hidden.html").write_text("hush")
    (reports / "inner" / "page.html").write_text("hush")
    (tmp_path / "secret.html").write_text("hush")
    (reports / "link.html").symlink_to(tmp_path / "secret.html")
    return reports


@pytest.fixture
def port(folder: Path) -> Iterator[int]:
    with report_server(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


def get(port: int, path: str, host: str | None = None, method: str = "GET") -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
    reply = connection.getresponse()
    body = reply.read().decode()
    connection.close()
    return reply.status, body, dict(reply.getheaders())


def test_pages_are_served_with_headers(port: int) -> None:
    status, body, headers = get(port, "/")
    assert (status, body) == (200, "all")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "Python" not in headers["Server"]
    assert get(port, "/glow-80-ab.html")[:2] == (200, "glow")
    assert get(port, "/glow-80-ab.html", f"localhost:{port}")[0] == 200
    assert get(port, "/", method="HEAD")[:2] == (200, "")


@pytest.mark.parametrize(
    "path",
    ["/notes.txt", "/.hidden.html", "/inner/", "/inner", "/inner/page.html", "/link.html", "/../secret.html",
     "/%2e%2e/secret.html", "/..%2fsecret.html", "/x/../../secret.html", "//secret.html", "/index.html/",
     "/a\\..\\b.html", "/gone.html", "/glow-80-ab.html?x=1"],
)  # fmt: skip
def test_nothing_else_is(port: int, path: str) -> None:
    status, body, _ = get(port, path)
    assert status == 404
    assert "hush" not in body


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_another_sites_name_is_refused(port: int, host: str) -> None:
    assert get(port, "/", host or " ")[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_only_reads(port: int, method: str) -> None:
    assert get(port, "/", method=method)[0] == 501


def test_mistakes_are_explained(tmp_path: Path, port: int, folder: Path) -> None:
    with pytest.raises(InputError, match=r"holds no index\.html"):
        report_server(tmp_path)
    with pytest.raises(InputError, match=f"port {port}: Address already in use"):
        report_server(folder, port)


def test_it_listens_on_loopback_only(folder: Path) -> None:
    with report_server(folder) as server:
        assert server.server_address[0] == "127.0.0.1"
