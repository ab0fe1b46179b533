"""Tell the time as the registry writes it: UTC text with milliseconds, which sorts as time does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

Clock: TypeAlias = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(UTC)


def time_text(moment: datetime) -> str:
    """Write a moment as `YYYY-MM-DDThh:mm:ss.mmmZ`."""
    moment = moment.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def time_before(moment: datetime, seconds: float) -> str:
    """Write the moment that lies `seconds` before this one; never before the year 1."""
    floor = datetime.min.replace(tzinfo=UTC)
    past = min(seconds, (moment - floor).total_seconds())
    return time_text(moment - timedelta(seconds=past))
