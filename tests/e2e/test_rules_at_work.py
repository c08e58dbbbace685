"""Rules in a running worker: every kind reaches a real Alertmanager, and a changed rule file is taken up."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from alerts.census import SERIES
from alerts.rule import KINDS
from connectors.feedback import Feedback
from pipeline.broker import EmbeddedBroker
from pipeline.codec import encode_feedback
from pipeline.store import schema
from pipeline.store.engine import connect
from pipeline.store.read import reading
from tests.command import ovoz
from tests.e2e.test_alertmanager import Peer, opened
from tests.e2e.test_alertmanager import until as until_async
from tests.e2e.test_apprise_crashes import service
from tests.feed import babble
from tests.plant import Plant, until
from tests.store import feedback

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
EVERY_KIND = """
[hours.info]
days = ["ANOTHER_DAY"]

[[rule]]
name = "r-spike"
kind = "spike"
sources = ["spike"]
severity = "critical"
team = "couriers"
labels = { product = "app" }
runbook_url = "https://wiki.example.com/rise"

[[rule]]
name = "r-volume"
kind = "volume"
sources = ["volume"]
group_by = ["source"]

[[rule]]
name = "r-threshold"
kind = "threshold"
sources = ["threshold"]
group_by = ["topic", "source"]
window = "15m"
min_items = 10
share_above = 0.5

[[rule]]
name = "r-severe"
kind = "severe"
sources = ["severe"]
group_by = ["touchpoint"]
words = ["fire"]

[[rule]]
name = "r-brigade"
kind = "brigade"
sources = ["brigade"]
group_by = []
severity = "warning"

[[rule]]
name = "r-silence"
kind = "silence"
sources = ["silence"]
group_by = ["source"]

[[rule]]
name = "r-trend"
kind = "trend"
sources = ["trend"]
min_items = 50

[[rule]]
name = "r-new_topic"
kind = "new_topic"
sources = ["new_topic"]
group_by = []
severity = "warning"

[[rule]]
name = "r-goal"
kind = "goal"
sources = ["goal"]
group_by = []
measure = "negative_share"
target = 0.2
by = DAY_OF_THE_GOAL

[[rule]]
name = "later"
kind = "threshold"
sources = ["threshold"]
min_items = 10
share_above = 0.5
for = "1h"

[[rule]]
name = "asleep"
kind = "severe"
sources = ["severe"]
words = ["fire"]
severity = "info"
"""


def told(now: datetime) -> Iterator[Feedback]:
    """Forty days, by source; what is wrong now is wrong until now."""
    dice = random.Random(1)
    number = 0

    def one(source: str, ago: timedelta, share: float, text: str = "", **fields: Any) -> Feedback:
        nonlocal number
        number += 1
        words = " ".join("".join(dice.choices("abcdefghijkl", k=7)) for _ in range(8))
        mood = "terrible" if dice.random() < share else "great"
        at = now - ago
        return feedback(
            f"{number}", source=source, text=text or f"{mood} delivery {words}", created_at=at,
            received_at=max(at, now - MINUTE), **fields,
        )  # fmt: skip

    for i in range(430):
        yield one("spike", 3 * DAY - i * 10 * MINUTE, 0.2)
    for i in range(40):
        yield one("spike", (40 - i) * MINUTE, 0.95)
    for i in range(240):
        yield one("volume", 10 * DAY - i * HOUR, 0.2)
    for i in range(40):
        yield one("volume", (20 - i / 2) * MINUTE, 0.2)
    for i in range(14):
        yield one("threshold", (14 - i) / 2 * MINUTE, 1)
    yield one("severe", 2 * MINUTE, 1, "terrible delivery the parcel caught fire", touchpoint="door")
    copied = "terrible delivery nobody should ever order from this awful shop again"
    for i in range(14):
        yield one("brigade", (14 - i) / 2 * MINUTE, 1, copied, author_hash=f"{i:016x}"[::-1] * 2)
    for i in range(700):
        yield one("silence", 10 * DAY - i * 20 * MINUTE, 0.2)
    for i in range(400):
        yield one("trend", 40 * DAY - i * DAY / 10, 0.6 if i >= 330 else 0.15)
    for i in range(160):
        words = babble(dice, 9, 7)
        yield one("new_topic", 9 * DAY - i * HOUR, 1, words)
    for i in range(12):
        words = babble(dice, 8, 7)
        author = f"{i:016x}"[::-1] * 2
        yield one("new_topic", (60 - i * 5) * MINUTE, 1, f"zeppelin hangar flooded {words}", author_hash=author)
    for i in range(200):
        yield one("goal", 20 * DAY - i * DAY / 10, 0.4)


def records(items: list[Feedback]) -> list[tuple[bytes, bytes]]:
    ordered = sorted(items, key=lambda item: item.created_at)
    return [(item.feedback_id.encode(), encode_feedback(item)) for item in ordered]


@pytest_asyncio.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    async with opened(Peer(tmp_path / "alertmanager")) as running:
        yield running


@pytest.mark.prometheus
async def test_every_kind_of_rule_reaches_alertmanager_from_a_worker(
    broker: EmbeddedBroker, peer: Peer, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.toml"
    now = datetime.now(UTC)
    text = EVERY_KIND.replace("ANOTHER_DAY", f"{now + 3 * DAY:%a}".lower())
    rules.write_text(text.replace("DAY_OF_THE_GOAL", f"{now + 60 * DAY:%Y-%m-%d}"))
    lines = f'rules = "{rules}"\nalertmanager = ["{peer.url}"]\nlease_s = 60\nmax_age_minutes = 525600'
    items = list(told(now))
    expected = {f"r-{kind}" for kind in KINDS}
    with Plant(tmp_path, broker.bootstrap, alerts=lines, kafka="partitions = 1") as plant:
        worker = await asyncio.to_thread(plant.worker)
        await asyncio.to_thread(plant.send, records(items))
        await until_async(lambda: asyncio.to_thread(lambda: worker.total("feedback_items") == len(items)), 90)

        def firing() -> dict[str, dict[str, Any]]:
            return {one["labels"]["alertname"]: one for one in peer.told if one["status"] == "firing"}

        try:
            await until_async(lambda: firing().keys() >= expected, 40)
        except AssertionError:
            pytest.fail(f"never told: {expected - firing().keys()}\n{worker.output()[-3000:]}")
        assert firing().keys() == expected, "what waits, or is not to be told at this hour, is not told"
        assert worker.total("feedback_alert_transitions_total", rule="later", state="pending") == 1
        assert worker.total("feedback_alert_transitions_total", rule="later", state="firing") == 0
        assert worker.total("feedback_alert_transitions_total", rule="asleep", state="firing") == 1
        spike = firing()["r-spike"]
        assert spike["labels"] == {
            "alertname": "r-spike", "workspace": "default", "topic": "delivery", "severity": "critical",
            "team": "couriers", "product": "app",
        }  # fmt: skip
        assert spike["annotations"]["runbook_url"] == "https://wiki.example.com/rise"
        assert firing()["r-threshold"]["labels"].items() >= {"topic": "delivery", "source": "threshold"}.items()
        assert firing()["r-severe"]["labels"]["touchpoint"] == "door"
        assert firing()["r-silence"]["labels"]["source"] == "silence"
        assert "zeppelin" in firing()["r-new_topic"]["annotations"]["description"]
        for name in expected - {"r-silence"}:
            notes = firing()[name]["annotations"]
            assert {"summary", "description", "since", "model", "query", "raw_total"} <= notes.keys(), name
            assert notes["model"].startswith("keyword@") and notes.get("quotes"), name
        # What is told while a source is blind names it.
        after = datetime.now(UTC)
        text = "awful delivery our elevator stands in fire since noon"
        late = feedback("late", source="severe", text=text, touchpoint="lift", created_at=after, received_at=after)
        await asyncio.to_thread(plant.send, records([late]))
        await until_async(lambda: any(one["labels"].get("touchpoint") == "lift" for one in peer.told), 20)
        told_late = next(one for one in peer.told if one["labels"].get("touchpoint") == "lift")
        assert told_late["annotations"]["blind_sources"] == "silence"
        peer.told.remove(told_late)
        # One incident, one page, though the lease was renewed and numbers changed.
        assert sorted(one["labels"]["alertname"] for one in peer.told) == sorted(expected)


@pytest.mark.prometheus
async def test_a_test_message_takes_both_ways_with_the_labels_of_its_rule_and_its_end_too(
    peer: Peer, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[rule]]\nname = "rise"\ngroup_by = ["topic"]\nseverity = "critical"\nteam = "couriers"\n'
        'labels = { product = "app" }\nrunbook_url = "https://wiki.example.com/rise"\n'
    )
    config = tmp_path / "ovoz.toml"
    with service() as (address, heard):
        config.write_text(
            f'[alerts]\nrules = "{rules}"\nalertmanager = ["{peer.url}"]\napprise = ["json://{address}"]\n'
        )

        async def run(*more: str) -> tuple[int, str]:
            done = await asyncio.to_thread(
                ovoz, "alerts", "test", "rise", *more, "--config", str(config), cwd=tmp_path
            )
            return done.returncode, (done.stdout + done.stderr).decode()

        status, said = await run()
        assert status == 0 and "alertmanager: taken" in said and "json-" in said
        await until_async(lambda: peer.statuses("test") == ["firing"])
        told = peer.told[0]
        assert told["labels"] == {
            "alertname": "rise", "workspace": "test", "topic": "test", "severity": "critical", "team": "couriers",
            "product": "app", "test": "true",
        }  # fmt: skip
        assert told["annotations"]["runbook_url"] == "https://wiki.example.com/rise"
        (message,) = heard.taken
        assert message["title"].startswith("Critical: TEST") and "https://wiki.example.com/rise" in message["message"]
        assert (await run("--resolve"))[0] == 0
        await until_async(lambda: peer.statuses("test") == ["firing", "resolved"])
        assert heard.taken[1]["title"].startswith("Resolved: TEST")
    status, said = await run()
    assert status == 1 and "not taken" in said and "alertmanager: taken" in said, "one of two is not enough"


def test_a_worker_shows_the_worst_quotes_to_who_knows_the_password_and_only_where_one_is_set(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    digest, now = hashlib.sha256(b"secret").hexdigest(), datetime.now(UTC)
    texts = {"a": "terrible delivery by <b>nobody</b>", "b": "great delivery"}
    with Plant(tmp_path, broker.bootstrap) as plant:
        worker = plant.worker(more=f'quotes_token_sha256 = "{digest}"\n')
        plain = plant.worker()
        items = [feedback(name, text=text, created_at=now, received_at=now) for name, text in texts.items()]
        plant.send(records(items))
        until(lambda: worker.total("feedback_items") + plain.total("feedback_items") == 2, 40, worker.output)
        assert worker.get("/quotes")[0] == 401 and plain.get("/quotes")[0] == 404
        url = worker.url.replace("/metrics", "/quotes?window=5m&topic=delivery")
        request = urllib.request.Request(url, headers={"Authorization": "Bearer secret"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            said = answer.read().decode()
        assert "terrible delivery by &lt;b&gt;nobody&lt;/b&gt;" in said and "great" not in said


WATCHED = """
[[rule]]
name = "kept"
kind = "spike"
min_items = 30

[[rule]]
name = "grave"
kind = "severe"
words = ["fire"]
severity = "warning"
"""


def test_a_running_worker_takes_a_changed_rule_and_refuses_a_faulty_one(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(WATCHED)

    def write(text: str) -> float:
        (tmp_path / "rules.new").write_text(text)
        os.replace(tmp_path / "rules.new", rules)
        return time.monotonic()

    def said(first: int, count: int, word: str = "") -> list[tuple[bytes, bytes]]:
        dice, now = random.Random(first), datetime.now(UTC)
        words = [babble(dice) for _ in range(count)]
        return records([
            feedback(f"{first + i}", text=f"great delivery {word} {words[i]}", created_at=now, received_at=now)
            for i in range(count)
        ])  # fmt: skip

    with Plant(tmp_path, broker.bootstrap, alerts=f'rules = "{rules}"') as plant:
        worker = plant.worker()
        engine = connect(plant.settings.store.url)

        def learned() -> str:
            with reading(engine) as connection:
                table = schema.detector
                query = sa.select(table.c.state).where(table.c.rule == "kept", table.c.series != SERIES)
                return str(connection.scalar(query))

        def active(rule: str) -> float:
            return worker.total("feedback_alert_active", rule=rule)

        plant.send([*said(0, 60), *said(60, 1, "fire")])
        until(lambda: active("grave") == 1, 30, worker.output)

        write(WATCHED.replace("min_items = 30", 'min_items = 30\nodds_raio = "two"'))
        until(lambda: worker.total("feedback_alert_rules_valid") == 0, 10)
        assert worker.total("feedback_alert_rules_reloads_total", outcome="refused") == 1
        assert f"{rules}:6: rule.odds_raio" in worker.output() and "odds_ratio" in worker.output()
        plant.send(said(100, 1, "fire"))
        until(lambda: worker.total("feedback_items") == 62, 20)
        assert active("grave") == 1, "the old rules are in force"
        # What detectors learn is written a moment after it is learned: the number of items stands in it.
        until(lambda: json.loads(learned())[2][0][4] == 62, 10, learned)
        before = learned()

        changed = write(WATCHED.replace('["fire"]', '["smoke"]').replace('"grave"', '"smoulders"'))
        until(lambda: worker.total("feedback_alert_rules_valid") == 1, 10)
        assert time.monotonic() - changed < 5
        assert worker.total("feedback_alert_rules_reloads_total", outcome="applied") == 1
        until(lambda: active("grave") == 0, 10)
        assert learned() == before, "what an unchanged rule has learned stays"
        plant.send([*said(200, 1, "fire"), *said(201, 1, "smoke")])
        until(lambda: active("smoulders") == 1, 20)
        assert worker.total("feedback_alert_transitions_total", rule="smoulders", state="firing") == 1
        assert active("grave") == 0 and worker.total("feedback_alert_active") == 1
        engine.dispose()
