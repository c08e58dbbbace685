"""The door to Faust: two small apps, one for each stage, and the one rule of acknowledgement.

A record is acknowledged only after its batch is done. Faust by itself also acknowledges what it never
ran: events that it skips at a rebalance, and a whole batch whose agent was cancelled. So the consumer
here acknowledges nothing but what a stage has reported as finished, and only in the generation of the
consumer group that fetched it.
"""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import faust
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from faust.exceptions import ProducerSendError
from faust.transport.drivers import aiokafka as driver
from mode.services import WaitResults
from yarl import URL

from pipeline.bus import BrokerAway
from pipeline.settings import Settings

log = logging.getLogger("ovoz.app")

MAX_REQUEST_BYTES: Final = 8_000_000
FETCH_WAIT_MS: Final = 50
Handler = Callable[[str, Sequence["Message"]], Awaitable[None]]


class GroupRefused(RuntimeError):
    """The broker does not let this worker into its consumer group; says why and what to change."""


@dataclass(frozen=True, slots=True)
class Message:
    """One record as a stage sees it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


@dataclass(slots=True)
class Stage:
    """One Faust app: which topics it reads, with which handler, in batches of what size.

    `handle(topic, messages)` returns once the batch is done for good; what it raises ends the process
    with the batch unacknowledged. `assigned` hears of the partitions after every rebalance.
    """

    name: str
    topics: tuple[str, ...]
    handle: Handler
    batch_items: int
    batch_wait_s: float
    assigned: Callable[[dict[str, set[int]]], Awaitable[None]]
    acknowledge_own_generation: bool = True
    app: Any = None
    processing: dict[str, int] = field(default_factory=dict)
    taken: dict[tuple[str, int], int] = field(default_factory=dict)


def build(settings: Settings, stage: Stage, failed: Callable[[BaseException], None]) -> Any:
    """A Faust app that runs a stage. Call inside the running event loop; then `await app.start()`."""
    kafka, worker = settings.kafka, settings.worker
    brokers = [URL("kafka://" + one.strip()) for one in kafka.bootstrap.split(",")]
    data_dir = Path(worker.data_dir) / stage.name
    data_dir.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        f"{worker.group}-{stage.name}",
        broker=brokers,
        datadir=str(data_dir),
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        topic_partitions=kafka.partitions,
        topic_replication_factor=kafka.replication,
        stream_wait_empty=not stage.acknowledge_own_generation,
        broker_max_poll_records=256,
        broker_session_timeout=worker.session_timeout_s,
        broker_heartbeat_interval=worker.session_timeout_s / 6,
        broker_request_timeout=max(30.0, worker.session_timeout_s * 2),
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=MAX_REQUEST_BYTES,
        producer_max_request_size=MAX_REQUEST_BYTES,
        producer_acks=-1,
        producer_linger=0.0,
        loop=asyncio.get_running_loop(),
        monitor=_Monitor(),
    )
    finished: set[tuple[str, int, int]] = set()
    app.transport = _transport(finished, stage.acknowledge_own_generation)(brokers, app)
    for name in stage.topics:
        _attach(app, name, stage, finished, failed)

    @app.on_partitions_assigned.connect(weak=False)  # type: ignore[untyped-decorator]
    async def on_assigned(_: Any, partitions: set[Any], **__: Any) -> None:
        by_topic: dict[str, set[int]] = {name: set() for name in stage.topics}
        for tp in partitions:
            if tp.topic in by_topic:
                by_topic[tp.topic].add(tp.partition)
        finished.clear()
        stage.taken.clear()
        try:
            await stage.assigned(by_topic)
        except Exception as error:
            failed(error)

    stage.app = app
    return app


def raw_topic(app: Any, name: str, partitions: int) -> Any:
    """A topic of bytes, decoded by ourselves."""
    return app.topic(
        name,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        partitions=partitions,
        allow_empty=True,
    )


def _attach(
    app: Any,
    name: str,
    stage: Stage,
    finished: set[tuple[str, int, int]],
    failed: Callable[[BaseException], None],
) -> None:
    async def agent(stream: Any) -> None:
        async for events in stream.take_events(stage.batch_items, within=stage.batch_wait_s):
            messages = [
                Message(e.message.topic, e.message.partition, e.message.offset, e.message.key, e.message.value)
                for e in events
            ]
            stage.processing[name] = len(messages)
            try:
                await stage.handle(name, messages)
            except Exception as error:
                # An exception that left the agent would acknowledge the batch: hold it until the process ends.
                failed(error)
                await asyncio.Event().wait()
            finally:
                stage.processing[name] = 0
            for message in messages:
                finished.add((message.topic, message.partition, message.offset))
                stage.taken[message.topic, message.partition] = message.offset + 1

    topic = raw_topic(app, name, app.conf.topic_partitions)
    app.agent(topic, name=f"{stage.name}:{name}", concurrency=1)(agent)


class _Monitor(faust.Monitor):  # type: ignore[misc]
    """Without Faust's statistics of each record, which nothing reads."""

    def on_message_in(self, *_: Any) -> None:
        """Nothing."""

    def on_message_out(self, *_: Any) -> None:
        """Nothing."""

    def on_stream_event_in(self, *_: Any) -> None:
        """Nothing."""

    def on_stream_event_out(self, *_: Any) -> None:
        """Nothing."""


class _ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Asks for records in short waits: the embedded broker looks for new ones only now and then within a wait, and
    Faust's 1.5 s would cost an item that comes after a silence half a second at each stage.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer


@types.coroutine
def _rest(begun: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    while True:
        try:
            sent = yield waits_for
        except GeneratorExit:
            begun.close()
            raise
        except BaseException as error:
            go_on = partial(begun.throw, error)
        else:
            go_on = partial(begun.send, sent)
        try:
            waits_for = go_on()
        except StopIteration as end:
            return end.value


async def resumed(begun: Coroutine[Any, Any, Any], waits_for: Any) -> Any:
    """The rest of a coroutine that was begun by hand and has asked to wait for `waits_for`.

    What is thrown in here (into a task that is cancelled) reaches the coroutine, or whatever it waits in would keep it.
    """
    return await _rest(begun, waits_for)


def _transport(finished: set[tuple[str, int, int]], guarded: bool) -> type:
    class Consumer(driver.Consumer):  # type: ignore[misc]
        def _new_consumer_thread(self) -> Any:
            return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

        async def wait_first(self, *waiting: Any, timeout: Any = None) -> Any:
            # Faust hands over each record in a race of four tasks, which cost more than everything else that is done
            # with it here. The handing over nearly always has nothing to wait for: then nobody needs to race.
            if len(waiting) != 2 or not all(map(asyncio.iscoroutine, waiting)):
                return await super().wait_first(*waiting, timeout=timeout)
            first, other = waiting
            try:
                waits_for = first.send(None)
            except StopIteration as end:
                other.close()
                return WaitResults([first], [end.value], False)
            except BaseException:
                other.close()
                raise
            return await super().wait_first(resumed(first, waits_for), other, timeout=timeout)

        def ack(self, message: Any) -> bool:
            if not guarded:
                return bool(super().ack(message))
            key = (message.topic, message.partition, message.offset)
            stale = message.generation_id != self.app.consumer_generation_id or self.app.rebalancing
            if key not in finished or stale:
                if not message.acked:
                    message.acked = True
                    self._unacked_messages.discard(message)
                return False
            finished.discard(key)
            return bool(super().ack(message))

    class Transport(driver.Transport):  # type: ignore[misc]
        pass

    Transport.Consumer = Consumer
    return Transport


def refusal(app: Any) -> Exception | None:
    """Why the broker lets this member of the consumer group take part no longer, if that is so.

    GroupRefused where only somebody can mend it; anything else may go away with a new connection. Without
    this look a stage would wait for ever: aiokafka keeps the error for a caller that Faust is not.
    """
    consumer = getattr(getattr(app.consumer, "_thread", None), "_consumer", None)
    coordinator = getattr(consumer, "_coordinator", None)
    if coordinator is None:
        return None
    error = getattr(coordinator, "_pending_exception", None)
    task = getattr(coordinator, "_coordination_task", None)
    if error is None and task is not None and task.done() and not task.cancelled():
        error = task.exception()
    if isinstance(error, InvalidSessionTimeoutError):
        return GroupRefused(
            f"{error}: raise [worker] session_timeout_s to what the broker allows, 6 s with Kafka's defaults "
            "(group.min.session.timeout.ms)"
        )
    if isinstance(error, GroupAuthorizationFailedError | TopicAuthorizationFailedError | InvalidGroupIdError):
        return GroupRefused(f"{error!r}: allow it, or set another [worker] group")
    if isinstance(error, InconsistentGroupProtocolError):
        return GroupRefused(f"{error}: another program uses this consumer group; set another [worker] group")
    return error


def lag(app: Any, taken: dict[tuple[str, int], int]) -> dict[tuple[str, int], int]:
    """Records in the log beyond what was taken, by (topic, partition) of the current assignment."""
    found: dict[tuple[str, int], int] = {}
    consumer = app.consumer
    for tp in app.assignor.assigned_actives() if app.assignor else ():
        try:
            end = consumer.highwater(tp)
        except Exception as error:
            log.debug("no high watermark of %s yet: %s", tp, error)
            continue
        if end is not None:
            position = taken.get((tp.topic, tp.partition))
            if position is not None:
                found[tp.topic, tp.partition] = max(0, end - position)
    return found


def sender(app: Any, settings: Settings) -> Callable[[str, bytes, bytes, int | None], Awaitable[None]]:
    """Sends through the app's own producer; returns once the broker acknowledged. Raises BrokerAway."""
    topics: dict[str, Any] = {}

    async def send(topic: str, key: bytes, value: bytes, partition: int | None) -> None:
        if topic not in topics:
            topics[topic] = raw_topic(app, topic, settings.kafka.partitions)
        try:
            acknowledged = await topics[topic].send(key=key, value=value, partition=partition)
            await acknowledged
        except (KafkaError, ProducerSendError) as error:
            raise BrokerAway(f"{topic}: {error!r}") from error

    return send
