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
from pipeline.bus import Bus
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


async def _count_after_a_cancelled_batch(folder: Path, safeguards: Safeguards) -> tuple[int, int, int]:
    """(items counted, items that should be, records read again) when Faust cancels an agent amid its batch."""
    sent: list[Event] = events(RECORDS, now=datetime.now(UTC), unique=True)
    classifier = HeldClassifier()
    with EmbeddedBroker() as broker:
        settings = Settings(
            kafka=Kafka(bootstrap=broker.bootstrap, partitions=2),
            store=Store(url=f"sqlite:///{folder}/ovoz.db"),
            worker=WorkerSettings(
                data_dir=folder, port=0, session_timeout_s=6, repair_after_s=1, classify_batch_items=50
            ),
        )
        bus = Bus(settings.kafka)
        await bus.publish("feedback.raw", [(event.key, event.value) for event in sent])
        await asyncio.get_running_loop().run_in_executor(None, bus.close)
        first = Worker(settings, "all", classifier=classifier, safeguards=safeguards)
        running = asyncio.create_task(first.run())
        await _until(classifier.waiting.is_set)
        _cancel_classify(first)
        await asyncio.sleep(2.5)
        classifier.gate.set()
        # A second life of the worker: what the first one acknowledged without doing it stays undone.
        first.stop()
        await running
        second = Worker(settings, "all", classifier=KeywordClassifier(), safeguards=safeguards)
        running = asyncio.create_task(second.run())
        engine = connect(settings.store.url)
        want, stable, counted = truth(sent, KeywordClassifier()).items, 0, -1
        deadline = time.monotonic() + 40
        while stable < 12 and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            with read.reading(engine) as connection:
                now_counted = sum(count for count, _ in read.cells(connection).values())
                again = sum(repaired for _, repaired, _ in read.ledgers(connection, second._logs["feedback.raw"]).values())
            stable = stable + 1 if now_counted == counted and counted > 0 else 0
            counted = now_counted
        second.stop()
        await running
        engine.dispose()
        return counted, want, again


def _cancel_classify(worker: Worker) -> None:
    (stage,) = [stage for stage in worker._apps if stage.name == "classify"]
    for agent in stage.app.agents.values():
        for actor in list(agent._actors):
            actor.cancel()


async def _until(condition: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_a_batch_that_faust_cancelled_is_not_acknowledged(tmp_path: Path) -> None:
    counted, want, _ = await _count_after_a_cancelled_batch(tmp_path, Safeguards(ledger_repair=False))
    assert counted == want


async def test_without_our_acknowledgement_a_cancelled_batch_is_lost(tmp_path: Path) -> None:
    off = Safeguards(ledger_repair=False, acknowledge_own_generation=False)
    counted, want, _ = await _count_after_a_cancelled_batch(tmp_path, off)
    assert counted < want


async def test_the_ledger_finds_what_was_lost_and_reads_it_again(tmp_path: Path) -> None:
    off = Safeguards(acknowledge_own_generation=False)
    counted, want, again = await _count_after_a_cancelled_batch(tmp_path, off)
    assert counted == want
    assert again > 0


pytestmark = pytest.mark.timeout(120)
