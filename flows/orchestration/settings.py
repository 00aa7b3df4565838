"""Which Prefect server the user configured."""

from __future__ import annotations

from prefect.settings import PREFECT_API_URL

from flows.orchestration.health import local_urls


def configured_url() -> str | None:
    """The API of the Prefect server that the user configured; a command's own server does not count."""
    url = PREFECT_API_URL.value()
    return None if url is None or url in local_urls else str(url)
