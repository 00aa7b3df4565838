"""A Ray head with the Jobs API, as processes of its own: a cluster elsewhere, for tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from actors.ray_cluster.local import PoolSize
from actors.ray_job.api import Jobs
from actors.ray_job.client import JobSettings
from storage.errors import LayerprintError
from tests.processes import descendants, kill

TOKEN = "a-token-of-the-tests-" + "0" * 32
ADDRESS = "127.0.0.2"  # Ray looks for minutes at its own interfaces when told 127.0.0.1


class RayHead:
    """A head node; leaving the block ends all its processes.

    Args:
        folder: For Ray's session; short, since sockets lie in it.
        environment: Of its processes, for example the S3 settings.
        cpus: What the node offers.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], cpus: int = 4) -> None:
        self.folder = folder
        self.cpus = cpus
        self.port, self.dashboard_port = free_port(), free_port()
        bin_folder = str(Path(sys.executable).parent)
        self.environment = {
            **os.environ,
            **environment,
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        }
        self.environment.pop("RAY_ADDRESS", None)

    @property
    def jobs_api(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    def settings(self, hosts: int = 2) -> JobSettings:
        """Settings for small jobs here."""
        size = PoolSize(hosts, cpus=0.5)
        return JobSettings(self.jobs_api, embed=size, layers=size, token=TOKEN)

    def jobs(self) -> Jobs:
        """Its Jobs API."""
        return Jobs(self.jobs_api, TOKEN)

    def __enter__(self) -> RayHead:
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
            *("--node-ip-address", ADDRESS, "--port", str(self.port), "--num-cpus", str(self.cpus)),
            *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(self.dashboard_port)),
            *("--dashboard-agent-listen-port", str(free_port())),  # Ray's own choice is always the same
            *("--object-store-memory", str(100 * 2**20), "--temp-dir", str(self.folder)),
        ]
        self._log = (self.folder / "head.log").open("w")
        self._process = subprocess.Popen(
            command, env=self.environment, stdout=self._log, stderr=self._log, start_new_session=True
        )
        deadline = time.monotonic() + 90
        while True:
            try:
                self.jobs().unfinished()
                return self
            except LayerprintError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__(None, None, None)
                    raise RuntimeError((self.folder / "head.log").read_text()[-2000:]) from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        kill(descendants(self._process.pid))  # SIGTERM would wait 30 s for jobs to drain
        self._process.wait()
        self._log.close()


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
