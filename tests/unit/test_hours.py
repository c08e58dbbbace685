"""Working hours, through weekends, nights and clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.engine import Engine
from alerts.hours import Hours, opens_at
from alerts.rule import Rule
from tests import feed

OFFICE = Hours(zone="Asia/Tashkent")
NIGHT = Hours(zone="Europe/Berlin", days=tuple(range(7)), begin=time(22), end=time(6))
SKIPPED = Hours(zone="Europe/Berlin", days=(6,), begin=time(2, 30), end=time(3))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "now", "opens"),
    [
        (OFFICE, "2026-11-25 04:00", "2026-11-25 04:00"),  # Wednesday 09:00 in Tashkent
        (OFFICE, "2026-11-25 03:59", "2026-11-25 04:00"),
        (OFFICE, "2026-11-25 12:59", "2026-11-25 12:59"),
        (OFFICE, "2026-11-25 13:00", "2026-11-26 04:00"),
        (OFFICE, "2026-11-27 20:00", "2026-11-30 04:00"),  # Friday night → Monday
        (NIGHT, "2026-11-25 22:30", "2026-11-25 22:30"),
        (NIGHT, "2026-11-25 04:59", "2026-11-25 04:59"),
        (NIGHT, "2026-11-25 05:00", "2026-11-25 21:00"),
        (SKIPPED, "2026-03-23 00:00", "2026-03-29 01:30"),
    ],
)
def test_it_opens_when_people_work(hours: Hours, now: str, opens: str) -> None:
    assert opens_at(hours, at(now)) == at(opens)


@given(
    hours=st.builds(
        Hours,
        zone=st.sampled_from(["Asia/Tashkent", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC"]),
        days=st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
        begin=st.times().map(lambda t: t.replace(second=0, microsecond=0)),
        end=st.times().map(lambda t: t.replace(second=0, microsecond=0)),
    ),
    now=st.integers(0, 366 * 1440).map(lambda minute: at("2026-01-01 00:00") + timedelta(minutes=minute)),
)
def test_it_never_opens_in_the_past_and_is_then_open(hours: Hours, now: datetime) -> None:
    opens = opens_at(hours, now)
    assert opens >= now and (opens - now).days < 8
    assert opens_at(hours, opens) == opens


def test_an_alert_of_the_night_waits_for_the_morning_and_keeps_waiting_for_the_same() -> None:
    rule = Rule(name="r", kind="severe", words=("fire",), hours=Hours(days=tuple(range(7))))
    samples = [feed.sample(i, 60 * i, negative=True, text="fire") for i in range(1, 4)]
    told = [Engine([rule]).evaluate(samples[: n + 1], {}, samples[n].at).alerts[0] for n in range(3)]
    assert {alert.not_before for alert in told} == {feed.START.replace(hour=9)}
    assert all(one.incident == other.incident for one, other in pairwise(told))
