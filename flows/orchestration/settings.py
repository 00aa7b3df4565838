"""Which Prefect server is configured, and whether it answers."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_API_PORT

from storage.errors import StageError

local_urls: set[str] = set()
"""APIs of the Prefect servers that commands of this process started for themselves."""

_HEALTH_TIMEOUT_S = 2.0
_ANSWER_TIMEOUT_S = 20.0


def configured_url() -> str | None:
    """The API of the Prefect server that the user configured; a command's own server does not count."""
    url = PREFECT_API_URL.value()
    return None if url is None or url in local_urls else str(url)


def server_url() -> str | None:
    """The API of the configured Prefect server, else of one that runs on this machine, else None."""
    configured = PREFECT_API_URL.value()
    if configured:
        return str(configured)
    here = f"http://127.0.0.1:{PREFECT_SERVER_API_PORT.value()}/api"
    return here if is_healthy(here) else None


def demand_configured_server() -> None:
    """See that something answers where `PREFECT_API_URL` points, if it is set.

    Raises:
        StageError: Nothing does.
    """
    url = configured_url()
    if url is None:
        return
    try:
        httpx.get(f"{url}/health", timeout=_ANSWER_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StageError(
            f"PREFECT_API_URL: no Prefect server answers at {url} ({type(error).__name__})",
            "start it, or unset PREFECT_API_URL: the command then starts a server of its own",
        ) from error


def is_healthy(url: str) -> bool:
    """Whether a Prefect server answers there."""
    try:
        answer = httpx.get(f"{url}/health", timeout=_HEALTH_TIMEOUT_S)
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK and answer.text.strip() == "true"


def healthy_within(seconds: float, url: str, worth_waiting: Callable[[], bool] = lambda: True) -> bool:
    """Whether a Prefect server answers within this time; gives up early once it is not ``worth_waiting``."""
    end = time.monotonic() + seconds
    while not is_healthy(url):
        if time.monotonic() > end or not worth_waiting():
            return False
        time.sleep(0.1)
    return True
