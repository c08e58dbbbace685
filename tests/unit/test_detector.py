"""The detector: what it learns, when it pages, when it lets go; and its false alarms, simulated."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import pytest

from alerts.alert import Sample, moment
from alerts.baseline import LEAST_SHARE_WANDER, PRIOR_ITEMS, SHARE_WANDER, VOLUME_WANDER, Baseline
from alerts.detector import weeks_by_chance
from alerts.likelihood import beta_binomial, more_items, worse_share
from alerts.quotes import KEPT, MAX_CHARS
from alerts.rule import Rule
from alerts.series import Change, State, start, step, tick
from alerts.window import Window
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
    assert START.memory.baseline.share == 0.25
    few, changes = run(feed.sample(i, i, negative=True) for i in range(3))
    assert few.memory.baseline.share < 0.35 and not changes
    state, _ = run(feed.stream(minutes=600, per_minute=10, share=0.1, seed=1))
    assert state.memory.baseline.share == pytest.approx(0.1, abs=0.02)


def test_learning_fades_with_event_time_but_a_pause_costs_at_most_its_cap() -> None:
    learned = calm().memory.baseline
    later = learned.at(learned.last_s + 365 * 86400, RULE.half_life_s, held=False)
    assert later.b == pytest.approx(learned.b * 0.5 ** (1 / 1500) + learned.recent)
    assert later.recent == pytest.approx(0)
    assert later.b > PRIOR_ITEMS


def test_what_is_new_is_learned_later_and_hardly_at_all_during_an_incident() -> None:
    base = Baseline(a=250, b=1000, items=1000)
    for _ in range(100):
        base = base.counted(bad=True, held=False)
    assert (base.a, base.b, base.recent) == (250, 1000, 100)
    hour_s = 3600.0
    free, held = (base.at(hour_s, RULE.half_life_s, held=held) for held in (False, True))
    assert free.b == pytest.approx(1050, abs=1) and held.b == pytest.approx(1005, abs=1)
    assert free.recent == held.recent == pytest.approx(50)


def hours(shares: Iterable[float], items: Iterable[int], days: int, seed: int = 1) -> Baseline:
    """A baseline after hours of these shares and numbers, over and over."""
    dice, base, half_life_s = random.Random(seed), Baseline(), RULE.half_life_s
    pattern = list(zip(shares, items, strict=True))
    for hour in range(days * 24):
        share, number = pattern[hour % len(pattern)]
        for i in range(number):
            base = base.at(hour * 3600 + i * 3600 / number, half_life_s, held=False)
            base = base.counted(bad=dice.random() < share, held=False)
    return base


def test_the_hours_of_the_week_are_learned_and_shrunk_while_little_is_known() -> None:
    shares, items = [0.2] * 12 + [0.4] * 12, [20] * 12 + [100] * 12
    short, long = hours(shares, items, 2), hours(shares, items, 28)

    def usual(base: Baseline, hour: int) -> tuple[float, float]:
        now = base.at((28 * 24 + hour) * 3600, RULE.half_life_s, held=True)
        return now.share, now.hour.rate

    assert usual(long, 3) == pytest.approx((0.2, 20), rel=0.12)
    assert usual(long, 15) == pytest.approx((0.4, 100), rel=0.12)
    assert 0.2 < usual(short, 3)[0] < usual(short, 15)[0] < 0.42
    assert usual(short, 15)[1] == pytest.approx(100, rel=0.3)


def test_the_wander_between_hours_is_learned_and_one_incident_moves_it_little() -> None:
    dice = random.Random(5)
    steady = hours([0.25], [60], 14)
    swinging = hours([max(0.02, dice.gauss(0.25, 0.1)) for _ in range(24 * 14)], [60] * 24 * 14, 14)
    assert LEAST_SHARE_WANDER <= steady.share_wander.value < 0.7 * SHARE_WANDER
    assert steady.volume_wander.value < VOLUME_WANDER / 2
    assert 0.03 < swinging.share_wander.value < 0.09  # 0.01 / (0.25 * 0.75) = 0.053
    spiked = hours([0.25] * 335 + [0.9], [60] * 336, 14).at(14 * 86400 + 1, RULE.half_life_s, held=False)
    assert spiked.share_wander.value < 2 * steady.share_wander.value + 0.001


def test_incidents_that_were_missed_hide_the_next_ones_little() -> None:
    dice = random.Random(5)
    usual = [max(0.02, dice.gauss(0.25, 0.05)) for _ in range(24 * 14)]
    missed = list(usual)
    for day in range(14):
        missed[day * 24 + dice.randrange(24)] = 0.6
    without, beside = (hours(shares, [120] * len(shares), 14).share_wander.value for shares in (usual, missed))
    assert SHARE_WANDER < without < 1.5 * SHARE_WANDER
    assert without < beside < 1.5 * without


def test_a_share_that_jumps_every_hour_is_learned_to_wander_so() -> None:
    dice = random.Random(5)
    jumping = [dice.choice([0.1, 0.4]) for _ in range(24 * 14)]
    assert hours(jumping, [120] * len(jumping), 14).share_wander.value > 0.08  # 0.15² / (0.25 * 0.75) = 0.12


def test_likelihoods_are_those_of_the_textbook() -> None:
    assert beta_binomial(1, 1, 0.25, 10) == pytest.approx(math.log(0.25))
    assert beta_binomial(2, 2, 0.25, 10) == pytest.approx(math.log(0.25 * 3.5 / 11))
    assert worse_share(1, 1, 0.25, [3]) == pytest.approx(math.log(0.5))
    assert worse_share(0, 1, 0.25, [3, 3]) == pytest.approx(math.log(0.5))
    poisson = 3 * math.log(2 * 2) - 4 - (3 * math.log(2) - 2)
    assert more_items(3, 2, 1e9, [2]) == pytest.approx(poisson, abs=1e-4)
    assert more_items(30, 10, 1, [2]) < more_items(30, 10, 100, [2])


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
    at_work = first.state.memory.run
    assert at_work.evidence >= at_work.need and weeks_by_chance(at_work, RULE) >= 1 / RULE.false_alarms_per_week
    assert first.state.life.total <= 150 and first.state.life.matched / first.state.life.total > 0.7
    assert at_work.usual == pytest.approx(0.25, abs=0.03)
    assert feed.START.timestamp() + 2400 <= (first.state.life.onset_s or 0) <= feed.START.timestamp() + 2460
    assert 1 <= len(first.state.life.quotes) <= KEPT


def test_a_young_series_pages_within_minutes_on_overwhelming_evidence() -> None:
    good = [feed.sample(i, i / 10, negative=False) for i in range(200)]
    _, changes = run([*good, *(feed.sample(1000 + i, 20 + i / 10, negative=True) for i in range(60))])
    assert len(starts(changes)) == 1 and starts(changes)[0] <= 22 * 60
    _, changes = run([*good, *(feed.sample(1000 + i, 20 + i / 10, negative=i % 10 == 0) for i in range(300))])
    assert not changes


def test_what_went_before_does_not_dilute_a_rise() -> None:
    doubtful = [feed.sample(1000 + i, 40 + i / 10, negative=i % 10 < 4) for i in range(600)]
    calm_after, changes = run(doubtful, calm(4000))
    assert not changes
    rise = [feed.sample(2000 + i, 400 + i / 10, negative=i % 10 < 7) for i in range(200)]
    state, changes = run(rise, calm_after)
    assert state.firing and (changes[0].state.life.onset_s or 0) >= feed.START.timestamp() + 399 * 60


def test_copies_that_slipped_through_do_not_page_beside_those_that_were_recognised() -> None:
    posts = [feed.sample(1000 + i, 40 + i / 20, negative=True) for i in range(400)]
    posts = [item if i % 10 == 0 else replace(item, copy_of="first") for i, item in enumerate(posts)]
    usual = [feed.sample(2000 + i, 40 + i, negative=i % 4 == 0) for i in range(20)]
    brigade = sorted([*posts, *usual], key=lambda item: item.at)
    assert not run(brigade, calm())[1]
    assert run([item for item in brigade if not item.copy_of], calm())[1], "as many without a known copy do"


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
    assert not state.firing and state.memory.run is None and state.life.ended_s == changes[-1].at_s
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
    before, changes = tick(state, RULE, end_s - 0.001)
    assert before.open and not [change for change in changes if change.turn]
    by_tick, (*_, told) = tick(state, RULE, end_s + 500)
    assert told.status == "resolved" and told.at_s == end_s
    late = feed.sample(9999, 600, negative=False)
    by_item, found = run([late], state)
    assert [c.at_s for c in found if c.turn] == [end_s]
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
    assert state.memory.baseline.items == 401


def test_stakes_never_exceed_the_time_that_passed() -> None:
    state, _ = run(feed.stream(minutes=3 * 1440, per_minute=2, share=0.25, seed=1))
    passed = (state.life.last_s - feed.START.timestamp()) / (7 * 86400)
    assert 0 < state.memory.unstaked < passed


VOLUME = Rule(name="v", kind="volume")


def test_many_more_items_than_usual_fire_a_volume_rule_whatever_they_say() -> None:
    usual = list(feed.stream(minutes=3 * 1440, per_minute=2, share=0.1, seed=1))
    burst = list(feed.stream(minutes=30, per_minute=12, share=0.1, seed=2, begin=3 * 1440))
    after = list(feed.stream(minutes=120, per_minute=2, share=0.1, seed=3, begin=3 * 1440 + 30))
    _, changes = run([*usual, *burst, *after], start(VOLUME), VOLUME)
    assert [change.status for change in changes if change.turn] == ["firing", "resolved"]
    first = changes[0].state
    assert 3 * 1440 <= starts(changes)[0] / 60 <= 3 * 1440 + 10
    assert first.life.total > 2 * first.memory.run.expected > 0
    assert not run([*usual, *burst])[1], "a spike is about the share"
    _, early = run(burst, start(VOLUME), VOLUME)
    assert not early, "nothing is known of the usual number yet"


def test_more_items_than_usual_help_a_spike() -> None:
    usual = list(feed.stream(minutes=3 * 1440, per_minute=2, share=0.25, seed=1))
    known, _ = run(usual)
    delays = []
    for pace in (2.0, 6.0):
        found = []
        for seed in range(10):
            _, changes = run(feed.stream(minutes=60, per_minute=pace, share=0.6, seed=seed, begin=3 * 1440), known)
            items = changes[0].state.life.total if changes else 10**6
            found.append(items)
        delays.append(statistics.median(found))
    assert delays[1] < delays[0]


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


def test_a_rise_without_more_items_is_found_by_its_window() -> None:
    known, changes = run(feed.stream(minutes=3 * 1440, per_minute=2, share=0.25, seed=1))
    assert not changes
    # Its slots never begin.
    blind = known._replace(memory=known.memory._replace(window=Window(until_s=math.inf)))
    found = {"known": 0, "blind": 0}
    for seed in range(20):
        for name, state in (("known", known), ("blind", blind)):
            _, changes = run(feed.stream(minutes=60, per_minute=2, share=0.5, seed=seed, begin=3 * 1440), state)
            found[name] += bool(changes)
            if changes:
                assert weeks_by_chance(changes[0].state.memory.run, RULE) >= 1 / RULE.false_alarms_per_week
    assert found["known"] >= 12 and found["known"] >= found["blind"] + 5, found


def test_what_ended_does_not_page_again_by_its_window() -> None:
    known, _ = run(feed.stream(minutes=3 * 1440, per_minute=2, share=0.25, seed=1))
    for seed in range(5):
        rise = feed.stream(minutes=40, per_minute=6, share=0.7, seed=seed, begin=3 * 1440)
        after = feed.stream(minutes=180, per_minute=2, share=0.25, seed=50 + seed, begin=3 * 1440 + 40)
        _, changes = run([*rise, *after], known)
        assert [change.status for change in changes if change.turn] == ["firing", "resolved"]


def test_moment_is_exact_to_the_microsecond() -> None:
    at = feed.START.replace(microsecond=123_457)
    assert moment(at.timestamp()) == at


def test_an_unsure_item_holds_the_share_down_as_any_item_that_is_not_negative() -> None:
    mixed = [feed.sample(i, i / 10, negative=i % 4 == 0) for i in range(80)]
    unsure = [item if item.sentiment == "negative" else replace(item, sentiment="unsure") for item in mixed]
    assert run(unsure) == run(mixed)


def test_an_incident_of_many_days_goes_on_without_a_fault() -> None:
    known = calm()
    state, _ = run((feed.sample(1000 + i, 40 + i / 10, negative=i % 5 != 0) for i in range(150)), known)
    assert state.firing
    state, _ = run((feed.sample(2000 + i, 60 + 10 * i, negative=i % 5 != 0) for i in range(400)), state)
    assert state.firing
