"""What a worker did, read back: the backtest from store, broker and file; the topic of alerts against the store."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from kafka.admin import ConfigResource, ConfigResourceType

from alerts.alert import Alert
from benchmarks.keyword import KeywordClassifier
from pipeline.broker import EmbeddedBroker
from pipeline.bus import admin, read_offsets
from pipeline.codec import encode_feedback
from pipeline.store import read, schema
from pipeline.store.engine import connect
from pipeline.store.read import reading
from pipeline.topics import Topics
from tests.command import ROOT, ovoz
from tests.feed import babble
from tests.plant import Plant, until
from tests.store import feedback

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

RULES = """
[[rule]]
name = "rise"
kind = "spike"
min_items = 30
false_alarms_per_week = 1

[[rule]]
name = "half-bad"
kind = "threshold"
window = "30m"
min_items = 15
share_above = 0.7

[[rule]]
name = "grave"
kind = "severe"
words = ["fire"]
resolve_after = "20m"
"""
ITEMS = 500


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def bootstrap(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A broker, and lines of [kafka] for it."""
    if request.param == "embedded":
        with EmbeddedBroker() as running:
            yield running.bootstrap, "partitions = 1"
    else:
        yield request.getfixturevalue("kafka_bootstrap"), 'partitions = 1\nprefix = "history"'


def told(now: datetime) -> list[Any]:
    """Five hours of two topics, which get worse in the fourth; some of it burns."""
    dice, made = random.Random(7), []
    for i in range(ITEMS):
        at = now - timedelta(minutes=300 * (1 - i / ITEMS))
        worse = 300 <= i < 420 and i % 2 == 0
        mood = "terrible" if dice.random() < (0.9 if worse else 0.2) else "great"
        burns = "fire" if i in (100, 333) else ""
        words = babble(dice)
        text = f"{mood} {('delivery', 'refund')[i % 2]} {burns} {words}"
        made.append(feedback(f"{i}", text=text, created_at=at, received_at=now))
    return made


def backtest(plant: Plant, *arguments: str) -> list[dict[str, Any]]:
    """Its alerts, without what the words of each way differ in."""
    done = ovoz("alerts", "backtest", "--json", *arguments, "--config", str(plant.config), cwd=plant.folder)
    assert done.returncode == 0, done.stderr.decode()
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) >= 3 and {"rise", "half-bad", "grave"} == {one["rule"] for one in found}
    return found


def test_a_backtest_tells_the_same_of_the_store_the_broker_and_a_file_and_the_topic_of_alerts_what_the_store_holds(
    bootstrap: tuple[str, str], tmp_path: Path
) -> None:
    address, lines = bootstrap
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    items = told(datetime.now(UTC))
    with Plant(tmp_path, address, session_timeout_s=6, kafka=lines, alerts=f'rules = "{rules}"') as plant:
        worker = plant.worker()
        plant.send([(one.feedback_id.encode(), encode_feedback(one)) for one in items])
        until(lambda: worker.total("feedback_items") == ITEMS, 90, worker.output)

        scored = tmp_path / "scored.jsonl"
        with scored.open("w") as out:
            for one, guess in zip(items, KeywordClassifier().classify([one.text for one in items]), strict=True):
                line = {
                    "source": one.source, "id": one.external_id, "text": one.text, "channel": one.channel,
                    "created_at": one.created_at.isoformat(), "language": "en", "sentiment": guess.label,
                    "topic": guess.topic, "score": guess.score, "model": guess.model,
                }  # fmt: skip
                out.write(json.dumps(line) + "\n")
        of_store = backtest(plant)
        assert backtest(plant, "--kafka") == of_store
        assert backtest(plant, str(scored)) == of_store
        begin = items[250].created_at.isoformat()
        late = backtest(plant, "--kafka", "--from", begin)
        assert late == backtest(plant, "--from", begin) == [one for one in of_store if one["starts_at"] >= begin]

        # What the worker itself told of the past is the same; then what it told the topic.
        engine = connect(plant.settings.store.url)

        def stored() -> dict[str, Alert]:
            with reading(engine) as connection:
                return {one.incident: one for one in read.alerts(connection)}

        live = {one.incident for one in stored().values()}
        assert {one["incident"] for one in of_store} <= live

        def all_told() -> bool:
            with reading(engine) as connection:
                query = sa.select(schema.delivery.c.incident, schema.delivery.c.revision)
                rows = connection.execute(query.where(schema.delivery.c.receiver == "topic"))
                return {row.incident: row.revision for row in rows} == {
                    one.incident: one.revision for one in stored().values()
                }

        topic = Topics.of(plant.settings.kafka).alerts.name
        until(all_told, 30, worker.output)
        compare(address, topic, stored())
        if topic.startswith("history"):
            sent = compacted(plant, topic)
            until(lambda: worker.total("feedback_items") == ITEMS + sent, 60, worker.output)
            until(all_told, 30)
            compare(address, topic, stored())
        engine.dispose()
        assert worker.stop() == 0


def compare(address: str, topic: str, stored: dict[str, Alert]) -> None:
    """The reader of docs/alerts.md finds what the store holds: of each fingerprint the newest incident as it stands."""
    page = (ROOT / "docs/alerts.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    reader: dict[str, Any] = {}
    exec(example.partition("\nfor alert in newest(")[0], reader)
    found = reader["newest"](address, topic)
    newest: dict[str, Alert] = {}
    for one in sorted(stored.values(), key=lambda one: one.starts_at):
        newest[one.fingerprint] = one
    assert found.keys() == newest.keys()
    for mark, alert in newest.items():
        said = {name: value for name, value in found[mark].items() if name not in ("schema_version", "fingerprint")}
        assert Alert.from_json(json.dumps(said)) == alert


def compacted(plant: Plant, topic: str) -> int:
    """Change alerts while the broker cleans as soon as it may, until less is kept than was written; how many items
    that took."""
    with admin(plant.settings.kafka) as client:
        quick = {
            "segment.ms": "200", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "500",
            "min.compaction.lag.ms": "0",
        }  # fmt: skip
        client._client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=quick)])
    number = 0

    def cleaned() -> bool:
        """Each round says one thing more: a new record closes the segment before it."""
        nonlocal number
        number += 1
        now = datetime.now(UTC)
        text = f"great delivery fire {number} {random.random()}"
        item = feedback(f"more-{number}", text=text, created_at=now, received_at=now)
        plant.send([(item.feedback_id.encode(), encode_feedback(item))])
        time.sleep(1)
        with admin(plant.settings.kafka) as client:
            end = client.ends(topic)[0][1]
        return len(list(read_offsets(plant.settings.kafka, topic, 0, [(0, end)]))) < end

    until(cleaned, 120)
    return number
