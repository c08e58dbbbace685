"""The kind `threshold`, and the life of an alert that has to last."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from alerts.alert import Sample, moment
from alerts.rule import Rule
from alerts.series import Change, State, start, step, tick
from alerts.threshold import span
from tests import feed

RULE = Rule(name="r", kind="threshold", window_s=600, min_items=5, share_above=0.5)


def run(rule: Rule, samples: Iterable[Sample], state: State | None = None) -> tuple[State, list[Change]]:
    state, changes = state or start(rule), []
    for item in samples:
        state, more = step(state, rule, item, item.at.timestamp())
        changes += more
    return state, changes


def told(changes: list[Change]) -> list[tuple[str, float]]:
    """(status, minutes after feed.START)."""
    return [(c.status, round((c.at_s - feed.START.timestamp()) / 60, 2)) for c in changes if c.turn]


def bad(minutes: Iterable[float]) -> list[Sample]:
    return [feed.sample(int(minute * 10), minute, negative=True) for minute in minutes]


def test_too_few_items_say_nothing_and_the_fifth_fires() -> None:
    state, changes = run(RULE, bad([1, 2, 3, 4]))
    assert not changes and not state.open
    state, changes = run(RULE, bad([5]), state)
    assert told(changes) == [("firing", 5.0)]


def test_the_share_must_be_above_and_not_at_the_line() -> None:
    half = [feed.sample(i, i / 10, negative=i % 2 == 1) for i in range(20)]
    assert run(RULE, half)[1] == []


def test_it_ends_when_the_window_has_slid_past_the_bad_items() -> None:
    state, _ = run(RULE, bad([1, 2, 3, 4, 5]))
    end = feed.START.timestamp()
    assert tick(state, RULE, end + 60 * 10.9)[1] == []
    state, changes = tick(state, RULE, end + 60 * 60)
    # With the item of minute 1 gone there are four, and five are needed.
    assert told(changes) == [("resolved", 11.0)]
    assert not state.open


def test_a_condition_that_does_not_last_is_pending_and_tells_nobody() -> None:
    rule = Rule(name="r", kind="threshold", window_s=600, min_items=5, share_above=0.5, for_s=300)
    state, changes = run(rule, bad([1, 2, 3, 4, 5]))
    assert told(changes) == [("pending", 5.0)] and not state.firing
    good = [feed.sample(100 + i, 6 + i / 10, negative=False) for i in range(6)]
    state, changes = run(rule, good, state)
    assert told(changes) == [("resolved", 6.4)] and not state.open


def test_a_condition_that_lasts_fires_at_the_end_of_for_whoever_notices() -> None:
    rule = Rule(name="r", kind="threshold", window_s=600, min_items=5, share_above=0.5, for_s=300)
    state, _ = run(rule, bad([1, 2, 3, 4, 5, 6]))
    by_tick, changes = tick(state, rule, feed.START.timestamp() + 60 * 10.5)
    assert told(changes) == [("firing", 10.0)]
    assert changes[0].state.life.since_s == feed.START.timestamp() + 300
    by_item, more = run(rule, bad([10.5]), state)
    assert told(more) == [("firing", 10.0)]
    assert run(rule, bad([10.5]), by_tick)[0] == by_item


def test_it_keeps_firing_through_a_short_gap_as_one_incident() -> None:
    rule = Rule(name="r", kind="threshold", window_s=600, min_items=2, share_above=0.5, keep_firing_for_s=600)
    good = [feed.sample(100 + i, 3 + i / 10, negative=False) for i in range(3)]
    worse = bad([4, 4.1, 4.2, 4.3])
    _, changes = run(rule, [*bad([1, 2]), *good, *worse])
    assert told(changes) == [("firing", 2.0)]


def test_the_count_alone_can_be_the_line() -> None:
    rule = Rule(name="r", kind="threshold", window_s=60, min_items=1, count_above=2)
    _, changes = run(rule, bad([1, 1.1, 1.2]))
    assert told(changes) == [("firing", 1.2)]
    assert run(rule, bad([1, 3, 5, 7]))[1] == []


def test_the_evidence_is_that_of_the_window() -> None:
    state, changes = run(RULE, [*bad([1, 2]), *bad([40, 41, 42, 43, 44])])
    assert changes[0].state.life.onset_s == moment(feed.START.timestamp() + 2400).timestamp()
    assert all(quote.at >= moment(feed.START.timestamp() + 2400) for quote in state.life.quotes)


@pytest.mark.parametrize(
    ("seconds", "text"), [(60, "1 minute"), (5400, "1.5 hours"), (86400, "1 day"), (45, "45 seconds")]
)
def test_spans_read_well(seconds: float, text: str) -> None:
    assert span(seconds) == text
