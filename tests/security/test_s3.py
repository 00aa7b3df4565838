"""The embedded S3 server, called by another user of the machine: no port but the S3 port answers."""

from __future__ import annotations

import os
import pickle
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.errors import StoreError
from storage.objects import embedded_s3
from storage.objects.embedded_s3 import HOST, EmbeddedS3
from storage.objects.open import open_store
from storage.objects.server_keys import refuses_strangers

NOBODY = 65_534
REQUESTS = {
    "filer write": b"PUT /stolen/x HTTP/1.0\r\nContent-Length: 4\r\n\r\nmine",
    "filer delete": b"DELETE /buckets/test?recursive=true HTTP/1.0\r\n\r\n",
    "filer list": b"GET /buckets/ HTTP/1.0\r\nAccept: application/json\r\n\r\n",
    "master assign": b"GET /dir/assign HTTP/1.0\r\n\r\n",
    "volume write": b"PUT /1,01637037d6 HTTP/1.0\r\nContent-Length: 4\r\n\r\nmine",
    "volume read": b"GET /1,01637037d6 HTTP/1.0\r\n\r\n",
    "gRPC": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
}
NO_TLS = b"Client sent an HTTP request to an HTTPS server."
DENIED = re.compile(rb"HTTP/1\.. (403 Forbidden|400 Bad Request|404 Not Found)")


@pytest.fixture
def as_another_user() -> Callable[[Callable[[], Any]], Any]:
    """Runs a function as the user `NOBODY`; its result is pickled."""
    if os.getuid() != 0:
        reason = "only root can become another user"
        pytest.fail(reason) if os.environ.get("LAYERPRINT_ALL_TESTS") else pytest.skip(reason)
    return _as_nobody


def _as_nobody(action: Callable[[], Any]) -> Any:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            result: Any = action()
        except Exception as error:  # raised again by the parent
            result = error
        os.write(writing, pickle.dumps(result))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        result = pickle.loads(file.read())
    os.waitpid(child, 0)
    if isinstance(result, Exception):
        raise result
    return result


def weed_of(server: EmbeddedS3) -> int:
    """The process id of SeaweedFS."""
    (tied,) = re.findall(r"^(\d+)$", (server.data_dir / "lock").read_text(), re.MULTILINE)
    (child,) = Path(f"/proc/{tied}/task/{tied}/children").read_text().split()
    return int(child)


def _inodes(pid: int) -> set[str]:
    links = (os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd"))
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def tcp_ports(pid: int) -> dict[int, str]:
    """Port and address (hexadecimal) of every TCP socket on which a process listens."""
    ours, listening = _inodes(pid), {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *fields = line.split()
            if state == "0A" and fields[5] in ours:
                address, _, port = local.partition(":")
                listening[int(port, 16)] = address
    return listening


def unix_sockets(pid: int) -> set[str]:
    """The paths of the Unix sockets on which a process listens."""
    ours = _inodes(pid)
    lines = (line.split() for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:])
    return {fields[7] for fields in lines if len(fields) == 8 and fields[6] in ours and fields[5] == "01"}


def answers(port: int, tls: ssl.SSLContext | None) -> Iterator[tuple[str, bytes]]:
    """What a port answers to each request; nothing where it breaks the connection."""
    for name, request in REQUESTS.items():
        try:
            with socket.create_connection((HOST, port), 5) as plain:
                plain.settimeout(5)
                with tls.wrap_socket(plain) if tls else plain as connection:
                    connection.sendall(request)
                    yield name, connection.recv(4096)
        except (ssl.SSLError, ConnectionError):
            yield name, b""


def context(key: Path | None = None) -> ssl.SSLContext:
    """TLS that believes any server, with the certificate of a folder or without one."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.set_alpn_protocols(["h2", "http/1.1"])
    if key:
        made.load_cert_chain(key / "certificate.pem", key / "key.pem")
    return made


def test_no_port_takes_a_request_of_another_user(
    s3: EmbeddedS3, s3_prefix: str, as_another_user: Callable[[Callable[[], Any]], Any]
) -> None:
    open_store(s3_prefix).put("kept", b"ours")
    ports = tcp_ports(weed_of(s3))
    s3_port = int(s3.endpoint.rpartition(":")[2])
    assert len(ports) == 10  # five servers, HTTP and gRPC
    assert set(ports.values()) == {"0100007F"}  # 127.0.0.1

    def attempts() -> dict[tuple[int, str, str], bytes]:
        kinds = {"plain": None, "TLS": context()}
        return {
            (port, kind, name): answer
            for port in ports
            for kind, tls in kinds.items()
            for name, answer in answers(port, tls)
        }

    got = as_another_user(attempts)
    assert len(got) == 10 * 2 * len(REQUESTS)
    for (port, kind, name), answer in got.items():
        if port == s3_port:
            assert not answer or DENIED.match(answer), (kind, name, answer)
        else:
            assert not answer or NO_TLS in answer, (port, kind, name, answer)
    assert open_store(s3_prefix).get("kept") == b"ours"


def test_the_same_requests_are_answered_with_the_key(s3: EmbeddedS3) -> None:
    """What shows that the test above would see an open port."""
    got = {
        name: answer[:12]
        for port in tcp_ports(weed_of(s3))
        for name, answer in answers(port, context(s3.data_dir / "keys"))
        if answer.startswith((b"HTTP/1.0 2", b"\x00\x00"))
    }
    assert set(got) >= {"filer write", "filer list", "gRPC"}


def test_no_socket_or_file_is_open_to_another_user(
    s3: EmbeddedS3, as_another_user: Callable[[Callable[[], Any]], Any]
) -> None:
    paths = unix_sockets(weed_of(s3))
    assert {"filer.sock", "s3.sock"} < paths

    def attempts() -> list[str]:
        opened = []
        for path in paths:
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(path if path.startswith("/") else str(s3.data_dir / path))
                except PermissionError:
                    continue
                opened.append(path)
        for name in ("", "data", "keys"):
            try:
                opened += os.listdir(s3.data_dir / name)
            except PermissionError:
                continue
        return opened

    assert as_another_user(attempts) == []
    files = [s3.data_dir, *(s3.data_dir / name for name in ("s3.json", "weed.log", "lock", "data", "keys"))]
    files += (s3.data_dir / "keys").iterdir()
    assert [str(path) for path in files if path.stat().st_mode & 0o077] == []


@pytest.mark.usefixtures("processes")
def test_a_server_that_cannot_read_its_keys_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SeaweedFS then serves everybody, without a word."""
    monkeypatch.setattr(embedded_s3, "write_server_keys", lambda folder, host: folder.mkdir())
    with pytest.raises(StoreError, match="asks for no key"):
        EmbeddedS3(tmp_path).__enter__()
    monkeypatch.undo()
    with EmbeddedS3(tmp_path):
        pass


def test_a_port_without_tls_is_open_and_one_without_a_server_closed() -> None:
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]
        listening.listen()

        def answer() -> None:
            with listening.accept()[0] as connection:
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert not refuses_strangers(HOST, port)
        thread.join()
    assert refuses_strangers(HOST, port)
