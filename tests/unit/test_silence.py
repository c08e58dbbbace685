"""The kind `silence`: learned cadence, first nights, bursts, and a pipeline that is merely behind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from alerts.alert import Sample
from alerts.kinds import KINDS
from alerts.rule import Rule
from alerts.series import Change, State, start, step, tick
from tests import feed

RULE = Rule(name="r", kind="silence", group_by=("source",), baseline_s=7 * 86400, false_alarms_per_week=0.05)
WEEK = 7 * 1440.0


def office(days: int, seed: int, per_hour: float = 12) -> Iterator[Sample]:
    """Speaks from 9 to 18, Monday to Friday; feed.START is a Monday."""
    dice, minute, number = random.Random(seed), 0.0, 0
    while (minute := minute + dice.expovariate(per_hour / 60)) < days * 1440:
        if minute // 1440 % 7 < 5 and 9 <= minute % 1440 / 60 < 18:
            number += 1
            yield feed.sample(number, minute, negative=False)


def run(
    samples: Iterator[Sample], state: State | None = None, rule: Rule = RULE
) -> tuple[State, list[Change]]:
    state, changes = state or start(rule), []
    for item in samples:
        state, more = step(state, rule, item, item.at.timestamp())
        changes += more
    return state, changes


def at(minute: float) -> float:
    return (feed.START + timedelta(minutes=minute)).timestamp()


def test_nights_and_weekends_are_no_silence() -> None:
    rule = replace(RULE, false_alarms_per_week=0.001)
    for seed in range(5):
        state, changes = run(office(28, seed), rule=rule)
        assert [c for c in changes if c.turn] == []
        assert tick(state, rule, at(28 * 1440 + 8 * 60))[1] == []  # the fifth Monday, before opening


def test_a_silent_monday_morning_is_found_within_the_hour_and_ends_with_the_next_item() -> None:
    state, _ = run(office(28, 1))
    fired, (change,) = tick(state, RULE, at(28 * 1440 + 24 * 60))
    assert change.status == "firing"
    assert at(28 * 1440 + 9 * 60) < change.at_s < at(28 * 1440 + 11 * 60)
    after, changes = run(iter([feed.sample(9, 28 * 1440 + 25 * 60, negative=False)]), fired)
    assert [c.status for c in changes] == ["resolved"] and not after.open


def test_the_busier_the_sooner() -> None:
    delays = []
    for per_hour in (6, 60):
        state, _ = run(office(28, 2, per_hour))
        (change,) = tick(state, RULE, at(28 * 1440 + 24 * 60))[1]
        delays.append(change.at_s - at(28 * 1440 + 9 * 60))
    assert delays[1] < delays[0]


def test_while_the_pipeline_is_behind_nothing_is_said_and_afterwards_the_truth() -> None:
    state, _ = run(office(28, 1))
    now = at(28 * 1440 + 12 * 60)
    assert tick(state, RULE, now, behind=True) == (state, [])
    (change,) = tick(state, RULE, now)[1]
    assert change.at_s < now


def test_it_listens_for_a_week_before_it_judges() -> None:
    state, _ = run(office(3, 1))
    assert tick(state, RULE, at(20 * 1440))[1] == []


@pytest.mark.parametrize("burst", [1, 20])
def test_false_alarms_stay_within_the_allowance_for_bursty_sources_too(burst: int) -> None:
    weeks, alarms = 0.0, 0
    for seed in range(6):
        dice, samples, minute = random.Random(seed), [], 0.0
        while minute < 6 * WEEK:
            minute += dice.expovariate(1 / (10.0 * burst))
            samples += [feed.sample(len(samples) + i, minute + i / 10, negative=False) for i in range(burst)]
        _, changes = run(iter(samples))
        alarms += sum(c.turn and c.status == "firing" for c in changes)
        weeks += 5
    assert alarms <= 0.05 * weeks + 2


def test_what_is_learned_within_an_hour_by_sums_is_what_a_count_of_all_items_says() -> None:
    dice, minute, minutes = random.Random(5), 0.0, [0.0]
    while (minute := minute + dice.choice([0.0, 0.2, 3.0, 90.0])) < 3 * 1440:
        minutes.append(minute)
    state, _ = run(feed.sample(n, one, negative=False) for n, one in enumerate(minutes))
    heard, listened, *_ = KINDS["silence"].dump(state.memory)
    first = int(at(0) // 3600) % 168
    for hour in range(3 * 24):
        came = sum(hour <= one / 60 < hour + 1 for one in minutes[1:])
        assert heard[(first + hour) % 168] == came
    assert sum(listened) == pytest.approx(minutes[-1] / 60)
    assert all(one <= 1 + 1e-9 for one in listened)


def test_the_tick_finds_the_same_end_of_patience_as_a_walk_through_the_hours() -> None:
    state, _ = run(office(28, 1))
    bound = state.memory.due_s
    assert bound == state.memory.last_s + RULE.min_silence_s
    early, _ = tick(state, RULE, bound)
    assert early.memory.due_s is not None and early.memory.due_s > bound
    (change,) = tick(early, RULE, at(28 * 1440 + 24 * 60))[1]
    (same,) = tick(state, RULE, at(28 * 1440 + 24 * 60))[1]
    assert change.at_s == same.at_s == early.memory.due_s
