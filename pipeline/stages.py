"""What the two stages do with a batch: classify writes, fold commits. Faust is not known here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from models.classifier import Classifier
from pipeline.app import Message
from pipeline.bus import BrokerAway, admin
from pipeline.classify import Outcome, RawRecord, classify, scored_values
from pipeline.codec import DecodeError, decode_dead, decode_scored, encode_dead
from pipeline.dead_letter import Fuse
from pipeline.metrics import WorkerMetrics
from pipeline.patience import persist
from pipeline.records import DeadLetter, Scored
from pipeline.settings import Settings
from pipeline.store.engine import StoreAway
from pipeline.store.transaction import Arrival, Folded, Store
from pipeline.topics import Topics

log = logging.getLogger("ovoz.stages")


Sender = Callable[[str, bytes, bytes, int | None], Awaitable[None]]
"""Sends (topic, key, value, partition) and returns once the broker has it. Raises BrokerAway."""


class Logs:
    """The identity of the present life of each topic, looked up off the event loop."""

    def __init__(self, settings: Settings, renewed: Callable[[str], None] = lambda topic: None) -> None:
        self._kafka = settings.kafka
        self._known: dict[str, str] = {}
        self._renewed = renewed

    async def refresh(self, topics: Sequence[str]) -> None:
        """Ask the broker. Waits while it is away."""
        loop = asyncio.get_running_loop()
        found = await persist(
            lambda: loop.run_in_executor(None, self._ask, list(topics)), away=(BrokerAway,), what="the broker"
        )
        for topic, identity in found.items():
            before = self._known.get(topic)
            if before is not None and before != identity:
                log.warning("topic %s began a new life: its records are counted from the start", topic)
                self._renewed(topic)
            self._known[topic] = identity

    def __getitem__(self, topic: str) -> str:
        return self._known[topic]

    def get(self, topic: str) -> str | None:
        """The identity, or None while it is not known yet."""
        return self._known.get(topic)

    def _ask(self, topics: list[str]) -> dict[str, str]:
        with admin(self._kafka) as client:
            client.ensure_topics(Topics.of(self._kafka))
            return {topic: client.log_identity(topic) for topic in topics}


class ClassifyStage:
    """Scores batches of raw records and writes the outcome; done when the broker has all of it."""

    def __init__(
        self, settings: Settings, classifier: Classifier, send: Sender, logs: Logs, metrics: WorkerMetrics
    ) -> None:
        self._topics = Topics.of(settings.kafka)
        self._classifier = classifier
        self._send = send
        self._logs = logs
        self._metrics = metrics
        # Two at a time: the batches of the stream, and what is read again to close a hole.
        self._model = ThreadPoolExecutor(2, thread_name_prefix="model")
        self._fuse = Fuse(settings.worker.dead_letter_fuse_share, settings.worker.dead_letter_fuse_items)

    async def handle(self, topic: str, messages: Sequence[Message]) -> None:
        """One batch from the raw topic. Raises FuseBlown."""
        records = [RawRecord(partition=m.partition, offset=m.offset, key=m.key, value=m.value) for m in messages]
        outcome = await self.process(records)
        self._fuse.record(len(records), len(outcome.dead))

    async def process(self, records: Sequence[RawRecord]) -> Outcome:
        """Classify and write; sends again, as a whole, while the broker is away."""
        loop = asyncio.get_running_loop()
        outcome = await loop.run_in_executor(self._model, self._classify, records)
        await persist(
            lambda: self._write(outcome),
            away=(BrokerAway,),
            what="the broker",
            retried=self._metrics["feedback_broker_retries_total"].inc,
        )
        return outcome

    def _classify(self, records: Sequence[RawRecord]) -> Outcome:
        outcome = classify(
            records,
            log=self._logs[self._topics.raw.name],
            classifier=self._classifier,
            partitions=self._topics.scored.partitions,
            clock=time.perf_counter,
            now=datetime.now(UTC),
        )
        if outcome.inference_s:
            self._metrics["feedback_model_inference_seconds"].observe(outcome.inference_s)
            self._metrics["feedback_model_batch_items"].observe(outcome.size - len(outcome.dead))
        return outcome

    async def _write(self, outcome: Outcome) -> None:
        sends = []
        for partition, items in outcome.scored.items():
            for value in scored_values(items):
                key = items[0].feedback.workspace.encode()
                sends.append(self._send(self._topics.scored.name, key, value, partition))
        for letter in outcome.dead:
            key = letter.dead_id.encode()
            sends.append(self._send(self._topics.dead.name, key, encode_dead(letter), None))
        await asyncio.gather(*sends)


class FoldStage:
    """Commits batches of scored items and dead letters to the store; done when the transaction is."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        logs: Logs,
        metrics: WorkerMetrics,
        turned: Callable[[], None] = lambda: None,
    ) -> None:
        """`turned` is called once alerts have come into another status."""
        self._topics = Topics.of(settings.kafka)
        self._turned = turned
        self._store = store
        self._logs = logs
        self._metrics = metrics
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store")

    async def handle(self, topic: str, messages: Sequence[Message]) -> None:
        """One batch from the scored or the dead topic."""
        loop = asyncio.get_running_loop()
        folded = await self._commit(await loop.run_in_executor(self._writer, self._decode, topic, messages))
        if folded.skipped:
            # Records below the stored position were folded before, unless the topic has begun a new life.
            before = self._logs[topic]
            await self._logs.refresh([topic])
            if self._logs[topic] != before:
                folded = await self._commit(self._decode(topic, messages))
        self._observe(folded)

    async def write(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Run a call of the store on the one thread that writes; again while the database is away."""
        loop = asyncio.get_running_loop()
        return await persist(
            lambda: loop.run_in_executor(self._writer, lambda: call(*arguments, **named)),
            away=(StoreAway,),
            what="the database",
            retried=self._metrics["feedback_store_retries_total"].inc,
        )

    async def _commit(self, arrivals: list[Arrival]) -> Folded:
        folded: Folded = await self.write(self._fold, arrivals)
        return folded

    def _fold(self, arrivals: list[Arrival]) -> Folded:
        started = time.perf_counter()
        folded = self._store.fold(arrivals, now=datetime.now(UTC))
        self._metrics["feedback_fold_seconds"].observe(time.perf_counter() - started)
        return folded

    def _decode(self, topic: str, messages: Sequence[Message]) -> list[Arrival]:
        log_identity = self._logs[topic]
        arrivals = []
        for message in messages:
            scored: tuple[Scored, ...] = ()
            dead = None
            try:
                if topic == self._topics.dead.name:
                    dead = decode_dead(message.value)
                else:
                    scored = tuple(decode_scored(message.value))
            except DecodeError as error:
                dead = DeadLetter(
                    dead_id=f"{log_identity}/{message.partition}/{message.offset}",
                    stage="fold",
                    reason=error.reason,
                    detail=str(error),
                    payload=message.value or b"",
                    key=message.key,
                    failed_at=datetime.now(UTC),
                    origin=f"{topic}:{message.partition}:{message.offset}",
                )
            arrivals.append(
                Arrival(
                    log=log_identity,
                    topic=topic,
                    partition=message.partition,
                    offset=message.offset,
                    scored=scored,
                    dead=dead,
                )
            )
        return arrivals

    def _observe(self, folded: Folded) -> None:
        metrics, changes, now = self._metrics, folded.changes, time.time()
        metrics.counted(
            (i.feedback.source, i.feedback.channel, i.prediction.topic, i.prediction.label)
            for i in changes.counted
            if i.prediction is not None
        )
        metrics.met(
            (i.feedback.touchpoint or "", i.prediction.label) for i in changes.counted if i.prediction is not None
        )
        for item in changes.counted:
            if not item.feedback.backfill:
                latency = now - item.feedback.received_at.timestamp()
                metrics["feedback_end_to_end_latency_seconds"].observe(latency)
        for source in changes.late:
            metrics["feedback_late_items_total"].labels(metrics.source(source)).inc()
        metrics.turned(folded.transitions)
        if folded.transitions:
            self._turned()
        for letter in folded.dead:
            metrics.buried(letter.stage, letter.reason)
        for name, count in (
            ("replaced", changes.replaced),
            ("retracted", changes.retracted),
            ("duplicate", changes.unchanged),
            ("expired", changes.expired),
            ("silent", changes.silent),
        ):
            if count:
                metrics[f"feedback_{name}_items_total"].inc(count)
