"""What an operator asks of a running installation: status, dead letters, the audit and everything it can find."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.broker import EmbeddedBroker
from pipeline.codec import encode_feedback
from tests.command import ovoz
from tests.plant import Plant, until
from tests.store import feedback

POISON = b'{"v": 1, "source": "shop"'
ITEMS = 40


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """40 items that count, two records that nobody can read, one line of a file that nobody could; workers gone."""
    folder = tmp_path_factory.mktemp("operator")
    with EmbeddedBroker() as broker, Plant(folder, broker.bootstrap) as made:
        worker = made.worker()
        made.send([(f"shop::{i}".encode(), _item(f"{i}", "terrible delivery")) for i in range(ITEMS)])
        made.send([(b"bad", POISON), (b"worse", b"\xff\x00")])
        (folder / "bad.jsonl").write_bytes(b"not json\n")
        assert run(made, "replay", "bad.jsonl").returncode == 1
        until(lambda: worker.total("feedback_items") == ITEMS and worker.total("feedback_dead_letters_total") == 3)
        worker.stop()
        yield made


def _item(name: str, text: str) -> bytes:
    now = datetime.now(UTC)
    return encode_feedback(feedback(name, text=text, created_at=now, received_at=now))


def run(plant: Plant, *arguments: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    return ovoz(*arguments, cwd=plant.folder, **more)


def test_status_shows_lag_sources_and_what_waits(plant: Plant) -> None:
    done = run(plant, "status", "--json")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["unaccounted"], seen["dead_letters"], seen["alerts"]) == (0, 3, [])
    assert sum(row["end"] for row in seen["lag"] if row["topic"] == "feedback.raw") == ITEMS + 2
    assert sum(row["lag"] for row in seen["lag"]) == 0
    (source,) = seen["sources"]
    assert (source["workspace"], source["source"]) == ("default", "shop")
    assert source["per_minute_1h"] == pytest.approx(ITEMS / 60)
    shown = run(plant, "status").stdout.decode()
    assert "default/shop" in shown and "unaccounted 0, dead letters waiting 3" in shown and "feedback.scored" in shown


def test_status_without_a_broker_shows_what_the_store_knows(plant: Plant) -> None:
    done = run(plant, "status", OVOZ_KAFKA_BOOTSTRAP="127.0.0.1:9")
    assert done.returncode == 1
    assert b"broker is away" in done.stderr and b"default/shop" in done.stdout


def test_status_without_a_store_shows_what_the_broker_knows(plant: Plant) -> None:
    done = run(plant, "status", OVOZ_STORE_URL="postgresql://ovoz@127.0.0.1:9/ovoz")
    assert done.returncode == 1
    assert b"store is away" in done.stderr and b"feedback.raw" in done.stdout


def test_dead_letters_are_listed_shown_and_filtered(plant: Plant) -> None:
    entries = [json.loads(line) for line in run(plant, "dead", "list", "--json").stdout.splitlines()]
    assert sorted(entry["stage"] for entry in entries) == ["classify", "classify", "replay"]
    assert {entry["reason"] for entry in entries} == {"json"}
    assert sorted(entry["payload"] for entry in entries) == ["\\xff\x00", "not json", POISON.decode()]
    assert len(run(plant, "dead", "list", "--limit", "1").stdout.splitlines()) == 1
    assert run(plant, "dead", "list", "--reason", "schema").stdout == b""
    (one,) = [entry for entry in entries if entry["payload"] == POISON.decode()]
    assert run(plant, "dead", "show", "--raw", one["id"]).stdout == POISON
    beginnings = [one["id"][:length] for length in range(1, len(one["id"]))]
    beginning = next(b for b in beginnings if sum(entry["id"].startswith(b) for entry in entries) == 1)
    assert b"origin: raw:" in run(plant, "dead", "show", beginning).stdout
    missing = run(plant, "dead", "show", "no such id")
    assert missing.returncode == 1 and b"ovoz dead list" in missing.stderr


def test_the_audit_of_an_untouched_installation_is_exact(plant: Plant) -> None:
    done = run(plant, "audit")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, b"exact"), done.stdout
    facts = json.loads(run(plant, "audit", "--json").stdout)["facts"]
    assert facts["raw records in the broker"] == facts["of them accounted for"] == ITEMS + 2
    assert facts["items that count"] == facts["items in cells"] == facts["items in totals"] == ITEMS
    assert facts["dead letters"] == 3


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE cell SET count = count + 1", "cell default/"),
        ("UPDATE cell SET score_e6 = score_e6 - 1", "count, score in millionths"),
        ("DELETE FROM item WHERE feedback_id IN (SELECT feedback_id FROM item LIMIT 1)", "the items say"),
        ("UPDATE item SET sentiment = 'positive' WHERE feedback_id IN (SELECT feedback_id FROM item LIMIT 1)", "cell "),
        ("UPDATE total SET count = count - 1", "total default/shop/delivery/negative: holds 39"),
        ("UPDATE ledger SET low = low - 1 WHERE low > 1", "have no outcome in the store"),
        ("UPDATE ledger SET low = low + 1", "the ledger reaches offset"),
        ("DELETE FROM ledger", "have no outcome in the store"),
        ("UPDATE ledger SET lost = 2 WHERE partition = 0", "2 raw records left the log before they had an outcome"),
        ("UPDATE item SET raw_offset = 900000", "stand on offsets that the ledger lacks"),
        ("UPDATE dead_letter SET dead_id = substr(dead_id, 1, 36) || '/0/900000' WHERE payload = x'ff00'",
         "1 items or dead letters stand on offsets"),
    ],
)  # fmt: skip
def test_the_audit_finds_every_kind_of_difference(plant: Plant, tmp_path: Path, damage: str, told: str) -> None:
    copy = tmp_path / "ovoz.db"
    with closing(sqlite3.connect(plant.folder / "ovoz.db")) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        assert target.execute(damage).rowcount > 0
        target.commit()
    done = run(plant, "audit", OVOZ_STORE_URL=f"sqlite:///{copy}")
    assert done.returncode == 1, done.stdout
    assert told in done.stdout.decode()
    assert b"exact" not in done.stdout


def test_the_audit_says_when_the_broker_or_the_store_is_away(plant: Plant) -> None:
    for away in ({"OVOZ_KAFKA_BOOTSTRAP": "127.0.0.1:9"}, {"OVOZ_STORE_URL": "postgresql://ovoz@127.0.0.1:9/ovoz"}):
        done = run(plant, "audit", **away)
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr and b"exact" not in done.stdout and done.stderr


def test_requeued_letters_are_read_again_and_counted_when_they_can_be(plant: Plant) -> None:
    """Last, since it changes the plant: the payload of one letter is mended in the store, as a new release would."""
    good = _item("mended", "great")
    with closing(sqlite3.connect(plant.folder / "ovoz.db")) as store:
        store.execute("UPDATE dead_letter SET payload = ? WHERE payload = ?", (good, POISON))
        store.commit()
    assert run(plant, "dead", "requeue").returncode == 2
    done = run(plant, "dead", "requeue", "--all")
    assert done.returncode == 0, done.stderr
    assert b"put back 2" in done.stdout and b"passed over 1 that never were records" in done.stderr
    worker = plant.worker()
    until(lambda: worker.total("feedback_items") == ITEMS + 1, what=worker.output)
    until(lambda: worker.total("feedback_dead_letters_total") == 1)
    worker.stop()
    waiting = [json.loads(line) for line in run(plant, "dead", "list", "--waiting", "--json").stdout.splitlines()]
    assert sorted(entry["payload"] for entry in waiting) == ["\\xff\x00", "not json"]
    put_back = [json.loads(line) for line in run(plant, "dead", "list", "--requeued", "--json").stdout.splitlines()]
    assert len(put_back) == 2 and all(entry["requeued_at"] for entry in put_back)
    assert run(plant, "audit").returncode == 0
