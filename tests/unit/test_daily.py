"""The kinds `trend` and `goal`: slow changes, judged day by day."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

from alerts.alert import Sample
from alerts.engine import Engine
from alerts.rule import Rule
from tests import feed

DAY = 1440.0
TREND = Rule(name="t", kind="trend", window_s=7 * 86400, baseline_s=28 * 86400, min_items=100, rise=0.05)
GOAL = Rule(
    name="g", kind="goal", group_by=(), window_s=14 * 86400, min_items=100, target=0.2, by=date(2026, 12, 20)
)


def days(count: int, share: Callable[[int], float], seed: int = 1, per_day: int = 60) -> list[Sample]:
    dice = random.Random(seed)
    return [
        feed.sample(day * 1000 + i, (day + i / per_day) * DAY, negative=dice.random() < share(day))
        for day in range(count)
        for i in range(per_day)
    ]


def told(rule: Rule, samples: list[Sample]) -> list[tuple[str, int]]:
    """(status, whole days after feed.START) of each transition, and the alert explained at the end of each."""
    engine = Engine([rule])
    end = samples[-1].at + timedelta(days=1)
    result = engine.evaluate(samples, {}, end)
    ended = engine.tick(result.states, [a for a in result.alerts if a.state != "resolved"], end)
    alerts = {alert.incident: alert for alert in (*result.alerts, *ended.alerts)}
    found = []
    for alert in sorted(alerts.values(), key=lambda one: one.starts_at):
        found.append(("firing", (alert.starts_at - feed.START).days))
        if alert.ends_at is not None:
            found.append(("resolved", (alert.ends_at - feed.START).days))
    return found


def test_a_slow_decline_is_found_that_no_single_day_would_show() -> None:
    found = told(TREND, days(60, lambda day: 0.2 + max(0, day - 35) * 0.008))
    assert found and found[0][0] == "firing" and 40 <= found[0][1] <= 56


def test_a_level_that_stays_says_nothing_though_days_differ() -> None:
    rule, alarms = replace(TREND, rise=0.01), 0
    for seed in range(8):
        dice = random.Random(seed)
        moods = [0.25 + dice.gauss(0, 0.04) for _ in range(90)]
        found = told(rule, days(90, moods.__getitem__, seed))
        alarms += sum(status == "firing" for status, _ in found)
    assert alarms <= rule.false_alarms_per_week * 8 * (90 - 14) / 7


def test_a_decline_that_is_mended_ends() -> None:
    found = told(TREND, days(90, lambda day: 0.2 if day < 40 or day >= 60 else 0.35))
    assert [status for status, _ in found][:2] == ["firing", "resolved"]
    assert found[1][1] > 45


def test_few_items_or_few_days_say_nothing() -> None:
    assert told(TREND, days(60, lambda day: 0.2 if day < 50 else 0.9, per_day=2)) == []
    assert told(TREND, days(9, lambda day: 0.2 if day < 5 else 0.9)) == []


def test_a_goal_that_will_be_missed_is_off_track_and_one_that_will_be_met_is_not() -> None:
    assert [status for status, _ in told(GOAL, days(30, lambda _: 0.4))] == ["firing"]
    assert told(GOAL, days(30, lambda day: 0.6 - day * 0.015)) == []
    assert told(GOAL, days(30, lambda _: 0.1)) == []


def test_a_goal_is_judged_by_its_level_on_the_day_and_let_go_a_week_later() -> None:
    found = told(GOAL, days(70, lambda _: 0.3))
    assert found[0][0] == "firing"
    assert found[-1] == ("resolved", (date(2026, 12, 20) - feed.START.date()).days + 9)


def test_a_goal_can_be_a_mean_score() -> None:
    rule = replace(GOAL, measure="score", target=0.3)
    assert told(rule, days(30, lambda _: 0.6))[0][0] == "firing"
    assert told(rule, days(30, lambda _: 0.05)) == []
