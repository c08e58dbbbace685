"""A store for tests, and short ways to say what goes into it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from alerts.alert import Alert
from alerts.engine import Engine
from alerts.rule import Rule
from connectors.feedback import Feedback
from models.classifier import Prediction
from pipeline.records import DeadLetter, RawPosition, Scored
from pipeline.store import read, schema
from pipeline.store.engine import connect, prepare, transaction
from pipeline.store.read import reading
from pipeline.store.transaction import Arrival, Safeguards, Store

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
RETENTION = timedelta(days=2)
TOPIC, LOG = "feedback.scored", "scored-life-1"
MOODS = {
    "negative": (0.7, 0.2, 0.1),
    "neutral": (0.2, 0.6, 0.2),
    "positive": (0.1, 0.2, 0.7),
    "unsure": (0.4, 0.35, 0.25),
}


def feedback(name: str = "1", version: int = 1, *, minutes_ago: float = 5, **fields: Any) -> Feedback:
    """One feedback, spoken some minutes before NOW and received at NOW."""
    given: dict[str, Any] = {
        "source": "shop",
        "external_id": name,
        "version": version,
        "created_at": NOW - timedelta(minutes=minutes_ago),
        "received_at": NOW,
        "channel": "review",
        "text": "late again",
    }
    return Feedback(**{**given, **fields})


def scored(
    name: str = "1",
    version: int = 1,
    *,
    mood: str = "negative",
    topic: str = "delivery",
    raw: tuple[str, int, int] = ("raw-life-1", 0, 0),
    **fields: Any,
) -> Scored:
    """One feedback with its prediction, which what does not speak has not."""
    made = feedback(name, version, **fields)
    prediction = Prediction(
        sentiment=MOODS[mood], unsure=mood == "unsure", topics={topic: 0.9, "other": 0.1}, language="en", model="test@1"
    )
    place = RawPosition(log=raw[0], partition=raw[1], offset=raw[2])
    return Scored(feedback=made, prediction=prediction if made.speaks else None, raw=place, scored_at=NOW)


def arrival(offset: int, *items: Scored, log: str = LOG, partition: int = 0, dead: DeadLetter | None = None) -> Arrival:
    """One record of the scored topic."""
    return Arrival(log=log, topic=TOPIC, partition=partition, offset=offset, scored=items, dead=dead)


def letter(dead_id: str = "raw-life-1/0/7", offset: int | None = 7, **fields: Any) -> DeadLetter:
    """One dead letter of the classify stage."""
    given: dict[str, Any] = {
        "dead_id": dead_id,
        "stage": "classify",
        "reason": "json",
        "detail": "is not JSON",
        "payload": b"\xff\x00{",
        "key": b"\x00k",
        "failed_at": NOW,
        "origin": "raw:0:7",
        "raw": None if offset is None else RawPosition(log="raw-life-1", partition=0, offset=offset),
    }
    return DeadLetter(**{**given, **fields})


def store_on(engine: sa.Engine, *, rules: Sequence[Rule] = (), **options: Any) -> Store:
    """A store with short retention, on a database that is ready."""
    given: dict[str, Any] = {
        "detection": Engine(rules),
        "retention": RETENTION,
        "late_after": timedelta(minutes=5),
        "alert_max_age": timedelta(hours=6),
        "safeguards": Safeguards(),
    }
    return Store(engine, **{**given, **options})


@contextmanager
def opened(url: str) -> Iterator[sa.Engine]:
    """A prepared database."""
    engine = connect(url)
    try:
        prepare(engine)
        yield engine
    finally:
        engine.dispose()


def books(engine: sa.Engine) -> dict[str, Any]:
    """Cells, recount and totals, once they are found to agree."""
    with reading(engine) as connection:
        cells, recounted, totals = read.cells(connection), read.recount(connection), read.totals(connection)
    assert cells == recounted
    assert totals == read.totals_of(cells)
    assert all(count > 0 for count, _ in cells.values())
    return {"/".join(map(str, cell)): tally for cell, tally in cells.items()}


def count(engine: sa.Engine) -> int:
    """Items that count now."""
    return sum(number for number, _ in books(engine).values())


def everything(engine: sa.Engine) -> dict[str, list[Any]]:
    """Every row of every table, to see that nothing changed."""
    from pipeline.store.schema import metadata

    with reading(engine) as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(sa.select(table))), key=repr)
            for table in metadata.sorted_tables
        }


def ring(engine: sa.Engine) -> Alert:
    """Put a firing alert of the workspace `default` into the outbox."""
    alert = Alert(
        rule="rise", workspace="default", series="delivery", labels=(("alertname", "rise"),), annotations={},
        state="firing", starts_at=NOW, ends_at=None, evidence=(), incident="rise-1",
    )  # fmt: skip
    row = {"incident": alert.incident, "fingerprint": alert.fingerprint, "workspace": "default", "rule": "rise"}
    row |= {"state": "firing", "starts_us": 0, "body": alert.to_json()}
    with transaction(engine) as connection:
        connection.execute(sa.insert(schema.alert).values(**row, revision=1))
    return alert
