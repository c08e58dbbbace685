"""How fast a connector is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.connector import Quota
from pipeline.pace import BACKFILL_RESERVE, LONGEST_BACKOFF_S, Pacer, after_refusal_s, backoff_s, seconds

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def left(remaining: int, in_s: float = 300) -> Quota:
    return Quota(remaining=remaining, reset_at=NOW + timedelta(seconds=in_s))


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_backing_off_is_anywhere_below_a_ceiling_that_doubles(failures: int, chance: float) -> None:
    assert 0 <= backoff_s(failures, chance) <= min(LONGEST_BACKOFF_S, 2.0**failures if failures < 40 else 1e12)
    assert backoff_s(failures, 1.0) <= backoff_s(failures + 1, 1.0)


@given(st.floats(0, 86_400), st.integers(1, 100), st.floats(0, 1))
def test_what_a_service_asks_for_is_never_cut_short(asked: float, failures: int, chance: float) -> None:
    assert after_refusal_s(asked, failures, chance) >= asked


def test_a_full_quota_is_used_at_once_and_the_rest_of_it_spread_until_it_is_renewed() -> None:
    pacer = Pacer()
    assert pacer.rest_s(left(100), NOW) == 0
    assert pacer.rest_s(left(60), NOW) == 0
    assert pacer.rest_s(left(9), NOW) == pytest.approx(30)
    assert pacer.rest_s(left(0, 42), NOW) == 42, "with nothing left it waits for the renewal"
    assert pacer.rest_s(left(0, -1), NOW) == 0 and pacer.rest_s(None, NOW) == 0


@given(st.integers(2, 1000), st.floats(1, 3000))
def test_a_quota_is_never_used_up_before_it_is_renewed(limit: int, window_s: float) -> None:
    pacer, now, end = Pacer(), NOW, NOW + timedelta(seconds=window_s)
    for remaining in range(limit - 1, -1, -1):
        now += timedelta(seconds=pacer.rest_s(Quota(remaining=remaining, reset_at=end), now))
    assert now >= end - timedelta(seconds=0.01)


@given(st.integers(10, 1000))
def test_a_backfill_leaves_its_share_to_what_is_live(limit: int) -> None:
    pacer, end, now = Pacer(BACKFILL_RESERVE), NOW + timedelta(seconds=600), NOW
    used = 0
    for remaining in range(limit, -1, -1):
        now += timedelta(seconds=pacer.rest_s(Quota(remaining=remaining, reset_at=end), now))
        if now >= end:
            break
        used += 1
    assert used <= limit * 0.5 + 1


def test_durations() -> None:
    found = [seconds(text) for text in ("30s", "5m", "1.5h", "2d", 90, 2.5)]
    assert found == [30, 300, 5400, 172_800, 90, 2.5]
    for wrong in ("5", "", "5 m", "m", 0, -1, True, None, [], float("nan"), "1000d"):
        with pytest.raises(ValueError, match=r"must (be|lie)"):
            seconds(wrong)
