"""What the store promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from alerts.rule import DEFAULT_FILE
from benchmarks.servers import PostgresServer
from connectors.feedback import Survey
from pipeline.live_rules import read_rules
from pipeline.store import incidents, read, schema, statements, transaction
from pipeline.store.engine import StoreAway, StoreError, away, connect, prepare, upgrade
from pipeline.store.engine import transaction as transaction_of
from pipeline.store.read import reading
from pipeline.topics import workspace_partition
from tests.conftest import own_postgres
from tests.store import (
    LOG,
    NOW,
    RETENTION,
    TOPIC,
    arrival,
    books,
    count,
    everything,
    letter,
    opened,
    ring,
    scored,
    store_on,
)

PLACE = (LOG, 0)


@pytest.fixture
def engine(store_url: str) -> Iterator[sa.Engine]:
    with opened(store_url) as made:
        yield made


def test_a_batch_that_comes_again_is_skipped_whole(engine: sa.Engine) -> None:
    store = store_on(engine)
    batch = [arrival(0, scored("a")), arrival(1, scored("b"), scored("c")), arrival(2, dead=letter())]
    assert store.fold(batch, now=NOW).skipped == 0
    before = everything(engine)
    again = store.fold(batch, now=NOW)
    assert (again.skipped, again.dead, again.changes.counted) == (3, [], [])
    assert everything(engine) == before
    assert count(engine) == 3


def test_of_a_batch_that_overlaps_only_the_new_part_is_applied(engine: sa.Engine) -> None:
    store = store_on(engine)
    store.fold([arrival(0, scored("a")), arrival(1, scored("b"))], now=NOW)
    folded = store.fold([arrival(1, scored("b", 9)), arrival(2, scored("c"))], now=NOW)
    assert folded.skipped == 1
    assert count(engine) == 3


def test_the_newest_version_counts_whatever_the_order(engine: sa.Engine) -> None:
    store = store_on(engine)
    store.fold([arrival(0, scored("a", 3, mood="positive"))], now=NOW)
    store.fold([arrival(1, scored("a", 2)), arrival(2, scored("a", 1, deleted=True))], now=NOW)
    assert list(books(engine).values()) == [(1, 600_000)]
    store.fold([arrival(3, scored("a", 4, deleted=True))], now=NOW)
    assert books(engine) == {}


def test_an_edit_moves_the_count_and_its_score(engine: sa.Engine) -> None:
    store = store_on(engine)
    store.fold([arrival(0, scored("a", 1, mood="negative"), scored("b", 1))], now=NOW)
    store.fold([arrival(1, scored("a", 2, mood="positive", minutes_ago=50, topic="refund"))], now=NOW)
    assert sorted(books(engine).values()) == [(1, -600_000), (1, 600_000)]


def test_the_ledger_holds_every_outcome_and_shows_the_holes(engine: sa.Engine) -> None:
    store = store_on(engine)
    store.begin_ledger("raw-life-1", 0, 4)
    store.fold(
        [
            arrival(0, scored("a", raw=("raw-life-1", 0, 4)), scored("b", raw=("raw-life-1", 0, 8))),
            arrival(1, dead=letter("raw-life-1/0/5", 5)),
        ],
        now=NOW,
    )
    with reading(engine) as connection:
        ledger, repaired, lost = read.ledgers(connection, "raw-life-1")[0]
    assert (ledger.low, ledger.spans, repaired, lost) == (6, ((8, 9),), 0, 0)
    store.account_repaired("raw-life-1", 0, 1)
    assert store.account_lost("raw-life-1", 0, [(6, 7), (4, 6)]) == 1
    store.begin_ledger("raw-life-1", 0, 100)
    with reading(engine) as connection:
        ledger, repaired, lost = read.ledgers(connection, "raw-life-1")[0]
    assert (ledger.low, ledger.holes(9), repaired, lost) == (7, [(7, 8)], 1, 1)


def test_a_dead_letter_is_one_entry_however_often_it_comes(engine: sa.Engine) -> None:
    store = store_on(engine)
    first = store.fold([arrival(0, dead=letter()), arrival(1, dead=letter())], now=NOW)
    second = store.fold([arrival(2, dead=letter(detail="other words"))], now=NOW)
    assert (len(first.dead), len(second.dead)) == (1, 0)
    with reading(engine) as connection:
        (entry,) = read.dead_letters(connection)
    assert (entry.payload, entry.key, entry.detail) == (b"\xff\x00{", b"\x00k", "is not JSON")


@pytest.mark.parametrize("where", ["_write_cells", "_write_times", "_bury", "_account", "_settle"])
def test_what_fails_in_the_middle_leaves_nothing(
    engine: sa.Engine, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_on(engine, rules=read_rules(DEFAULT_FILE))
    store.fold([arrival(0, scored("a"))], now=NOW)
    before = everything(engine)
    batch = [arrival(1, scored("b"), scored("a", 2, mood="positive")), arrival(2, dead=letter())]

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError(where)

    with monkeypatch.context() as patch:
        patch.setattr(transaction, where, broken)
        with pytest.raises(ZeroDivisionError):
            store.fold(batch, now=NOW)
    assert everything(engine) == before
    store.fold(batch, now=NOW)
    assert count(engine) == 2


def test_a_detector_moves_with_its_counts_or_not_at_all(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_on(engine, rules=read_rules(DEFAULT_FILE))
    store.fold([arrival(0, *(scored(f"a{n}") for n in range(5)))], now=NOW)
    before = everything(engine)
    assert before["journal"]
    save = incidents._save

    def save_and_fail(*arguments: Any) -> int:
        save(*arguments)
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(incidents, "_save", save_and_fail)
        with pytest.raises(ZeroDivisionError):
            store.fold([arrival(1, scored("b"))], now=NOW)
    assert everything(engine) == before


KILLED = """
import os, signal, sys
from pipeline.store import transaction
from pipeline.store.engine import connect
from tests.store import NOW, arrival, letter, scored, store_on
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(transaction, sys.argv[2], kill)
store_on(connect(sys.argv[1])).fold([arrival(1, scored("b")), arrival(2, dead=letter())], now=NOW)
"""


@pytest.mark.parametrize("where", ["_write_times", "_account"])
def test_a_process_killed_in_the_middle_leaves_nothing(engine: sa.Engine, store_url: str, where: str) -> None:
    store = store_on(engine)
    store.fold([arrival(0, scored("a"))], now=NOW)
    before = everything(engine)
    killed = subprocess.run([sys.executable, "-c", KILLED, store_url, where], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert everything(engine) == before
    store.fold([arrival(1, scored("b")), arrival(2, dead=letter())], now=NOW)
    assert count(engine) == 2


def test_two_writers_on_one_partition_commit_each_record_once(engine: sa.Engine, store_url: str) -> None:
    batches = [[arrival(n, scored(f"i{n}"), scored("same", n)) for n in range(b, b + 4)] for b in range(0, 80, 4)]
    applied: list[int] = []
    faults: list[BaseException] = []

    def write() -> None:
        own = connect(store_url)
        try:
            for batch in batches:
                folded = store_on(own).fold(batch, now=NOW)
                applied.append(4 - folded.skipped)
        except BaseException as error:
            faults.append(error)
        finally:
            own.dispose()

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert sum(applied) == 80
    assert count(engine) == 81


def test_writers_of_different_partitions_do_not_block_each_other_in_a_circle(engine: sa.Engine, store_url: str) -> None:
    faults: list[BaseException] = []

    def write(number: int) -> None:
        own = connect(store_url)
        try:
            for n in range(15):
                # The same raw partition and different workspaces, as two fold workers have.
                items = [
                    scored(f"{number}-{n}-{k}", workspace=f"w{number}{k}", raw=("r", 0, n * 10 + k + 500 * number))
                    for k in range(3)
                ]
                store_on(own).fold([arrival(n, *items, partition=number)], now=NOW)
                store_on(own).prune(f"w{number}0", (LOG, number), now=NOW)
        except BaseException as error:
            faults.append(error)
        finally:
            own.dispose()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert count(engine) == 3 * 15 * 3


def test_the_last_to_claim_shows_a_partition_and_the_sum_over_owners_is_the_truth(engine: sa.Engine) -> None:
    store = store_on(engine)
    names = [f"shop{n}" for n in range(12)]
    for offset, name in enumerate(names):
        partition = workspace_partition(name, 4)
        store.fold([arrival(offset, scored("a", workspace=name), partition=partition)], now=NOW)

    def shown(owner: str) -> int:
        with reading(engine) as connection:
            return read.snapshot(connection, LOG, owner, 4, NOW).totals.total()

    store.claim(LOG, TOPIC, {0, 1, 2, 3}, "first")
    assert (shown("first"), shown("second")) == (12, 0)
    store.claim(LOG, TOPIC, {1, 3}, "second")
    moved = sum(workspace_partition(name, 4) in (1, 3) for name in names)
    assert 0 < moved < 12
    assert (shown("first"), shown("second")) == (12 - moved, moved)
    assert store.fold([arrival(0, scored("a", workspace="shop0"), partition=0)], now=NOW).skipped in (0, 1)
    assert shown("first") + shown("second") == 12


def test_windows_are_sums_of_their_minutes(engine: sa.Engine) -> None:
    store = store_on(engine)
    store.claim(LOG, TOPIC, {0}, "me")
    ages = {"now": 0, "four": 4, "five": 5, "59": 59, "60": 60, "day": 1439, "more": 1440}
    store.fold([arrival(0, *(scored(name, minutes_ago=ago) for name, ago in ages.items()))], now=NOW)
    with reading(engine) as connection:
        shown = read.snapshot(connection, LOG, "me", 1, NOW)
    assert {window: entry.count.total() for (_, _, window), entry in shown.windows.items()} == {
        "5m": 2,
        "1h": 4,
        "24h": 6,
    }
    assert shown.totals.total() == 7


def test_many_workspaces_are_shown_as_one_sum_and_only_those_that_stir_are_ticked(engine: sa.Engine) -> None:
    store = store_on(engine)
    store.claim(LOG, TOPIC, {0}, "me")
    # Each workspace has its own time, in which its item is new; what is older than the retention counts nowhere.
    ages, names = [5, 30, 90, 3000], ["default", *(f"w{i}" for i in range(1, 1200))]
    items = [scored(f"{i}", workspace=name, minutes_ago=ages[i % 4]) for i, name in enumerate(names)]
    store.fold([arrival(0, *items[:600]), arrival(1, *items[600:])], now=NOW)
    ring(engine)
    with reading(engine) as connection:
        shown = read.snapshot(connection, LOG, "me", 1, NOW)
        times = read.stream_times(connection, names, NOW)
        assert len(times) == 1200
        assert read.stirring(connection, times) == {"default"}
        assert read.stirring(connection, {"w1": NOW}) == set()
    assert shown.totals == {("shop", "delivery", "negative"): 900}
    counted = {window: entry.count.total() for (_, _, window), entry in shown.windows.items()}
    assert counted == {"5m": 900, "1h": 900, "24h": 900}
    assert [alert.incident for alert in shown.firing] == ["rise-1"]


def test_a_new_life_of_a_topic_starts_afresh(engine: sa.Engine) -> None:
    store = store_on(engine)
    store.claim(LOG, TOPIC, {0}, "me")
    store.fold([arrival(0, scored("a")), arrival(1, scored("b"))], now=NOW)
    store.claim("scored-life-2", TOPIC, {0}, "me")
    folded = store.fold([arrival(0, scored("a"), scored("c"), log="scored-life-2")], now=NOW)
    assert folded.skipped == 0
    assert count(engine) == 3
    with reading(engine) as connection:
        assert read.positions(connection, [LOG, "scored-life-2"]) == {(TOPIC, 0): 1}


def days_ago(days: float) -> float:
    return days * 24 * 60


def test_pruning_takes_minutes_and_items_past_retention_and_nothing_else(engine: sa.Engine) -> None:
    store = store_on(engine)
    store.fold([arrival(0, *(scored(f"a{n}", minutes_ago=n * 60) for n in range(40)))], now=NOW)
    later = NOW + timedelta(days=1)
    assert store.prune("default", PLACE, now=later) == 15
    assert count(engine) == 25
    assert store.prune("default", PLACE, now=later) == 0
    assert len(everything(engine)["item"]) == 25


def test_what_was_pruned_does_not_come_back_when_it_is_delivered_again(engine: sa.Engine) -> None:
    store = store_on(engine)
    store.fold([arrival(0, scored("a", minutes_ago=60), scored("b"))], now=NOW)
    later = NOW + RETENTION
    store.prune("default", PLACE, now=later - timedelta(minutes=30))
    assert count(engine) == 1
    folded = store.fold([arrival(1, scored("a", minutes_ago=60))], now=later)
    assert folded.changes.expired == 1
    assert count(engine) == 1


def test_an_old_version_does_not_come_back_after_its_newer_one_was_pruned(engine: sa.Engine) -> None:
    store = store_on(engine)
    store.fold([arrival(0, scored("a", 1, minutes_ago=10))], now=NOW)
    store.fold([arrival(1, scored("a", 2, minutes_ago=days_ago(1)))], now=NOW)
    later = NOW + timedelta(days=1, hours=12)
    assert store.prune("default", PLACE, now=later) == 1
    assert count(engine) == 0
    assert store.fold([arrival(2, scored("a", 1, minutes_ago=10))], now=later).changes.unchanged == 1
    assert count(engine) == 0
    store.prune("default", PLACE, now=NOW + timedelta(days=3))
    assert everything(engine)["item"] == []


def test_a_deletion_is_remembered_as_long_as_its_item_could_come_back(engine: sa.Engine) -> None:
    store = store_on(engine)
    store.fold([arrival(0, scored("a", 2, deleted=True, minutes_ago=days_ago(1)))], now=NOW)
    almost = NOW + RETENTION - timedelta(minutes=2)
    assert store.prune("default", PLACE, now=almost) == 0
    store.fold([arrival(1, scored("a", 1, minutes_ago=0))], now=almost)
    assert count(engine) == 0


def test_what_counts_nowhere_keeps_no_text(engine: sa.Engine) -> None:
    store = store_on(engine)
    secret = {"text": "my secret", "customer_id": "c-77", "author_hash": "h-77", "url": "https://x.example/77"}
    store.fold([arrival(0, scored("a", 1, **secret), scored("b", 1, **secret, minutes_ago=0))], now=NOW)
    store.fold([arrival(1, scored("a", 2, deleted=True, **secret))], now=NOW)
    store.fold([arrival(2, scored("b", 2, **secret, minutes_ago=days_ago(1.5)))], now=NOW)
    store.prune("default", PLACE, now=NOW + timedelta(days=1))
    rows = everything(engine)["item"]
    assert len(rows) == 2
    assert "77" not in repr(rows) and "secret" not in repr(rows)


def item_rows(engine: sa.Engine) -> list[sa.Row[Any]]:
    with reading(engine) as connection:
        return list(connection.execute(sa.select(schema.item)))


def test_scores_and_turns_are_kept_with_or_without_words_until_their_retention_ends(engine: sa.Engine) -> None:
    store = store_on(engine)
    nps = {"survey": Survey(kind="nps", value=3.0, low=0.0, high=10.0), "rating": 0.3}
    turn = {"conversation_id": "t-1", "turn": "solved", "text": ""}
    batch = [scored("score", 1, text="", **nps), scored("turn", **turn), scored("both", **nps)]
    store.fold([arrival(0, *batch)], now=NOW)
    rows = {row.feedback_id: row for row in item_rows(engine)}
    assert {name: (row.silent, row.survey, row.turn) for name, row in rows.items()} == {
        "shop::score": (True, "nps", None), "shop::turn": (True, None, "solved"), "shop::both": (False, "nps", None),
    }  # fmt: skip
    assert rows["shop::score"].survey_value == 3 and rows["shop::turn"].conversation_id == "t-1"
    assert count(engine) == 1, "a score without words is no neutral item"
    store.fold([arrival(1, scored("score", 2, **nps))], now=NOW)
    assert count(engine) == 2, "until its comment comes"
    store.fold([arrival(2, scored("score", 3, deleted=True, **nps))], now=NOW)
    assert next(row for row in item_rows(engine) if row.feedback_id == "shop::score").survey is None
    store.prune("default", PLACE, now=NOW + RETENTION + timedelta(hours=1))
    assert not [row for row in item_rows(engine) if row.survey or row.turn]


TALK: dict[str, Any] = {"conversation_id": "t-1"}
ENDED: dict[str, Any] = {**TALK, "turn": "deleted", "text": ""}


def test_a_deleted_conversation_takes_all_that_was_said_in_it_and_nothing_else(engine: sa.Engine) -> None:
    store = store_on(engine)
    nps = {"survey": Survey(kind="nps", value=3.0, low=0.0, high=10.0), "rating": 0.3}
    said = [scored("a", **TALK), scored("b", mood="positive", **TALK), scored("r", text="", turn="agent_reply", **TALK)]
    others = [
        scored("c", conversation_id="t-2"), scored("d"), scored("e", source="other", **TALK),
        scored("f", instance="second", **TALK),
    ]  # fmt: skip
    store.fold([arrival(0, *said, scored("n", text="", **nps, **TALK), *others)], now=NOW)
    assert count(engine) == 6
    folded = store.fold([arrival(1, scored("t-1:deleted", 7, **ENDED))], now=NOW)
    assert folded.changes.retracted == 2 and count(engine) == 4
    rows = {row.feedback_id: row for row in item_rows(engine)}
    for name in ("a", "b", "r", "n"):
        row = rows[f"shop::{name}"]
        assert (row.text, row.survey, row.turn, row.silent, row.minute) == (None, None, None, False, None), name
    before = everything(engine)
    store.fold([arrival(2, scored("t-1:deleted", 7, **ENDED), *said)], now=NOW)
    assert everything(engine) | {"position": before["position"]} == before, "told and said again, nothing changes"


def test_what_comes_in_after_its_conversation_was_deleted_stays_taken_back(engine: sa.Engine) -> None:
    store = store_on(engine)
    store.fold([arrival(0, scored("t-1:deleted", 7, **ENDED))], now=NOW)
    store.fold([arrival(1, scored("a", **TALK), scored("b", conversation_id="t-2"))], now=NOW)
    store.fold([arrival(2, scored("a", 2, mood="positive", **TALK))], now=NOW)
    assert count(engine) == 1
    store.prune("default", PLACE, now=NOW + RETENTION - timedelta(minutes=10))
    store.fold([arrival(3, scored("late", minutes_ago=1, **TALK))], now=NOW + RETENTION - timedelta(minutes=10))
    assert "shop::late" not in {row.feedback_id for row in item_rows(engine) if row.minute is not None}


def test_in_one_batch_the_order_of_a_deletion_and_of_what_it_deletes_does_not_matter(engine: sa.Engine) -> None:
    store = store_on(engine)
    gone = scored("t-1:deleted", 7, **ENDED)
    for number, batch in enumerate(([scored("a", **TALK), gone, scored("b", **TALK)], [gone, scored("c", **TALK)])):
        store.fold([arrival(number, *batch)], now=NOW)
        assert count(engine) == 0


def test_whether_a_conversation_was_deleted_is_found_without_a_look_at_all_that_was_said_in_it(
    engine: sa.Engine,
) -> None:
    asking = {"b_workspace": "default", "conversations": ["t-1", "t-2"]}
    query = statements.said_in(only_deletions=True).params(asking)
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SET enable_seqscan = off"))
        asked = query.compile(engine, compile_kwargs={"literal_binds": True})
        explain = "EXPLAIN QUERY PLAN" if engine.dialect.name == "sqlite" else "EXPLAIN"
        plan = str(connection.execute(sa.text(f"{explain} {asked}")).all())
    assert "item_deleted_conversation" in plan


def test_a_conversation_that_goes_on_long_after_its_deletion_was_restored(engine: sa.Engine) -> None:
    store = store_on(engine)
    store.fold([arrival(0, scored("a", **TALK), scored("t-1:deleted", 7, **ENDED))], now=NOW)
    later = NOW + timedelta(hours=2)
    new = scored("b", created_at=later, received_at=later, **TALK)
    store.fold([arrival(1, new, scored("a", **TALK))], now=later)
    assert count(engine) == 1


def test_a_clock_that_ran_ahead_does_not_close_a_workspace(engine: sa.Engine) -> None:
    store = store_on(engine)
    wrong = NOW + timedelta(days=400)
    store.fold([arrival(0, scored("a"))], now=wrong)
    assert count(engine) == 0
    store.fold([arrival(1, scored("b"), scored("a", 2))], now=NOW)
    assert count(engine) == 2


def test_after_a_clock_that_ran_ahead_items_are_not_late(engine: sa.Engine) -> None:
    store = store_on(engine)
    wrong = NOW + timedelta(days=400)
    ahead = scored("a", minutes_ago=-days_ago(400), received_at=wrong)
    store.fold([arrival(0, ahead)], now=wrong)
    assert store.fold([arrival(1, scored("b"))], now=NOW).changes.late == []
    assert store.fold([arrival(2, scored("c"))], now=NOW).changes.late == []
    assert store.fold([arrival(3, scored("d", minutes_ago=60))], now=NOW).changes.late == ["shop"]
    with reading(engine) as connection:
        assert read.stream_times(connection, ["default"], NOW + timedelta(minutes=1)) == {
            "default": NOW - timedelta(minutes=4)
        }


def test_a_clock_set_back_lets_no_lease_lapse(engine: sa.Engine) -> None:
    lease, alert = timedelta(minutes=5), ring(engine)

    def due(now: datetime) -> int:
        with reading(engine) as connection:
            return len(incidents.due(connection, "am", ["default"], now=now, renew_after=lease / 3))

    with transaction_of(engine) as connection:
        incidents.delivered(connection, "am", [(alert, 1)], now=NOW)
    assert due(NOW + timedelta(seconds=1)) == 0
    assert due(NOW + lease / 3) == 1
    assert due(NOW - timedelta(seconds=1)) == 0
    assert due(NOW - timedelta(hours=1)) == 1


def test_dead_letters_are_kept_for_their_time_and_no_longer(engine: sa.Engine) -> None:
    store = store_on(engine)
    old, young = letter("raw-life-1/0/7", 7, failed_at=NOW - timedelta(days=31)), letter("raw-life-1/0/8", 8)
    store.fold([arrival(0, dead=old), arrival(1, dead=young)], now=NOW)
    assert store.prune_dead_letters(NOW - timedelta(days=30)) == 1
    with reading(engine) as connection:
        assert [entry.dead_id for entry in read.dead_letters(connection)] == ["raw-life-1/0/8"]


def test_an_item_from_the_future_counts_and_leaves_stream_time_alone(engine: sa.Engine) -> None:
    store = store_on(engine)
    store.claim(LOG, TOPIC, {0}, "me")
    ahead = scored("a", minutes_ago=-days_ago(400), received_at=NOW + timedelta(hours=7))
    folded = store.fold([arrival(0, ahead), arrival(1, scored("b", minutes_ago=1))], now=NOW)
    assert folded.changes.late == []
    with reading(engine) as connection:
        assert read.stream_times(connection, ["default"], NOW) == {"default": NOW}
        shown = read.snapshot(connection, LOG, "me", 1, NOW)
    assert shown.totals.total() == 2
    assert {entry.count.total() for entry in shown.windows.values()} == {1}


TEXTS = {
    "emoji": "🧑🏽‍🚀 жуда ёмон 😡 ﷽ \u202eright to left",
    "long": "щ" * 10_000,
    "quotes": "';DROP TABLE item;-- \\ %s :name {} \t\n",
    "astral": "\U0001f9d1" * 10_000,
    "empty": "",
}


@pytest.mark.parametrize("name", TEXTS)
def test_any_text_survives(engine: sa.Engine, name: str) -> None:
    store_on(engine).fold([arrival(0, scored("a", text=TEXTS[name]))], now=NOW)
    with reading(engine) as connection:
        assert (connection.scalar(sa.select(schema.item.c.text)) or "") == TEXTS[name]


def test_the_longest_identity_and_the_greatest_numbers_fit(engine: sa.Engine) -> None:
    store = store_on(engine)
    name, space = "\U0001f9d1" * 512, "w" * 63
    big = scored(name, 2**63 - 1, workspace=space, source="s" * 63, instance="i" * 63, raw=("r", 2**31 - 1, 2**63 - 2))
    store.fold([arrival(2**63 - 3, big)], now=NOW)
    store.fold([arrival(2**63 - 2, scored(name, 1, workspace=space, source="s" * 63, instance="i" * 63))], now=NOW)
    assert list(books(engine).values()) == [(1, -600_000)]
    with reading(engine) as connection:
        (row,) = connection.execute(sa.select(schema.item))
    assert (row.version, row.raw_offset) == (2**63 - 1, 2**63 - 2)


def test_a_dead_letter_with_nul_characters_and_megabytes_is_kept(engine: sa.Engine) -> None:
    odd = letter(detail="a\x00b" * 5000, origin="x\x00y", payload=bytes(range(256)) * 8000, key=b"\x00" * 10)
    store_on(engine).fold([arrival(0, dead=odd)], now=NOW)
    with reading(engine) as connection:
        (entry,) = read.dead_letters(connection)
    assert entry.payload == odd.payload and "\x00" not in entry.detail + entry.origin


# Migrations.


def test_migrations_make_exactly_the_tables_that_the_code_knows(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []


def test_upgrading_twice_is_harmless(engine: sa.Engine) -> None:
    store_on(engine).fold([arrival(0, scored("a"))], now=NOW)
    before = everything(engine)
    first, second = upgrade(engine), upgrade(engine)
    assert first == second and first[0] == first[1]
    prepare(engine)
    assert everything(engine) == before


def test_processes_that_prepare_at_once_all_succeed(store_url: str) -> None:
    code = "import sys; from pipeline.store.engine import *; e = connect(sys.argv[1]); prepare(e); print(upgrade(e)[1])"
    started = [
        subprocess.Popen([sys.executable, "-c", code, store_url], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in started:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()
        assert out.strip()


@pytest.mark.parametrize(("revision", "remedy"), [("9999", "newer version"), ("0000", "newer version")])
def test_a_schema_of_another_ovoz_is_refused_with_the_remedy(engine: sa.Engine, revision: str, remedy: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    with pytest.raises(StoreError, match=f"(?s)revision {revision}.*{remedy}") as refused:
        prepare(engine)
    assert "postgres:" not in str(refused.value)


@pytest.mark.parametrize("url", ["nonsense", "mysql://u@h/d", "sqlite://", "sqlite:///:memory:", ""])
def test_an_unusable_url_is_refused(url: str) -> None:
    with pytest.raises(StoreError):
        connect(url)


# Away.


def test_a_locked_database_is_away_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.store.engine.BUSY_TIMEOUT_S", 0.2)
    with opened(f"sqlite:///{tmp_path}/ovoz.db") as engine:
        store = store_on(engine)
        with engine.begin() as holder:
            holder.execute(sa.select(schema.item))
            with pytest.raises(StoreAway, match="locked"):
                store.fold([arrival(0, scored("a"))], now=NOW)
            with reading(engine) as connection:
                assert read.totals(connection) == {}
        store.fold([arrival(0, scored("a"))], now=NOW)
        assert count(engine) == 1


def test_a_full_database_is_away_and_loses_nothing(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/ovoz.db") as engine:
        store = store_on(engine)

        def limit(pages: int) -> None:
            engine.dispose()
            sa.event.listen(engine, "connect", lambda c, _: c.execute(f"PRAGMA max_page_count={pages}"))

        limit(90)
        folded = 0

        def fill() -> None:
            nonlocal folded
            for folded in range(100):
                store.fold([arrival(folded, scored(f"a{folded}", text="x" * 9_000))], now=NOW)

        with pytest.raises(StoreAway, match="full"):
            fill()
        assert count(engine) == folded > 0
        limit(1_000_000)
        store.fold([arrival(folded, scored(f"a{folded}", text="x" * 9_000))], now=NOW)
        assert count(engine) == folded + 1


def test_a_database_folder_that_is_gone_is_away(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    engine = connect(f"sqlite:///{folder}/ovoz.db")
    folder.rmdir()
    with pytest.raises(StoreAway, match="unable to open"):
        prepare(engine)


@pytest.mark.postgres
def test_a_process_paused_in_the_middle_of_a_transaction_holds_up_nobody(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.engine.POSTGRES_OPTIONS", ("idle_in_transaction_session_timeout=1000",))
    with opened(postgres_url) as engine, opened(postgres_url) as other:
        store = store_on(engine)
        store.fold([arrival(0, scored("a"))], now=NOW)
        paused = other.connect()
        paused.execute(sa.select(schema.position).with_for_update())
        assert store.fold([arrival(1, scored("b"))], now=NOW).changes.counted
        with pytest.raises(sa.exc.DBAPIError) as found:
            paused.execute(sa.select(schema.position))
        assert away(found.value)
        paused.close()
        assert count(engine) == 2


@pytest.mark.postgres
def test_a_killed_database_server_is_away_and_what_it_had_committed_stays(tmp_path_factory: Any) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ovoz-postgres-") as name:
        server: PostgresServer = own_postgres(Path(name) / "killed")
        try:
            with opened(server.url) as engine:
                store = store_on(engine)
                store.fold([arrival(0, scored("a"))], now=NOW)
                server.kill()
                for _ in range(2):
                    with pytest.raises(StoreAway):
                        store.fold([arrival(1, scored("b"))], now=NOW)
                with pytest.raises(StoreAway), reading(engine) as connection:
                    read.totals(connection)
                with pytest.raises(StoreAway):
                    prepare(connect(server.url))
                server.start()
                assert store.fold([arrival(0, scored("a")), arrival(1, scored("b"))], now=NOW).skipped == 1
                assert count(engine) == 2
        finally:
            server.stop()
