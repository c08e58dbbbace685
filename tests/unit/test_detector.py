"""The detector: what it learns, when it pages, when it lets go; and its false alarms, simulated."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import pytest

from alerts import detector
from alerts.alert import Sample, moment
from alerts.detector import ITEMS_PER_WEEK, PRIOR_ITEMS, share, threshold, weekly
from alerts.quotes import KEPT, MAX_CHARS
from alerts.rule import Rule
from alerts.series import Change, State, start, step, tick
from tests import feed

RULE = Rule(name="r")
START = start(RULE)


def run(samples: Iterable[Sample], state: State = START, rule: Rule = RULE) -> tuple[State, list[Change]]:
    changes = []
    for item in samples:
        state, more = step(state, rule, item, item.at.timestamp())
        changes += more
    return state, changes


def starts(changes: list[Change]) -> list[float]:
    """Minutes after feed.START of each incident's start."""
    return sorted({(c.state.life.since_s or 0) - feed.START.timestamp() for c in changes})


def calm(items: int = 400, seed: int = 3) -> State:
    """A series that knows its usual quarter, at 10 items a minute; ends at minute `items` / 10."""
    samples = [feed.sample(i, i / 10, negative=i % 4 == 0) for i in range(items)]
    state, changes = run(samples)
    assert not changes
    return state


def test_it_learns_the_usual_share_from_a_prior_that_a_few_items_cannot_move() -> None:
    assert share(detector.START) == 0.25
    few, changes = run(feed.sample(i, i, negative=True) for i in range(3))
    assert share(few.memory) < 0.30 and not changes
    state, _ = run(feed.stream(minutes=600, per_minute=10, share=0.1, seed=1))
    assert share(state.memory) == pytest.approx(0.1, abs=0.02)


def test_learning_fades_with_event_time_but_a_pause_costs_at_most_its_cap() -> None:
    state = calm()
    soon, _ = run([feed.sample(9001, 41, negative=False)], state)
    later, _ = run([feed.sample(9001, 60 * 24 * 365, negative=False)], state)
    assert later.memory.b == pytest.approx(state.memory.b * 0.5 ** (1 / 1500) + 1)
    assert soon.memory.b > later.memory.b > PRIOR_ITEMS
    assert later.memory.seen == pytest.approx(1)


def test_a_topic_that_always_complains_does_not_page() -> None:
    for usual in (0.05, 0.5, 0.65, 0.8, 0.95):
        for seed in range(10):
            _, changes = run(feed.stream(minutes=150, per_minute=4, share=usual, seed=seed))
            assert not changes, (usual, seed)


def test_few_items_never_page() -> None:
    _, changes = run(feed.sample(i, i / 100, negative=True) for i in range(RULE.min_items + 2))
    assert not changes


def test_a_rise_fires_once_with_counts_since_its_onset() -> None:
    state, changes = run((feed.sample(1000 + i, 40 + i / 10, negative=i % 5 != 0) for i in range(150)), calm())
    assert state.firing and len(starts(changes)) == 1
    first = changes[0]
    assert first.status == "firing"
    assert first.state.memory.climb >= threshold(first.state.memory, RULE)
    assert first.state.life.total <= 150 and first.state.life.matched / first.state.life.total > 0.7
    assert first.state.memory.usual == pytest.approx(0.25, abs=0.03)
    assert feed.START.timestamp() + 2400 <= (first.state.life.onset_s or 0) <= feed.START.timestamp() + 2460
    assert 1 <= len(first.state.life.quotes) <= KEPT


def test_more_allowed_false_alarms_page_earlier() -> None:
    delays = []
    for allowed in (0.02, 0.2, 2.0):
        rule = replace(RULE, false_alarms_per_week=allowed)
        _, changes = run((feed.sample(1000 + i, 40 + i / 10, negative=i % 5 != 0) for i in range(200)), calm(), rule)
        delays.append(starts(changes)[0])
    assert delays[0] > delays[1] > delays[2]


def test_it_resolves_when_the_share_is_back_and_pages_again_only_after_a_fresh_climb() -> None:
    bad = [feed.sample(1000 + i, 40 + i / 10, negative=i % 5 != 0) for i in range(150)]
    good = [feed.sample(2000 + i, 55 + i / 10, negative=i % 4 == 0) for i in range(200)]
    state, changes = run([*bad, *good], calm())
    assert [c.status for c in changes].count("resolved") == 1 and changes[-1].status == "resolved"
    assert not state.firing and state.memory.climb < 3 and state.life.ended_s == changes[-1].at_s
    state, changes = run((feed.sample(3000 + i, 75 + i / 10, negative=True) for i in range(5)), state)
    assert not changes
    state, changes = run((feed.sample(4000 + i, 76 + i / 10, negative=True) for i in range(80)), state)
    assert state.firing and len(starts(changes)) == 1


def test_one_good_item_resolves_nothing() -> None:
    state, _ = run((feed.sample(1000 + i, 40 + i / 10, negative=i % 5 != 0) for i in range(150)), calm())
    after, changes = run((feed.sample(2000 + i, 55 + i / 60, negative=False) for i in range(8)), state)
    assert after.firing and not [c for c in changes if c.status == "resolved"]


def test_quiet_resolves_at_the_same_moment_whether_a_tick_or_an_item_finds_out() -> None:
    state, _ = run((feed.sample(1000 + i, 40 + i / 10, negative=True) for i in range(100)), calm())
    assert state.firing
    end_s = state.life.spoke_s + RULE.resolve_after_s
    assert tick(state, RULE, end_s - 0.001) == (state, [])
    by_tick, (told,) = tick(state, RULE, end_s + 500)
    assert told.status == "resolved" and told.at_s == end_s
    late = feed.sample(9999, 600, negative=False)
    by_item, found = run([late], state)
    assert [c.at_s for c in found] == [end_s]
    assert by_item == run([late], by_tick)[0]


def test_good_items_alone_do_not_keep_an_incident_open() -> None:
    state, _ = run((feed.sample(1000 + i, 40 + i / 10, negative=True) for i in range(100)), calm())
    state, changes = run((feed.sample(2000 + i, 50 + 9 * i, negative=False) for i in range(5)), state)
    assert not state.firing
    assert changes[-1].status == "resolved"


def test_what_lasts_longer_than_the_half_life_is_the_new_usual() -> None:
    rule = replace(RULE, half_life_s=6 * 3600.0)
    calm_state, changes = run(feed.stream(minutes=24 * 60, per_minute=2, share=0.2, seed=1), rule=rule)
    assert not changes
    state, changes = run(
        feed.stream(minutes=48 * 60, per_minute=2, share=0.65, seed=2, begin=24 * 60), calm_state, rule
    )
    assert not state.firing
    assert changes[-1].status == "resolved"
    assert len(starts(changes)) == 1
    assert changes[-1].at_s > (changes[0].state.life.since_s or 0) + rule.half_life_s


def test_refreshes_are_bounded_in_event_time() -> None:
    _, changes = run((feed.sample(1000 + i, 40 + i / 600, negative=True) for i in range(6000)), calm())
    moments = [c.at_s for c in changes]
    assert all(later - earlier >= 15 for earlier, later in pairwise(moments))
    assert len(moments) > 10


def test_late_items_count_as_of_the_latest() -> None:
    state, changes = run([feed.sample(5000, 1, negative=True)], calm())
    assert state.life.last_s == calm().life.last_s and not changes
    assert state.memory.items == 401


def test_the_rate_is_learned_and_bounded() -> None:
    assert weekly(detector.START, RULE) == ITEMS_PER_WEEK[0]
    state, _ = run(feed.stream(minutes=5 * 1440, per_minute=2, share=0.2, seed=1))
    assert weekly(state.memory, RULE) == pytest.approx(2 * 10080, rel=0.05)
    rich = replace(state.memory, seen=1e12)
    assert weekly(rich, RULE) == ITEMS_PER_WEEK[1]


def test_the_state_is_small_and_comes_back_equal() -> None:
    huge = "жуткая\x00\ud800 доставка " * 2000
    samples = [feed.sample(1000 + i, 40 + i, negative=True, text=f"{chr(1072 + i) * 9} {huge}") for i in range(90)]
    state, _ = run(samples, calm())
    text = state.to_json()
    assert len(text.encode()) < 12_000
    assert State.from_json(text) == state
    assert all(len(quote.text) <= MAX_CHARS for quote in state.life.quotes)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "[0]", "[1,2]", "null", "[2,1,2,3]", '[2,"spike",[1],[2]]', '[2,"spike",3,4]']
)
def test_a_foreign_state_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        State.from_json(text)


def test_reposts_are_quoted_once_and_newest_last() -> None:
    texts = [f"ORDER {i}: my parcel never came, courier lied!" for i in range(40)]
    samples = [feed.sample(1000 + i, 40 + i / 10, negative=True, text=text) for i, text in enumerate(texts)]
    samples.append(feed.sample(2000, 45, negative=True, text="charged twice for one taxi"))
    state, _ = run(samples, calm())
    assert [quote.text for quote in state.life.quotes][-2:] == [texts[-1], "charged twice for one taxi"]
    assert sum("parcel" in quote.text for quote in state.life.quotes) == 1


# Simulated run lengths. Seeds are fixed, so these cannot fail by chance.


@pytest.mark.parametrize("per_minute", [0.5, 2.0])
def test_false_alarms_stay_within_the_allowance(per_minute: float) -> None:
    rule = replace(RULE, false_alarms_per_week=1.0)
    weeks, alarms = 0.0, 0
    for seed in range(4):
        # Worse than usual by a third, half of the time: still no emergency.
        dice = list(feed.stream(minutes=5 * 1440, per_minute=per_minute, share=0.25, seed=seed))
        worse = list(feed.stream(minutes=2 * 1440, per_minute=per_minute, share=0.33, seed=50 + seed, begin=5 * 1440))
        _, changes = run([*dice, *worse], rule=rule)
        alarms += len(starts(changes))
        weeks += 1
    assert alarms <= rule.false_alarms_per_week * weeks


def test_a_rise_from_25_to_60_percent_is_found() -> None:
    delays = []
    for seed in range(20):
        rise = (240.0, 300.0, 0.6)
        _, changes = run(feed.stream(minutes=300, per_minute=10, share=0.25, seed=seed, rise=rise))
        begun = [second / 60 for second in starts(changes)]
        assert all(minute >= 240 for minute in begun)
        delays += [begun[0] - 240] if begun else [math.inf]
    assert sum(map(math.isfinite, delays)) >= 19
    assert statistics.median(delays) <= 12


def test_moment_is_exact_to_the_microsecond() -> None:
    at = feed.START.replace(microsecond=123_457)
    assert moment(at.timestamp()) == at


def test_an_unsure_item_holds_the_share_down_as_any_item_that_is_not_negative() -> None:
    mixed = [feed.sample(i, i / 10, negative=i % 4 == 0) for i in range(80)]
    unsure = [item if item.sentiment == "negative" else replace(item, sentiment="unsure") for item in mixed]
    assert run(unsure) == run(mixed)
