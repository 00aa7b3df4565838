"""Schedules as the command line gives them."""

from __future__ import annotations

import datetime as dt

import pytest
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from flows.serve import schedule_of
from storage.errors import InputError


@pytest.mark.parametrize(("every", "seconds"), [("90s", 90), ("15m", 900), ("1h", 3600), ("2d", 172_800)])
def test_an_interval_begins_now(every: str, seconds: int) -> None:
    found = schedule_of(every, None)
    assert isinstance(found, IntervalSchedule)
    assert found.interval == dt.timedelta(seconds=seconds)
    assert abs(found.anchor_date.timestamp() - dt.datetime.now(dt.UTC).timestamp()) < 10


def test_cron_is_in_utc() -> None:
    found = schedule_of(None, "30 6 * * 1")
    assert isinstance(found, CronSchedule)
    assert (found.cron, found.timezone) == ("30 6 * * 1", "UTC")


@pytest.mark.parametrize(
    ("every", "cron", "message"),
    [
        (None, None, "serve needs a schedule"),
        ("1h", "* * * * *", "serve needs a schedule"),
        ("hourly", None, "is no time"),
        ("0s", None, "is no time"),
        ("-1h", None, "is no time"),
        (None, "every hour", "cannot be read"),
    ],
)
def test_a_wrong_schedule_is_explained(every: str | None, cron: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        schedule_of(every, cron)
