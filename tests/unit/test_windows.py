"""Event time: minutes, windows, and which time it is in a stream."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.windows import Tally, minute_of, minute_start, score_e6, stream_time, window_start

NOW = datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_minute_holds_its_first_moment_and_not_the_next_ones() -> None:
    at = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    assert minute_of(at) == minute_of(at + timedelta(seconds=59, microseconds=999_999))
    assert minute_of(at + timedelta(minutes=1)) == minute_of(at) + 1
    assert minute_start(minute_of(at)) == at


@pytest.mark.parametrize("at", [datetime(1970, 1, 1, tzinfo=UTC), datetime(2262, 4, 11, tzinfo=UTC)])
def test_minutes_reach_over_the_whole_range_of_the_wire(at: datetime) -> None:
    assert minute_start(minute_of(at)) == at
    assert 0 <= minute_of(at) < 2**31


@pytest.mark.parametrize(("window", "minutes"), [("5m", 5), ("1h", 60), ("24h", 1440)])
def test_a_window_has_exactly_its_minutes_the_present_one_included(window: str, minutes: int) -> None:
    assert minute_of(NOW) - window_start(NOW, window) + 1 == minutes


def test_stream_time_is_the_wall_clock_while_items_are_fresh() -> None:
    assert stream_time(NOW, NOW, NOW) == NOW
    assert stream_time(NOW, NOW, NOW + HOUR) == NOW + HOUR


def test_stream_time_is_the_clock_of_history_while_it_is_replayed() -> None:
    past = NOW - timedelta(days=30)
    assert stream_time(past, NOW, NOW + HOUR) == past + HOUR


def test_stream_time_never_passes_now_whatever_the_watermark_says() -> None:
    assert stream_time(NOW + timedelta(days=9), NOW, NOW) == NOW


def test_a_wall_clock_set_back_does_not_turn_stream_time_back_beyond_the_watermark() -> None:
    past = NOW - timedelta(days=30)
    assert stream_time(past, NOW, NOW - HOUR) == past


def test_tallies_add_up_in_any_order_and_take_back_exactly() -> None:
    tally = Tally()
    scores = [score_e6(score) for score in (0.1, 0.2, -0.30000001, 0.7)]
    for score in scores:
        tally.add(1, score)
    for score in reversed(scores):
        tally.add(-1, -score)
    assert tally == Tally(0, 0)


def test_scores_are_whole_millionths() -> None:
    assert (score_e6(-1.0), score_e6(1.0), score_e6(0.1 + 0.2)) == (-1_000_000, 1_000_000, 300_000)
