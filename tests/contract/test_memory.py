"""What is remembered between transactions: the same after a restart, beside another writer, after a failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import pytest
import sqlalchemy as sa

from alerts.rule import Rule
from alerts.series import State
from pipeline.live_rules import read_rules
from pipeline.records import Scored
from pipeline.store import memory, read, schema
from pipeline.store.read import reading
from pipeline.store.transaction import Arrival, Store
from tests.store import NOW, arrival, opened, scored, store_on

POSITION = ("scored-life-1", 0)
RULES = [
    Rule(name="spike", group_by=("topic",), min_items=5, false_alarms_per_week=50),
    Rule(name="grave", kind="severe", words=("fire",)),
    Rule(name="copies", kind="brigade", min_items=3, min_authors=1),
    *(rule for rule in read_rules(None) if rule.kind in ("silence", "new_topic", "trend")),
]


@pytest.fixture
def engine(store_url: str) -> Iterator[sa.Engine]:
    with opened(store_url) as made:
        yield made


def batches() -> list[Arrival]:
    """Forty batches: calm, then negative, with copies and a severe item among them, in two workspaces."""
    made = []
    for number in range(40):
        items: list[Scored] = []
        for part in range(4):
            index = number * 4 + part
            text = (
                "nobody answers and the parcel lies somewhere in the rain" if index % 7 == 0 else f"it is {index} days"
            )
            items.append(
                scored(
                    f"i{index}",
                    mood="negative" if number > 20 or index % 4 == 0 else "positive",
                    topic=("delivery", "other")[index % 2],
                    text="my charger caught fire" if index == 50 else text,
                    workspace=("default", "second")[index % 3 == 0],
                    author_hash=f"author-{index % 5}",
                    minutes_ago=200 - index,
                )
            )
        made.append(arrival(number, *items))
    return made


def learned(engine: sa.Engine) -> dict[str, list[str]]:
    """States, alerts and signatures; what is left of the journal."""
    tables = (schema.detector, schema.alert, schema.signature, schema.journal)
    with reading(engine) as connection:
        rows = {table.name: [tuple(row) for row in connection.execute(sa.select(table))] for table in tables}
    return {name: sorted(map(str, found)) for name, found in rows.items()}


@pytest.fixture
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    with opened(f"sqlite:///{tmp_path_factory.mktemp('whole') / 'ovoz.db'}") as engine:
        store = store_on(engine, rules=RULES)
        for one in batches():
            store.fold([one], now=NOW)
        store.settle()
        found = learned(engine)
    assert found["detector"] and found["alert"] and not found["journal"]
    return found


@pytest.mark.parametrize("every", [1, 3, 7])
def test_a_worker_that_dies_at_any_moment_leaves_what_its_successor_needs(
    engine: sa.Engine, expected: object, every: int
) -> None:
    store = store_on(engine, rules=RULES)
    for number, one in enumerate(batches()):
        if number % every == 0:
            store = store_on(engine, rules=RULES)
        store.fold([one], now=NOW)
        if number % 5 == 0:
            store.settle()
    store.settle()
    assert learned(engine) == expected


def test_two_workers_in_turn_learn_what_one_does(engine: sa.Engine, expected: object) -> None:
    writers = [store_on(engine, rules=RULES), store_on(engine, rules=RULES)]
    for number, one in enumerate(batches()):
        writers[number // 3 % 2].fold([one], now=NOW)
        # One that has lost the workspace writes what it still holds, and does no harm.
        writers[number % 2].settle()
    for writer in writers:
        writer.settle()
    assert learned(engine) == expected


def test_a_transaction_that_failed_has_taught_nothing(
    engine: sa.Engine, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_on(engine, rules=RULES)
    for one in batches():
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.store.transaction._account", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                store.fold([one], now=NOW)
        with monkeypatch.context() as patch:
            patch.setattr(memory.Remembered, "write", lambda *_: 1 / 0)
            with suppress(ZeroDivisionError):
                store.settle()
        store.fold([one], now=NOW)
    store.settle()
    assert learned(engine) == expected


def test_what_a_dead_worker_left_in_the_journal_is_due_for_a_look(engine: sa.Engine) -> None:
    store_on(engine, rules=RULES).fold(batches()[:3], now=NOW)
    with reading(engine) as connection:
        assert read.stirring(connection, {"default": NOW, "second": NOW}) == {"default", "second"}
    successor = store_on(engine, rules=RULES)
    for name in ("default", "second"):
        successor.tick(name, POSITION, stream_now=NOW)
    found = learned(engine)
    assert found["detector"] and not found["journal"]


def test_the_journal_of_other_rules_is_written_before_they_change(engine: sa.Engine) -> None:
    store: Store = store_on(engine, rules=RULES)
    store.fold(batches()[:3], now=NOW)
    store.use_rules(store._detection)
    assert not learned(engine)["journal"]


def test_what_is_remembered_is_bounded(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, expected: object) -> None:
    monkeypatch.setattr(memory, "WORKSPACES", 1)
    store = store_on(engine, rules=RULES)
    for one in batches():
        items = [[item for item in one.scored if item.feedback.workspace == name] for name in ("default", "second")]
        for part, some in enumerate(items):
            store.fold([arrival(one.offset * 2 + part, *some)], now=NOW)
            assert len(store._memory._held) == 1
    for name in ("default", "second"):
        store.tick(name, POSITION, stream_now=NOW)
    assert not learned(engine)["journal"]


def test_series_that_fell_silent_are_forgotten_after_weeks_and_those_that_speak_or_alarm_are_kept(
    engine: sa.Engine,
) -> None:
    rules = [Rule(name="spike", min_items=5), Rule(name="grave", kind="severe", words=("fire",), resolve_after_s=1e9)]
    store = store_on(engine, rules=rules)
    store.fold([arrival(0, scored("a", topic="delivery"), scored("b", topic="billing", text="fire"))], now=NOW)
    later = NOW + memory.IDLE + timedelta(hours=1)
    new = scored("c", topic="billing", created_at=later)
    store.fold([arrival(1, new)], now=later)

    def series() -> list[tuple[str, str]]:
        with reading(engine) as connection:
            table = schema.detector
            return sorted((row.rule, row.series) for row in connection.execute(sa.select(table.c.rule, table.c.series)))

    store.settle()
    kept = [("grave", "topic=billing"), ("spike", "*"), ("spike", "topic=billing")]
    assert series() == sorted([*kept, ("spike", "topic=delivery")])
    store.prune("default", POSITION, now=later - timedelta(hours=2))
    assert len(series()) == 4
    store.prune("default", POSITION, now=later)
    assert series() == kept
    # Nor does this writer remember what a successor could not.
    store.fold([arrival(2, scored("d", topic="delivery", created_at=later))], now=later)
    store.settle()
    with reading(engine) as connection:
        query = sa.select(schema.detector.c.state).where(schema.detector.c.series == "topic=delivery")
        state = str(connection.scalar(query))
    assert State.from_json(state).memory.baseline.items == 1
