"""Cursors, leases and gaps, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.connector import Gap
from pipeline.store.connectors import ConnectorStore, Ear, LeaseLost, Run, blind, blinded, gaps, progress
from pipeline.store.read import reading
from tests.store import NOW, opened

RUN = Run(source="trustpilot", instance="shop")
LEASE = timedelta(seconds=15)


@pytest.fixture
def engine(store_url: str) -> Iterator[sa.Engine]:
    with opened(store_url) as made:
        yield made


def process(engine: sa.Engine, name: str) -> ConnectorStore:
    return ConnectorStore(engine, holder=name, lease=LEASE)


def test_one_process_at_a_time_drives_a_run(engine: sa.Engine) -> None:
    first, second = process(engine, "a"), process(engine, "b")
    assert first.acquire(RUN, "default", now=NOW) is not None
    assert second.acquire(RUN, "default", now=NOW + LEASE / 2) is None
    first.renew(now=NOW + LEASE / 2)
    assert second.acquire(RUN, "default", now=NOW + LEASE) is None
    assert first.acquire(RUN, "default", now=NOW + LEASE) is not None, "its own lease is no hindrance"


def test_a_process_that_died_is_followed_by_another_from_the_cursor_it_saved(engine: sa.Engine) -> None:
    first, second = process(engine, "a"), process(engine, "b")
    first.acquire(RUN, "default", now=NOW)
    first.save(RUN, now=NOW, cursor={"high": 7, "ids": ["ä"]}, items=3, last_event=NOW - LEASE)
    later = NOW + 2 * LEASE
    taken = second.acquire(RUN, "default", now=later)
    assert taken is not None and taken.cursor == {"high": 7, "ids": ["ä"]} and taken.items == 3
    assert taken.last_event == NOW - LEASE and taken.last_success == NOW
    with pytest.raises(LeaseLost):
        first.save(RUN, now=later, cursor={"high": 1})
    again = second.acquire(RUN, "default", now=later)
    assert again is not None and again.cursor == {"high": 7, "ids": ["ä"]}, "the late process changed nothing"


def test_a_process_that_ends_gives_its_leases_back(engine: sa.Engine) -> None:
    first, second = process(engine, "a"), process(engine, "b")
    first.acquire(RUN, "default", now=NOW)
    first.release()
    assert second.acquire(RUN, "default", now=NOW) is not None


def test_runs_of_another_instance_or_purpose_are_their_own(engine: sa.Engine) -> None:
    store = process(engine, "a")
    runs = [RUN, Run(source="trustpilot", instance="bank"), Run(source="trustpilot", instance="shop", purpose="x")]
    for number, run in enumerate(runs):
        store.acquire(run, "default", now=NOW)
        store.save(run, now=NOW, cursor={"n": number})
    with reading(engine) as connection:
        assert {one.run: one.cursor for one in progress(connection)} == {r: {"n": n} for n, r in enumerate(runs)}


def test_a_cursor_stays_unless_another_comes_or_it_is_forgotten(engine: sa.Engine) -> None:
    store = process(engine, "a")
    store.acquire(RUN, "default", now=NOW)
    store.save(RUN, now=NOW, cursor={"n": 1})
    store.save(RUN, now=NOW, state="backing_off", message="away", success=False)
    held = store.acquire(RUN, "default", now=NOW)
    assert held is not None and (held.cursor, held.state, held.message) == ({"n": 1}, "backing_off", "away")
    store.save(RUN, now=NOW, forget=True)
    held = store.acquire(RUN, "default", now=NOW)
    assert held is not None and held.cursor is None


def test_gaps_are_found_by_the_time_they_touch(engine: sa.Engine) -> None:
    store = process(engine, "a")
    store.acquire(RUN, "default", now=NOW)
    hour = timedelta(hours=1)
    gap = Gap(since=NOW - 2 * hour, until=NOW - hour, reason="the cursor was too old")
    store.save(RUN, now=NOW, cursor={"n": 1}, gaps=[gap])
    store.note([gap], workspace="default", source="whatsapp", instance="", now=NOW)
    store.note([gap], workspace="default", source="whatsapp", instance="", now=NOW)
    store.note([gap], workspace="other", source="slack", instance="", now=NOW)
    with reading(engine) as connection:
        found = gaps(connection, "default", since=NOW - 3 * hour / 2, until=NOW)
        assert [(one.source, one.since, one.until) for one in found] == [
            ("trustpilot", gap.since, gap.until), ("whatsapp", gap.since, gap.until),
        ]  # fmt: skip
        assert [one.source for one in gaps(connection, "default", since=NOW - 3 * hour, until=NOW, sources=["x"])] == []
        assert gaps(connection, "default", since=NOW - hour / 2, until=NOW) == []
        assert gaps(connection, "default", since=NOW - 5 * hour, until=NOW - 3 * hour) == []


def test_a_gap_that_is_lost_with_its_process_is_lost_with_its_cursor_too(engine: sa.Engine) -> None:
    first, second = process(engine, "a"), process(engine, "b")
    first.acquire(RUN, "default", now=NOW)
    second.acquire(RUN, "default", now=NOW + 2 * LEASE)
    with pytest.raises(LeaseLost):
        first.save(RUN, now=NOW, cursor={"n": 1}, gaps=[Gap(since=NOW, until=NOW, reason="x")])
    with reading(engine) as connection:
        assert gaps(connection, "default", since=NOW - LEASE, until=NOW + LEASE) == []


def test_blind_are_the_connectors_that_stopped_or_had_no_answer(engine: sa.Engine) -> None:
    store = process(engine, "a")
    for name, state, ago in (("well", "running", 1), ("late", "backing_off", 20), ("refused", "stopped", 1)):
        run = Run(source="trustpilot", instance=name)
        store.acquire(run, "default", now=NOW)
        store.save(run, now=NOW - timedelta(minutes=ago), state=state, message=name)
    store.acquire(Run(source="trustpilot", instance="old", purpose="since 2026"), "default", now=NOW)
    store.renew(now=NOW)
    with reading(engine) as connection:
        assert [one.run.instance for one in blind(connection, "default", now=NOW)] == ["late", "refused"]
        assert not blind(connection, "other", now=NOW)
        assert not blind(connection, "default", now=NOW + timedelta(hours=1)), "nobody has them any more"


REASON = "no webhook was open"


def heard(engine: sa.Engine, name: str, since_s: float, now_s: float, to: str = "team") -> list[tuple[float, float]]:
    run, since = Run(source="slack", instance=to), NOW + timedelta(seconds=since_s)
    ear = Ear(run=run, workspace="default", since=since, repeated=timedelta(seconds=60))
    found = process(engine, name).hear([ear], now=NOW + timedelta(seconds=now_s), reason=REASON)
    return [((gap.since - NOW).total_seconds(), (gap.until - NOW).total_seconds()) for _, gap in found]


def test_a_time_without_an_open_webhook_is_a_gap_if_it_is_longer_than_the_sender_repeats(engine: sa.Engine) -> None:
    assert heard(engine, "a", 0, 0) == [], "who has never listened has missed nothing that he was told"
    assert heard(engine, "a", 0, 5) == []
    assert heard(engine, "b", 65, 65) == [], "60 s after the last note all was repeated"
    assert heard(engine, "c", 126, 130) == [(65, 126)]
    assert heard(engine, "c", 126, 135) == [], "it is noted once"
    with reading(engine) as connection:
        (gap,) = gaps(connection, "default", since=NOW, until=NOW + timedelta(hours=1))
        assert (gap.source, gap.instance, gap.reason) == ("slack", "team", REASON)
        assert blinded(connection, ["default"], since=NOW + timedelta(seconds=100), until=NOW + timedelta(hours=1)) == {
            "slack": 26_000_000
        }


def test_while_another_process_was_open_there_is_no_gap(engine: sa.Engine) -> None:
    heard(engine, "a", 0, 0)
    for second in range(5, 300, 5):
        heard(engine, "a", 0, second)
    assert heard(engine, "b", 299, 299) == []
    assert heard(engine, "a", 0, 290) == [], "a note that comes late sets nothing back"
    assert heard(engine, "b", 350, 350) == []
    assert heard(engine, "b", 411, 412) == [(350, 411)]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 100), st.booleans()), max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_exactly_the_times_in_which_nobody_noted_himself_for_longer_than_that_are_gaps(
    engine: sa.Engine, steps: list[tuple[str, int, bool]]
) -> None:
    """At each step one of two processes notes that it is open: ever since its last note, or anew."""
    to, now, last, since, expected, found = uuid.uuid4().hex, 0.0, None, dict[str, float](), [], []
    for name, pause, anew in steps:
        now += pause
        since[name] = now if anew or name not in since else since[name]
        if last is not None and since[name] - last > 60:
            expected.append((last, since[name]))
        found += heard(engine, name, since[name], now, to)
        last = now
    assert found == expected
