"""What each receiver hears of an incident, and when; on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta

import pytest
import sqlalchemy as sa

from alerts.engine import Engine
from alerts.hours import Hours
from alerts.rule import Rule
from connectors.connector import Gap
from pipeline.records import Scored
from pipeline.store import incidents, schema
from pipeline.store.connectors import ConnectorStore, Run
from pipeline.store.read import reading
from pipeline.store.transaction import Store
from tests.store import LOG, NOW, RETENTION, arrival, opened, scored, store_on

RULE = Rule(name="grave", kind="severe", words=("fire",), resolve_after_s=600)
PENDING = Rule(name="line", kind="threshold", min_items=2, share_above=0.5, window_s=3600, for_s=300)
LEASE = timedelta(seconds=100)


@pytest.fixture
def engine(store_url: str) -> Iterator[sa.Engine]:
    with opened(store_url) as made:
        yield made


class Ear:
    """A receiver that takes everything."""

    def __init__(self, engine: sa.Engine, name: str, *, renew: timedelta | None = None, everything: bool = False):
        self.engine, self.name, self.renew, self.everything = engine, name, renew, everything

    def hears(self, now: datetime) -> list[tuple[str, int]]:
        with reading(self.engine) as connection:
            due = incidents.due(
                connection, self.name, ["default"], now=now, renew_after=self.renew, all_changes=self.everything
            )
        with self.engine.begin() as connection:
            incidents.delivered(connection, self.name, due, now=now)
        assert all(alert.revision == revision for alert, revision in due)
        return [(alert.state, revision) for alert, revision in due]


def fold(store: Store, offset: int, *items: Scored) -> None:
    store.fold([arrival(offset, *items)], now=NOW)


def fire(name: str, minutes_ago: float = 5) -> Scored:
    return scored(name, text=f"it caught fire {name}", minutes_ago=minutes_ago)


def end(store: Store, minutes: float) -> Sequence[tuple[str, str]]:
    return store.tick("default", (LOG, 0), stream_now=NOW + timedelta(minutes=minutes))


def test_one_incident_one_page_and_one_end(engine: sa.Engine) -> None:
    store, ear = store_on(engine, rules=[RULE]), Ear(engine, "mail")
    fold(store, 0, fire("a"))
    assert ear.hears(NOW) == [("firing", 1)]
    fold(store, 1, fire("b", 4))
    assert ear.hears(NOW) == []
    assert [state for _, state in end(store, 30)] == ["resolved"]
    assert [state for state, _ in ear.hears(NOW)] == ["resolved"]
    assert ear.hears(NOW) == [] and end(store, 40) == ()


def test_a_lease_is_renewed_and_its_end_repeated(engine: sa.Engine) -> None:
    store, ear = store_on(engine, rules=[RULE]), Ear(engine, "alertmanager", renew=LEASE)
    fold(store, 0, fire("a"))
    assert ear.hears(NOW) == [("firing", 1)] and ear.hears(NOW) == []
    assert ear.hears(NOW + LEASE) == [("firing", 1)]


def test_programs_hear_of_every_revision_and_of_what_is_only_pending(engine: sa.Engine) -> None:
    store = store_on(engine, rules=[PENDING])
    ear, people = Ear(engine, "topic", everything=True), Ear(engine, "mail")
    fold(store, 0, scored("a"), scored("b"))
    assert ear.hears(NOW) == [("pending", 1)] and ear.hears(NOW) == []
    assert people.hears(NOW) == []
    assert [state for _, state in end(store, 6)] == ["firing"]
    assert ear.hears(NOW) == [("firing", 2)] and people.hears(NOW) == [("firing", 2)]


def test_what_was_only_pending_is_never_told_to_people(engine: sa.Engine) -> None:
    store = store_on(engine, rules=[PENDING])
    ear, people = Ear(engine, "topic", everything=True), Ear(engine, "mail")
    fold(store, 0, scored("a"), scored("b"))
    fold(store, 1, *(scored(f"good{i}", mood="positive", minutes_ago=4) for i in range(5)))
    assert ear.hears(NOW) == [("resolved", 2)] and people.hears(NOW) == []


def test_outside_of_working_hours_people_wait_and_programs_do_not(engine: sa.Engine) -> None:
    rule = replace(RULE, hours=Hours(begin=time(15), end=time(18)))  # NOW is Tuesday, 12:00
    store = store_on(engine, rules=[rule])
    fold(store, 0, fire("a"))
    ear, people = Ear(engine, "topic", everything=True), Ear(engine, "mail")
    assert ear.hears(NOW) == [("firing", 1)]
    assert people.hears(NOW) == [] and people.hears(NOW + timedelta(hours=2, minutes=59)) == []
    assert people.hears(NOW + timedelta(hours=3)) == [("firing", 1)]


def test_incidents_leave_with_their_quotes_when_their_retention_ends_and_open_ones_stay(engine: sa.Engine) -> None:
    store, ear = store_on(engine, rules=[RULE, PENDING]), Ear(engine, "mail")
    fold(store, 0, fire("a"), scored("b"), scored("c"))
    end(store, 0)
    ear.hears(NOW)
    end(store, 30)
    ear.hears(NOW)

    def rows() -> list[tuple[int, int]]:
        with reading(engine) as connection:
            tables = schema.alert, schema.delivery
            return [tuple(connection.scalar(sa.select(sa.func.count()).select_from(one)) or 0 for one in tables)]

    before = rows()
    ended = NOW + timedelta(minutes=30)
    assert store.prune_incidents(ended + RETENTION - timedelta(hours=1)) == 0 and rows() == before
    assert store.prune_incidents(ended + RETENTION + timedelta(hours=1)) == 1
    with reading(engine) as connection:
        assert connection.scalars(sa.select(schema.alert.c.state)).all() == ["firing"]
        told = connection.scalars(sa.select(schema.delivery.c.incident)).all()
        assert set(told) <= set(connection.scalars(sa.select(schema.alert.c.incident)).all())


def test_other_rules_end_the_alerts_of_those_that_are_gone_and_keep_what_the_rest_have_learned(
    engine: sa.Engine,
) -> None:
    kept = Rule(name="kept", min_items=2)
    store = store_on(engine, rules=[RULE, kept])
    fold(store, 0, fire("a"), scored("b"), scored("c"))
    end(store, 0)
    store.settle()
    learned = _state(engine, "kept")
    store.use_rules(Engine([kept]))
    assert end(store, 0) == (("grave", "resolved"),)
    assert _state(engine, "kept") == learned


def _state(engine: sa.Engine, rule: str) -> str:
    with reading(engine) as connection:
        return str(connection.scalar(sa.select(schema.detector.c.state).where(schema.detector.c.rule == rule)))


def test_an_alert_names_the_sources_that_are_blind(engine: sa.Engine) -> None:
    quiet = Rule(
        name="quiet", kind="silence", group_by=("source",), baseline_s=60, min_items=5, false_alarms_per_week=5
    )
    store = store_on(engine, rules=[quiet, RULE])
    spoken = (scored(f"m{i}", source="mail", minutes_ago=55 - i / 10, mood="positive") for i in range(100))
    fold(store, 0, *spoken)
    assert [rule for rule, _ in end(store, 0)] == ["quiet"]
    fold(store, 1, fire("a"))
    with reading(engine) as connection:
        (alert,) = [one for one, _ in incidents.due(connection, "x", ["default"], now=NOW, renew_after=None)
                    if one.rule == "grave"]  # fmt: skip
    assert alert.annotations["blind_sources"] == "mail"


def test_an_alert_names_the_gaps_and_the_stopped_connectors_of_its_time(engine: sa.Engine) -> None:
    store, hour = store_on(engine, rules=[RULE]), timedelta(hours=1)
    listening = ConnectorStore(engine, holder="x", lease=hour)
    for source, begin in (("slack", NOW - hour / 2), ("old", NOW - 9 * hour)):
        gap = Gap(since=begin, until=begin + hour / 4, reason="no webhook was open")
        listening.note([gap], workspace="default", source=source, instance="team", now=NOW)
    run = Run(source="yelp", instance="shop")
    listening.acquire(run, "default", now=NOW)
    listening.save(run, now=NOW - hour, state="stopped", message="401: renew the key", success=False)
    fold(store, 0, fire("a"))
    with reading(engine) as connection:
        ((alert, _),) = incidents.due(connection, "x", ["default"], now=NOW, renew_after=None)
    assert alert.annotations["blind_sources"] == "slack, yelp"
    assert "slack team from 2" in alert.annotations["missing"] and "no webhook was open" in alert.annotations["missing"]
    assert "yelp shop" in alert.annotations["missing"] and "renew the key" in alert.annotations["missing"]


def attempt(engine: sa.Engine, now: datetime) -> list[tuple[str, str]]:
    """What is due to a receiver that cannot tell a repetition, each with the claim on it."""
    found = []
    with engine.begin() as connection:
        for alert, _ in incidents.due(connection, "chat", ["default"], now=now, renew_after=None):
            found.append((alert.state, incidents.claim(connection, "chat", alert, now=now)))
    return found


def test_an_attempt_belongs_to_one_worker_until_it_must_have_died(engine: sa.Engine) -> None:
    store = store_on(engine, rules=[RULE])
    fold(store, 0, fire("a"))
    with reading(engine) as connection:
        ((alert, _),) = incidents.due(connection, "chat", ["default"], now=NOW, renew_after=None)
    assert attempt(engine, NOW) == [("firing", "free")]
    with engine.begin() as connection:
        assert incidents.claim(connection, "chat", alert, now=NOW) == "taken", "who looked before it was claimed"
    assert attempt(engine, NOW + incidents.ATTEMPT) == []
    later = NOW + incidents.ATTEMPT + timedelta(seconds=1)
    assert attempt(engine, later) == [("firing", "unfinished")]
    assert attempt(engine, later) == []
    assert attempt(engine, NOW - timedelta(hours=1)) == [("firing", "unfinished")], "the clock was set back"
    with engine.begin() as connection:
        incidents.delivered(connection, "chat", [(alert, 1)], now=later)
        assert incidents.claim(connection, "chat", alert, now=later) == "taken"
    assert attempt(engine, later + timedelta(hours=1)) == []


@pytest.mark.parametrize(("refused", "told"), [(True, []), (False, [("resolved", "free")])])
def test_the_end_is_told_of_what_may_have_been_announced_and_only_of_that(
    engine: sa.Engine, refused: bool, told: list[tuple[str, str]]
) -> None:
    store = store_on(engine, rules=[RULE])
    fold(store, 0, fire("a"))
    with reading(engine) as connection:
        ((alert, _),) = incidents.due(connection, "chat", ["default"], now=NOW, renew_after=None)
    assert attempt(engine, NOW) == [("firing", "free")]
    if refused:
        with engine.begin() as connection:
            incidents.release(connection, "chat", alert, "free")
        assert attempt(engine, NOW) == [("firing", "free")], "at once"
        with engine.begin() as connection:
            incidents.release(connection, "chat", alert, "free")
    end(store, 30)
    assert attempt(engine, NOW + timedelta(minutes=1)) == told


def test_a_refusal_does_not_undo_the_doubt_about_an_earlier_attempt(engine: sa.Engine) -> None:
    store = store_on(engine, rules=[RULE])
    fold(store, 0, fire("a"))
    with reading(engine) as connection:
        ((alert, _),) = incidents.due(connection, "chat", ["default"], now=NOW, renew_after=None)
    attempt(engine, NOW)
    later = NOW + timedelta(minutes=1)
    assert attempt(engine, later) == [("firing", "unfinished")]
    with engine.begin() as connection:
        incidents.release(connection, "chat", alert, "unfinished")
    assert attempt(engine, later) == [("firing", "unfinished")]
