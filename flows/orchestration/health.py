"""Whether a Prefect server answers; imports nothing of Prefect."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

local_urls: set[str] = set()
"""APIs of the Prefect servers that commands of this process started for themselves."""

_HEALTH_TIMEOUT_S = 2.0


def is_healthy(url: str) -> bool:
    """Whether a Prefect server answers there; this question needs no key."""
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
