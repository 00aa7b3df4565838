"""A Prefect server that answers 503 for seconds, as one does whose database is busy or whose proxy has just started."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import deployments, serve
from flows.orchestration.health import is_healthy
from flows.orchestration.schedules import sweeps
from flows.runtime.runtime import Runtime
from storage.errors import StageError
from tests.flows.conftest import Write

BUSY_S = 3.0
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@contextmanager
def busy_first(url: str) -> Iterator[tuple[str, list[bytes]]]:
    """A place in front of a server that refuses what comes within `BUSY_S`; its URL and the requests it refused."""
    behind, until, refused = urlsplit(url), time.monotonic() + BUSY_S, list[bytes]()

    class Front(BaseRequestHandler):
        def handle(self) -> None:
            if time.monotonic() < until:
                refused.append(self.request.recv(65_536).partition(b"\r\n")[0])
                self.request.sendall(REFUSAL)
                return
            with socket.create_connection((behind.hostname, behind.port)) as server:
                back = threading.Thread(target=pass_on, args=(server, self.request))
                back.start()
                pass_on(self.request, server)
                back.join()

    with ThreadingTCPServer(("127.0.0.1", 0), Front) as front:
        front.daemon_threads = True
        threading.Thread(target=front.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{front.server_address[1]}/api", refused
        front.shutdown()


def pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65_536):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def busy(runtime: Runtime) -> Iterator[list[bytes]]:
    """The session's server behind such a place, for all that is asked of it; the requests that were refused."""
    with busy_first(str(PREFECT_API_URL.value())) as (url, refused), temporary_settings({PREFECT_API_URL: url}):
        yield refused


def test_a_flow_goes_on_when_the_server_is_well_again(busy: list[bytes], write_spec: Write) -> None:
    state = deployments.maintain_store(str(write_spec()), dry_run=True, return_state=True)
    assert state.is_completed()
    assert state.message == "nothing to remove"
    assert busy
    flow_run = state.state_details.flow_run_id
    assert flow_run is not None
    with get_client(sync_client=True) as client:
        stored = client.read_flow_run(flow_run).state
    assert stored is not None
    assert stored.message == state.message


def test_the_next_sweep_is_asked_for_again(busy: list[bytes], write_spec: Write) -> None:
    assert sweeps(str(write_spec())).coming is None
    assert busy


def test_serve_waits_for_its_server(busy: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with serve._server(said.append) as url:
        assert is_healthy(url)
    assert said == [f"waiting for the Prefect server at {url}"]
    monkeypatch.setattr(serve, "SERVER_RESTART_S", 0.5)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(StageError, match="no Prefect server answers"),
        serve._server(said.append),
    ):
        raise AssertionError("there is none")
