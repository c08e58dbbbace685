"""The proof of exactness can fail: with a safeguard switched off, what it guards against does happen."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.events import Event, events, truth
from benchmarks.keyword import KeywordClassifier
from models.classifier import Prediction
from pipeline.broker import EmbeddedBroker
from pipeline.bus import Bus, admin
from pipeline.settings import Kafka, Settings, Store
from pipeline.settings import Worker as WorkerSettings
from pipeline.store import read
from pipeline.store.engine import connect
from pipeline.store.transaction import Safeguards
from pipeline.worker import Worker

RECORDS = 400


class HeldClassifier(KeywordClassifier):
    """Answers only while the gate is open; says when a batch waits at it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.waiting = threading.Event(), threading.Event()

    def classify(self, texts: Sequence[str], languages: Sequence[str | None] = ()) -> list[Prediction]:
        self.waiting.set()
        assert self.gate.wait(30)
        return super().classify(texts, languages)


async def _count_after_an_early_acknowledgement(folder: Path, safeguards: Safeguards) -> tuple[int, int, int]:
    """(items counted, items that should be, records read again).

    While the model holds the first batch, every record that Faust has in its hands is acknowledged, as
    Faust itself does with events that it skips at a rebalance; then the worker ends, and another follows.
    """
    sent: list[Event] = events(RECORDS, now=datetime.now(UTC), unique=True)
    held = HeldClassifier()
    with EmbeddedBroker() as broker:
        settings = Settings(
            kafka=Kafka(bootstrap=broker.bootstrap, partitions=2),
            store=Store(url=f"sqlite:///{folder}/ovoz.db"),
            worker=WorkerSettings(
                data_dir=folder, port=0, session_timeout_s=3, repair_after_s=1, classify_batch_items=50
            ),
        )
        bus = Bus(settings.kafka)
        await bus.publish("feedback.raw", [(event.key, event.value) for event in sent])
        await asyncio.get_running_loop().run_in_executor(None, bus.close)
        first = Worker(settings, "all", classifier=held, safeguards=safeguards)
        running = asyncio.create_task(first.run())
        await _until(held.waiting.is_set)
        (consumer,) = [stage.app.consumer for stage in first._apps if stage.name == "classify"]
        for message in list(consumer.unacked):
            consumer.ack(message)
        await asyncio.sleep(2.5)
        first.stop()
        await running
        held.gate.set()
        second = Worker(settings, "all", classifier=KeywordClassifier(), safeguards=safeguards)
        running = asyncio.create_task(second.run())
        with admin(settings.kafka) as client:
            ends = {("feedback.raw", partition): end for partition, (_, end) in client.ends("feedback.raw").items()}
        await _until(lambda: bool(second._apps) and ends.items() <= _taken(second, "classify").items(), 60)
        engine = connect(settings.store.url)
        want, counted, again = truth(sent, KeywordClassifier()).items, -1, 0
        for _ in range(20):
            await asyncio.sleep(0.5)
            with read.reading(engine) as connection:
                counted = sum(count for count, _ in read.cells(connection).values())
                ledgers = read.ledgers(connection, second._logs["feedback.raw"]).values()
            again = sum(repaired for _, repaired, _ in ledgers)
            if counted == want:
                break
        second.stop()
        await running
        engine.dispose()
        return counted, want, again


def _taken(worker: Worker, name: str) -> dict[tuple[str, int], int]:
    return next((stage.taken for stage in worker._apps if stage.name == name), {})


async def _until(condition: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_what_no_stage_has_finished_is_not_acknowledged_whatever_faust_says(tmp_path: Path) -> None:
    counted, want, _ = await _count_after_an_early_acknowledgement(tmp_path, Safeguards(ledger_repair=False))
    assert counted == want


async def test_without_our_acknowledgement_it_is_lost(tmp_path: Path) -> None:
    off = Safeguards(ledger_repair=False, acknowledge_own_generation=False)
    counted, want, _ = await _count_after_an_early_acknowledgement(tmp_path, off)
    assert counted < want


async def test_the_ledger_finds_what_was_lost_and_reads_it_again(tmp_path: Path) -> None:
    off = Safeguards(acknowledge_own_generation=False)
    counted, want, again = await _count_after_an_early_acknowledgement(tmp_path, off)
    assert counted == want
    assert again > 0


pytestmark = pytest.mark.timeout(120)
