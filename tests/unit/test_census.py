"""The allowance of a rule is shared by the series that it watches."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from alerts.alert import Sample
from alerts.census import SERIES, Count
from alerts.engine import Engine, Key
from alerts.rule import Rule
from alerts.series import State
from tests import feed

RULE = Rule(name="r")
WEEK_MINUTES = 7 * 1440.0


def test_a_week_counts_the_series_that_spoke_and_the_week_before_stands_in_for_one_that_has_just_begun() -> None:
    count = Count().seen(10).seen(10).seen(10)
    assert (count.number, count.seen(11).number, count.seen(11).seen(12).number) == (3, 3, 1)
    assert count.seen(11).seen(10).number == 4, "one that speaks late"
    assert count.seen(13).number == 1 and Count().number == 1
    assert count.seen(5) == count


def spoken(topics: int, minute: float = 0.0) -> list[Sample]:
    return [replace(feed.sample(i, minute, negative=False), topic=f"t{i % topics}") for i in range(2 * topics)]


def test_the_engine_counts_each_series_once_a_week_in_any_batches() -> None:
    samples = [*spoken(7), *spoken(5, 60), *spoken(3, WEEK_MINUTES)]
    engine = Engine([RULE, replace(RULE, name="all", group_by=())])
    whole = engine.evaluate(samples, {}, samples[-1].at).states
    assert whole[Key(samples[0].workspace, "r", SERIES)].memory[1:] == (3, 7)
    assert Key(samples[0].workspace, "all", SERIES) not in whole, "one series has all of it"
    states: dict[Key, State] = {}
    for sample in samples:
        known = {key: State.from_json(states[key].to_json()) for key in engine.series_keys(sample) if key in states}
        states |= engine.evaluate([sample], known, sample.at).states
    assert states == whole


def test_more_series_need_more_evidence_by_the_logarithm_of_their_number() -> None:
    def needed(topics: int) -> float:
        calm = [feed.sample(i, i / 10, negative=i % 4 == 0) for i in range(400)]
        rise = [feed.sample(1000 + i, 40 + i / 10, negative=True) for i in range(12)]
        others = spoken(topics - 1) if topics > 1 else []
        found = Engine([RULE]).evaluate([*others, *calm, *rise], {}, rise[-1].at).states
        (run,) = [state.memory.run for key, state in found.items() if key.series == f"topic={calm[0].topic}"]
        return float(run.need)

    assert needed(10) - needed(1) == pytest.approx(math.log(10))
