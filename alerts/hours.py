"""Working hours: when an alert of a severity may reach people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """From `begin` until `end` (not included) of local time in `zone`, on `days` (0 is Monday).

    An `end` that is not later than `begin` lies on the following day: from 22:00 to 06:00 is a night, and
    the day is that of its beginning.
    """

    zone: str = "UTC"
    days: tuple[int, ...] = (0, 1, 2, 3, 4)
    begin: time = time(9)
    end: time = time(18)


def opens_at(hours: Hours, at: datetime) -> datetime:
    """`at` where it lies within working hours, otherwise the next moment that does (UTC).

    Local times that a clock change skips count as the moment of the change.
    """
    zone = ZoneInfo(hours.zone)
    today = at.astimezone(zone).date()
    for offset in range(-1, 9):
        day = today + timedelta(days=offset)
        if day.weekday() not in hours.days:
            continue
        last = day + timedelta(days=hours.end <= hours.begin)
        begin = datetime.combine(day, hours.begin, zone).astimezone(UTC)
        end = datetime.combine(last, hours.end, zone).astimezone(UTC)
        if at < end:
            return max(at, begin)
    raise ValueError("working hours without a day")
