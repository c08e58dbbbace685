"""The engine: however a stream is cut into batches, the same comes out; incidents never overlap."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.alert import MAX_EVIDENCE, Alert, Sample
from alerts.brigade import Brigade
from alerts.census import SERIES
from alerts.duplicates import Recent
from alerts.engine import Engine, Key, series_labels
from alerts.novelty import NewTopic
from alerts.rule import Rule
from alerts.series import State
from alerts.severe import Severe
from tests import feed

RULES = (
    Rule(name="by-topic", false_alarms_per_week=5, odds_ratio=3, min_items=5, resolve_after_s=120),
    Rule(name="all", group_by=(), false_alarms_per_week=5, min_items=10, runbook_url="https://r.example"),
    Rule(name="line", kind="threshold", min_items=4, share_above=0.5, window_s=600, for_s=120, keep_firing_for_s=90),
    Rule(name="many", kind="threshold", group_by=("source",), count_above=9, window_s=3600),
    Rule(name="grave", kind="severe", concerns=("safety",), words=("refund money",), resolve_after_s=300),
    Rule(name="quiet", kind="silence", group_by=("source",), baseline_s=3600, min_items=10, false_alarms_per_week=5),
    Rule(name="slow", kind="trend", window_s=86400, baseline_s=3 * 86400, min_items=5, rise=0.01),
    Rule(name="aim", kind="goal", group_by=(), window_s=4 * 86400, min_items=5, target=0.2, by=date(2026, 11, 5)),
    Rule(name="novel", kind="new_topic", group_by=(), min_items=3, certainty_below=1, false_alarms_per_week=5),
    Rule(name="copies", kind="brigade", group_by=(), min_items=2, window_s=3600, resolve_after_s=600),
    Rule(name="pairs", group_by=("topic", "source"), topics=("billing",), languages=("uz",)),
)
ENGINE = Engine(RULES, dashboard_url="https://d.example/alerts")
NOW = datetime(2027, 1, 1, tzinfo=UTC)


@st.composite
def arrivals(draw: st.DrawFn) -> list[Sample]:
    """Phases of different share, pace and order, with several topics, texts and languages."""
    samples: list[Sample] = []
    minute = 0.0
    for _ in range(draw(st.integers(1, 6))):
        share = draw(st.sampled_from([0.0, 0.25, 1.0]))
        pace = draw(st.sampled_from([0.0, 0.05, 1.0, 40.0]))
        topic = draw(st.sampled_from(["delivery", "billing", "a,b=%/é"]))
        language = draw(st.sampled_from(["en", "uz", "uz-Cyrl"]))
        late = draw(st.sampled_from([0.0, 5.0]))
        for i in range(draw(st.integers(0, 50))):
            minute += pace
            number = len(samples)
            item = feed.sample(
                number, minute - late * (i % 3), negative=i % 100 < share * 100 or i % 4 == 0, topic=topic
            )
            samples.append(replace(item, language=language))
    recent = Recent()
    return [recent.mark(item) for item in samples]


def fold(samples: list[Sample], cuts: list[int], *, ticks: bool = False) -> tuple[dict[Key, State], dict[str, Alert]]:
    """What the store holds after the batches, everything through JSON each time as in the store."""
    states: dict[Key, str] = {}
    alerts: dict[str, str] = {}
    for start, end in pairwise([0, *sorted(cuts), len(samples)]):
        batch = samples[start:end]
        keys = {key for item in batch for key in ENGINE.series_keys(item)}
        held = {key: State.from_json(states[key]) for key in keys if key in states}
        result = ENGINE.evaluate(batch, held, NOW)
        assert set(result.states) <= keys
        states |= {key: state.to_json() for key, state in result.states.items()}
        alerts |= {alert.incident: alert.to_json() for alert in result.alerts}
        if ticks and batch:
            now = max(item.at for item in samples[:end])
            known = {key: State.from_json(text) for key, text in states.items()}
            shown = [alert for alert in map(Alert.from_json, alerts.values()) if alert.state != "resolved"]
            result = ENGINE.tick(known, shown, now)
            states |= {key: state.to_json() for key, state in result.states.items()}
            alerts |= {alert.incident: alert.to_json() for alert in result.alerts}
    return (
        {key: State.from_json(text) for key, text in states.items()},
        {incident: Alert.from_json(text) for incident, text in alerts.items()},
    )


@settings(max_examples=60, deadline=None)
@given(samples=arrivals(), data=st.data())
def test_any_cut_into_batches_gives_the_same(samples: list[Sample], data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(samples)), max_size=12))
    assert fold(samples, cuts) == fold(samples, [])


@settings(max_examples=60, deadline=None)
@given(samples=arrivals(), data=st.data())
def test_any_ticks_in_between_change_nothing(samples: list[Sample], data: st.DataObject) -> None:
    samples = sorted(samples, key=lambda item: item.at)
    cuts = data.draw(st.lists(st.integers(0, len(samples)), max_size=12))
    end = (samples[-1].at if samples else NOW) + timedelta(days=1)
    outcomes = []
    for ticks in (False, True):
        states, alerts = fold(samples, cuts, ticks=ticks)
        result = ENGINE.tick(states, [alert for alert in alerts.values() if alert.state != "resolved"], end)
        alerts |= {alert.incident: alert for alert in result.alerts}
        outcomes.append({key: (one.state, one.starts_at, one.ends_at) for key, one in alerts.items()})
    assert outcomes[0] == outcomes[1]


def test_an_item_that_comes_late_is_judged_alike_whether_anybody_ticked_before_it_or_not() -> None:
    samples = [
        feed.sample(0, 0.0, negative=True, text="give me a refund money"),
        feed.sample(1, 20.0, negative=False),
        feed.sample(2, 12.0, negative=True, text="again no refund money"),
    ]
    _, plain = fold(samples, [1, 2])
    _, ticked = fold(samples, [1, 2], ticks=True)
    graves = [sorted(one.starts_at for one in alerts.values() if one.rule == "grave") for alerts in (plain, ticked)]
    assert graves[0] == graves[1] == [samples[0].at, samples[2].at]


@settings(max_examples=60, deadline=None)
@given(samples=arrivals())
def test_what_a_detector_ignores_would_have_changed_nothing(samples: list[Sample]) -> None:
    samples = sorted(samples, key=lambda item: item.at)
    _, alerts = fold(samples, [])
    with pytest.MonkeyPatch.context() as patch:
        for kind in (Severe, Brigade, NewTopic):
            patch.setattr(kind, "ignores", lambda self, rule, sample: False)
        _, shown_all = fold(samples, [])
    assert alerts == shown_all


@settings(max_examples=60, deadline=None)
@given(samples=arrivals())
def test_incidents_of_one_alert_follow_each_other(samples: list[Sample]) -> None:
    states, alerts = fold(samples, list(range(0, len(samples), 7)))
    lives: dict[str, list[Alert]] = {}
    for alert in alerts.values():
        lives.setdefault(alert.fingerprint, []).append(alert)
        assert len(alert.evidence) <= MAX_EVIDENCE
        assert (alert.ends_at is None) == (alert.state != "resolved")
        assert alert.ends_at is None or alert.ends_at >= alert.starts_at
    for life in lives.values():
        life.sort(key=lambda alert: alert.starts_at)
        for earlier, later in pairwise(life):
            assert earlier.ends_at is not None
            assert earlier.ends_at < later.starts_at
        assert all(alert.state == "resolved" for alert in life[:-1])
    shown = {alert.fingerprint: alert.state for alert in alerts.values() if alert.state != "resolved"}
    assert shown == {
        ENGINE.fingerprint(key): "firing" if state.firing else "pending" for key, state in states.items() if state.open
    }


@settings(max_examples=30, deadline=None)
@given(samples=arrivals())
def test_a_quiet_night_resolves_all_once(samples: list[Sample]) -> None:
    states, alerts = fold(samples, [])
    firing = {alert.fingerprint: alert for alert in alerts.values() if alert.state != "resolved"}
    result = ENGINE.tick(states, firing.values(), NOW)
    # The quiet itself is what one of the rules watches for.
    over = [alert for alert in result.alerts if alert.rule != "quiet"]
    begun = [alert for alert in result.alerts if alert.rule == "quiet"]
    assert {alert.incident for alert in firing.values()} <= {alert.incident for alert in over}
    assert all(alert.state == "resolved" for alert in over)
    assert all(alert.state == "firing" for alert in begun)
    assert ENGINE.tick(states | result.states, begun, NOW).alerts == ()


def firing_series() -> tuple[dict[Key, State], dict[str, Alert]]:
    samples = [feed.sample(i, i / 10, negative=i % 4 == 0) for i in range(300)]
    samples += [feed.sample(1000 + i, 30 + i / 10, negative=True) for i in range(60)]
    result = ENGINE.evaluate(samples, {}, NOW)
    assert {alert.state for alert in result.alerts} == {"firing"}
    return result.states, {alert.fingerprint: alert for alert in result.alerts}


def test_an_alert_explains_itself() -> None:
    _, alerts = firing_series()
    alert = next(alert for alert in alerts.values() if alert.rule == "by-topic")
    assert alert.labels == (("severity", "warning"), ("topic", "delivery"))
    notes = alert.annotations
    assert notes["summary"] == "More negative feedback than usual: topic delivery"
    assert notes["dashboard_url"] == "https://d.example/alerts"
    assert int(notes["negative"]) <= int(notes["total"])
    assert f"{notes['negative']} of {notes['total']} items were negative" in notes["description"]
    assert "since 2026-11-02 00:" in notes["description"] and "By chance alone" in notes["description"]
    assert 0.2 < float(notes["baseline"]) < 0.3 < float(notes["share"])
    assert notes["quotes"].count("\n") == len(alert.evidence) - 1
    assert notes["quotes"].startswith("[shop, en] ")
    assert [q.at for q in alert.evidence] == sorted((q.at for q in alert.evidence), reverse=True)
    whole = next(alert for alert in alerts.values() if alert.rule == "all")
    assert whole.annotations["summary"].endswith(": all feedback")
    assert whole.annotations["runbook_url"] == "https://r.example"


def test_a_tick_in_the_middle_tells_at_most_the_newest_evidence_once() -> None:
    states, alerts = firing_series()
    now = datetime.fromtimestamp(max(state.life.last_s for state in states.values()) + 16, UTC)
    result = ENGINE.tick(states, alerts.values(), now)
    assert result.transitions == ()
    assert {alert.incident for alert in result.alerts} <= {alert.incident for alert in alerts.values()}
    for key, state in (states | result.states).items():
        assert not state.firing or state.life.refreshed_s >= state.life.last_s, key
    told = {alert.fingerprint: alert for alert in (*alerts.values(), *result.alerts)}
    again = ENGINE.tick(states | result.states, told.values(), now + timedelta(seconds=1))
    assert again.alerts == ()


def test_an_alert_that_was_lost_is_told_again_as_the_same_incident() -> None:
    states, alerts = firing_series()
    now = datetime.fromtimestamp(max(state.life.last_s for state in states.values()), UTC)
    result = ENGINE.tick(states, (), now)
    assert {alert.incident for alert in result.alerts} == {alert.incident for alert in alerts.values()}


@pytest.mark.parametrize(
    "rules", [(), (replace(RULES[0], severity="critical"),), (replace(RULES[0], group_by=("source",)),)]
)
def test_alerts_of_changed_rules_are_resolved(rules: tuple[Rule, ...]) -> None:
    states, alerts = firing_series()
    now = datetime.fromtimestamp(max(state.life.last_s for state in states.values()), UTC) + timedelta(seconds=1)
    result = Engine(rules).tick(states, alerts.values(), now)
    ended = {alert.fingerprint for alert in result.alerts if alert.state == "resolved"}
    assert ended == set(alerts)
    begun = [alert for alert in result.alerts if alert.state == "firing"]
    assert len(begun) == (1 if rules and rules[0].severity == "critical" else 0)
    after = Engine(rules).tick(states | result.states, begun, now)
    assert after.states == {} and after.alerts == ()


def series_of(engine: Engine, item: Sample) -> list[Key]:
    """The series alone, without what counts them."""
    return [key for key in engine.series_keys(item) if key.series != SERIES]


def test_filters_and_groups() -> None:
    item = replace(feed.sample(1, 1, negative=True, topic="billing"), language="uz-Cyrl")
    assert sorted(key.rule for key in series_of(ENGINE, item)) == sorted(rule.name for rule in RULES)
    assert Key("default", "pairs", "topic=billing,source=shop") in series_of(ENGINE, item)
    assert sorted(key.rule for key in series_of(ENGINE, replace(item, language="uzb"))) == sorted(
        rule.name for rule in RULES[:-1]
    )
    odd = replace(item, topic="a,b=%/é\x00")
    (key, *_) = series_of(ENGINE, odd)
    assert series_labels(key.series) == (("topic", "a,b=%/é"),)


@pytest.mark.parametrize(
    ("setting", "field", "wanted", "other"),
    [
        ("workspaces", "workspace", "default", "test"), ("sources", "source", "shop", "mail"),
        ("channels", "channel", "review", "chat"), ("topics", "topic", "delivery", "app"),
        ("languages", "language", "uz-Cyrl", "uzb"), ("touchpoints", "touchpoint", "checkout", ""),
        ("customers", "customer", "acme", "acme2"),
    ],
)  # fmt: skip
def test_each_filter_takes_what_it_names_and_nothing_else_and_each_group_has_a_series(
    setting: str, field: str, wanted: str, other: str
) -> None:
    named = "uz" if setting == "languages" else wanted
    rule = Rule(name="a", kind="severe", words=("fire",), group_by=(), **{setting: (named,)})  # type: ignore[arg-type]
    item = replace(feed.sample(1, 1, negative=True), **{field: wanted})
    assert Engine([rule]).series_keys(item) and not Engine([rule]).series_keys(replace(item, **{field: other}))
    if field != "workspace":
        (key,) = series_of(Engine([Rule(name="b", group_by=(field,))]), item)
        assert series_labels(key.series) == ((field, wanted),)


def test_an_item_from_the_future_counts_as_now() -> None:
    now = feed.START + timedelta(minutes=5)
    item = replace(feed.sample(1, 1, negative=False), at=feed.START + timedelta(days=300))
    result = ENGINE.evaluate([item], {}, now)
    assert {state.life.last_s for key, state in result.states.items() if key.series != SERIES} == {now.timestamp()}
