"""Offsets in the transaction and versions by identity: each keeps the counts exact, and without it they are not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from alerts.engine import Engine
from benchmarks.events import Event, events, truth
from benchmarks.keyword import KeywordClassifier
from pipeline.classify import RawRecord, classify
from pipeline.store import read
from pipeline.store.engine import connect, prepare
from pipeline.store.transaction import Arrival, Safeguards, Store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def _counted(url: str, sent: Sequence[Event], safeguards: Safeguards, *, times: int) -> int:
    """Items counted after every record was delivered `times` times, as after crashes before the acknowledgement."""
    engine = connect(url)
    prepare(engine)
    store = Store(
        engine,
        detection=Engine(()),
        retention=timedelta(days=90),
        late_after=timedelta(minutes=5),
        alert_max_age=timedelta(hours=6),
        safeguards=safeguards,
    )
    records = [RawRecord(partition=0, offset=i, key=e.key, value=e.value) for i, e in enumerate(sent)]
    arrivals: list[Arrival] = []
    for start in range(0, len(records), 40):
        outcome = classify(
            records[start : start + 40],
            log="raw-log",
            classifier=KeywordClassifier(),
            partitions=1,
            clock=lambda: 0.0,
            now=NOW,
        )
        arrivals.append(
            Arrival(
                log="scored-log", topic="scored", partition=0, offset=len(arrivals), scored=tuple(outcome.scored[0])
            )
        )
    for _ in range(times):
        for arrival in arrivals:
            store.fold([arrival], now=NOW)
    with read.reading(engine) as connection:
        counted = sum(count for count, _ in read.cells(connection).values())
    engine.dispose()
    return counted


def test_offsets_in_the_transaction_keep_redelivered_records_out(store_url: str) -> None:
    sent = events(400, now=NOW, unique=True)
    alone = Safeguards(version_by_identity=False)
    assert _counted(store_url, sent, alone, times=3) == truth(sent, KeywordClassifier()).items


def test_without_offsets_in_the_transaction_redelivered_records_count_again(store_url: str) -> None:
    sent = events(400, now=NOW, unique=True)
    neither = Safeguards(version_by_identity=False, offsets_in_transaction=False)
    assert _counted(store_url, sent, neither, times=3) == 3 * truth(sent, KeywordClassifier()).items


def test_versions_by_identity_keep_duplicates_edits_and_deletions_exact(store_url: str) -> None:
    sent = events(1500, now=NOW)
    assert _counted(store_url, sent, Safeguards(), times=1) == truth(sent, KeywordClassifier()).items


def test_without_versions_by_identity_duplicates_count_again(store_url: str) -> None:
    sent = events(1500, now=NOW)
    off = Safeguards(version_by_identity=False)
    assert _counted(store_url, sent, off, times=1) > truth(sent, KeywordClassifier()).items
