"""Which Prefect server the user configured."""

from __future__ import annotations

import httpx
from prefect.settings import PREFECT_API_URL

from flows.orchestration.health import local_urls
from storage.errors import StageError

_ANSWER_TIMEOUT_S = 20.0


def configured_url() -> str | None:
    """The API of the Prefect server that the user configured; a command's own server does not count."""
    url = PREFECT_API_URL.value()
    return None if url is None or url in local_urls else str(url)


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
