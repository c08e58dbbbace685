"""The door to Kafka (kafka-python): publishing with acknowledgement, topics, offsets, reading again.

The Faust workers have their own client; everything else that talks to the broker does it here.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetSpec, TopicPartition
from kafka.errors import KafkaError, TopicAlreadyExistsError

from pipeline.settings import Kafka
from pipeline.topics import Topic, Topics

log = logging.getLogger("ovoz.bus")

CONNECT_TIMEOUT_S: Final = 5.0
ENDS_TIMEOUT_S: Final = 15.0
MAX_RECORD_BYTES: Final = 8_000_000


class BrokerAway(RuntimeError):
    """The broker did not answer or acknowledge in time. What was sent may still arrive: send it again."""


class TopicMismatch(RuntimeError):
    """A topic exists with another number of partitions than the settings say."""


class Bus:
    """Publishes records and returns once the broker has them.

    Thread-safe; connects on first use, so that a process can start while the broker is away.
    `delivery_timeout_s`: after so long without acknowledgement a record counts as undelivered.
    """

    def __init__(self, kafka: Kafka, *, delivery_timeout_s: float = 15.0) -> None:
        self._kafka = kafka
        self._timeout_s = delivery_timeout_s
        self._lock = threading.Lock()
        self._producer: Any = None
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="bus")

    def send(self, topic: str, records: Iterable[tuple[bytes, bytes]]) -> list[Future[tuple[int, int]]]:
        """Hand (key, value) records to the producer; each future gives (partition, offset) or BrokerAway.

        Blocks while the topic's metadata is fetched. Raises BrokerAway when the broker cannot be reached.
        """
        with self._lock:
            return [_chain(sent) for sent in self._sent(topic, records)]

    def _hand(self, topic: str, records: Iterable[tuple[bytes, bytes]], finished: Callable[[Any], None]) -> None:
        with self._lock:
            for sent in self._sent(topic, records):
                sent.add_both(finished)

    def _sent(self, topic: str, records: Iterable[tuple[bytes, bytes]]) -> Iterator[Any]:
        producer = self._connect()
        try:
            for key, value in records:
                yield producer.send(topic, key=key, value=value)
        except KafkaError as error:
            self._forget()
            raise BrokerAway(f"{self._kafka.bootstrap}: {error}") from error

    async def publish(self, topic: str, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the records and return once the broker has acknowledged all of them.

        Raises BrokerAway when any is not acknowledged in time.
        """
        loop = asyncio.get_running_loop()
        done, outcomes = loop.create_future(), list[Any]()

        def arrived() -> None:
            if not done.done():
                done.set_result(None)

        def finished(outcome: Any) -> None:
            outcomes.append(outcome)
            if len(outcomes) == len(records):
                with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                    loop.call_soon_threadsafe(arrived)

        # One list for a batch: a future for each record would cost more than all else here.
        await loop.run_in_executor(self._sender, self._hand, topic, records, finished)
        if records:
            await done
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise BrokerAway(f"not acknowledged: {outcome!r}")

    def ping(self) -> None:
        """Return when the broker answers. Raises BrokerAway."""
        with admin(self._kafka) as client:
            client.log_identity(Topics.of(self._kafka).raw.name)

    def close(self) -> None:
        """Flush what is under way and disconnect."""
        self._sender.shutdown(wait=True)
        with self._lock:
            if self._producer is not None:
                self._producer.close(timeout=5)
                self._producer = None

    def _connect(self) -> Any:
        if self._producer is None:
            with admin(self._kafka) as client:
                client.ensure_topics(Topics.of(self._kafka))
            milliseconds = int(self._timeout_s * 1000)
            try:
                self._producer = KafkaProducer(
                    bootstrap_servers=self._kafka.bootstrap,
                    bootstrap_timeout_ms=int(CONNECT_TIMEOUT_S * 1000),
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=2,
                    batch_size=131_072,
                    max_request_size=MAX_RECORD_BYTES,
                    max_block_ms=min(milliseconds, 5000),
                    request_timeout_ms=max(1000, min(milliseconds - 100, 10_000)),
                    delivery_timeout_ms=milliseconds,
                    reconnect_backoff_max_ms=1000,
                    allow_auto_create_topics=False,
                )
            except (KafkaError, OSError) as error:
                raise BrokerAway(f"{self._kafka.bootstrap}: {error}") from error
        return self._producer

    def _forget(self) -> None:
        """Drop the connection, so that the next use looks at the broker and its topics afresh."""
        producer, self._producer = self._producer, None
        if producer is not None:
            threading.Thread(target=producer.close, kwargs={"timeout": 0}, daemon=True).start()

    def renew(self) -> None:
        """Connect afresh on next use; to be called after BrokerAway, since a broker may have lost its topics."""
        with self._lock:
            self._forget()


class Admin:
    """Topics, offsets and single records; one connection, closed at the end of a `with`."""

    def __init__(self, kafka: Kafka, client: Any) -> None:
        self._kafka = kafka
        self._client = client

    def ensure_topics(self, topics: Iterable[Topic]) -> None:
        """Create what is missing. Raises TopicMismatch where one exists with other partitions."""
        existing = set(self._client.list_topics())
        for topic in topics:
            if topic.name not in existing:
                try:
                    self._client.create_topics({topic.name: _creation(topic)})
                except TopicAlreadyExistsError:
                    log.debug("topic %s was created by another process meanwhile", topic.name)
            else:
                found = len(self._describe(topic.name)["partitions"])
                if found != topic.partitions:
                    raise TopicMismatch(
                        f"topic {topic.name} has {found} partitions, the settings say {topic.partitions}: "
                        f"write [kafka] partitions = {found}"
                    )

    def log_identity(self, topic: str) -> str:
        """The name of this life of a topic: its id, which a broker that lost its data gives anew."""
        return str(self._describe(topic)["topic_id"])

    def starts(self, topic: str) -> dict[int, int]:
        """The first offset that is still kept, by partition."""
        keys = self._partitions(topic)
        first = self._client.list_partition_offsets({key: OffsetSpec.EARLIEST for key in keys})
        return {key.partition: first[key].offset for key in keys}

    def ends(self, topic: str) -> dict[int, tuple[int, int]]:
        """(first kept offset, offset after the last) by partition.

        The end is found by reading on from what ListOffsets says, which on the embedded broker is only the
        start of its last batch, to the high watermark that fetches tell. Raises BrokerAway when they do not.
        """
        keys = self._partitions(topic)
        last = self._client.list_partition_offsets({key: OffsetSpec.LATEST for key in keys})
        consumer = _consumer(self._kafka, fetch_max_wait_ms=100)
        try:
            consumer.assign(keys)
            for key in keys:
                consumer.seek(key, last[key].offset)
            deadline = time.monotonic() + ENDS_TIMEOUT_S
            while not all(_at_end(consumer, key) for key in keys):
                if time.monotonic() > deadline:
                    raise BrokerAway(f"{self._kafka.bootstrap}: no end of {topic} within {ENDS_TIMEOUT_S:g} s")
                consumer.poll(timeout_ms=150, max_records=10_000)
            marks = {key.partition: consumer.position(key) for key in keys}
        finally:
            consumer.close()
        starts = self.starts(topic)
        return {key.partition: (starts[key.partition], max(last[key].offset, marks[key.partition])) for key in keys}

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Next offset that a consumer group will read, by partition; absent where it never committed."""
        offsets: Mapping[Any, Any] = self._client.list_group_offsets(group).get(group, {})
        return {key.partition: at.offset for key, at in offsets.items() if key.topic == topic and at.offset >= 0}

    def _partitions(self, topic: str) -> list[Any]:
        return [TopicPartition(topic, found["partition_index"]) for found in self._describe(topic)["partitions"]]

    def _describe(self, topic: str) -> Mapping[str, Any]:
        (description,) = self._client.describe_topics([topic])
        if description["error_code"] != 0:
            raise BrokerAway(f"{self._kafka.bootstrap}: topic {topic} is not there")
        return description  # type: ignore[no-any-return]


def _at_end(consumer: Any, key: Any) -> bool:
    """Whether a fetch has answered for the partition, and all before its high watermark is read."""
    high = consumer.highwater(key)
    return high is not None and consumer.position(key) >= high


class admin:
    """`with admin(kafka) as client:` an Admin; every fault of the connection becomes BrokerAway."""

    def __init__(self, kafka: Kafka, *, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self._kafka = kafka
        self._timeout_ms = int(timeout_s * 1000)
        self._client: Any = None

    def __enter__(self) -> Admin:
        try:
            self._client = KafkaAdminClient(
                bootstrap_servers=self._kafka.bootstrap,
                bootstrap_timeout_ms=self._timeout_ms,
                request_timeout_ms=max(self._timeout_ms, 1000),
            )
        except (KafkaError, OSError) as error:
            raise BrokerAway(f"no broker answers on {self._kafka.bootstrap}: {error}") from error
        return Admin(self._kafka, self._client)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._client.close()
        if isinstance(error, KafkaError | OSError):
            raise BrokerAway(f"{self._kafka.bootstrap}: {error!r}") from error


def read_offsets(
    kafka: Kafka, topic: str, partition: int, ranges: Sequence[tuple[int, int]], *, timeout_s: float = 20.0
) -> Iterator[tuple[int, bytes | None, bytes | None]]:
    """(offset, key, value) of the records in the half-open `ranges` of one partition, read once again.

    Offsets that the broker no longer keeps are left out; the ranges must lie below the log's end.
    Raises BrokerAway.
    """
    where = TopicPartition(topic, partition)
    consumer = _consumer(kafka)
    try:
        consumer.assign([where])
        for start, stop in ranges:
            consumer.seek(where, start)
            position, waited = start, 0.0
            while position < stop:
                batch = consumer.poll(timeout_ms=500, max_records=500).get(where, [])
                if not batch:
                    waited += 0.5
                    if waited >= timeout_s:
                        raise BrokerAway(f"{topic}[{partition}] gave nothing at offset {position}")
                    continue
                for record in batch:
                    if record.offset < stop:
                        yield record.offset, record.key, record.value
                    position = record.offset + 1
    except KafkaError as error:
        raise BrokerAway(f"{kafka.bootstrap}: {error!r}") from error
    finally:
        consumer.close()


def _consumer(kafka: Kafka, **settings: Any) -> Any:
    try:
        return KafkaConsumer(
            bootstrap_servers=kafka.bootstrap,
            bootstrap_timeout_ms=int(CONNECT_TIMEOUT_S * 1000),
            enable_auto_commit=False,
            group_id=None,
            auto_offset_reset="earliest",
            **settings,
        )
    except (KafkaError, OSError) as error:
        raise BrokerAway(f"{kafka.bootstrap}: {error}") from error


def _creation(topic: Topic) -> dict[str, Any]:
    return {
        "num_partitions": topic.partitions,
        "replication_factor": topic.replication,
        "configs": {
            "retention.ms": str(topic.retention_hours * 3_600_000),
            "cleanup.policy": "compact,delete" if topic.compacted else "delete",
            "max.message.bytes": str(MAX_RECORD_BYTES),
        },
    }


def _chain(sent: Any) -> Future[tuple[int, int]]:
    future: Future[tuple[int, int]] = Future()
    deliver: Callable[[Any], None] = lambda meta: future.set_result((meta.partition, meta.offset))  # noqa: E731
    sent.add_callback(deliver)
    sent.add_errback(lambda error: future.set_exception(BrokerAway(f"not acknowledged: {error!r}")))
    return future
