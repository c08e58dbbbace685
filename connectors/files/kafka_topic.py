"""Any existing Kafka topic of JSON records, with a field mapping."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from connectors import mapping
from connectors.connector import Cursor, Gap, Item, Page, Permanent, Retryable, Skipped
from connectors.feedback import Fault
from connectors.fields import Unreadable, skip
from connectors.option import Misconfigured, Secret, option
from connectors.registry import Context, connector

_BOOTSTRAP: Final = re.compile(r"[^\s,:/]+:\d{1,5}(,\s*[^\s,:/]+:\d{1,5})*|\[[0-9a-fA-F:]+\]:\d{1,5}")
PAGE_RECORDS: Final = 500
POLL_MS: Final = 1_000
ENDS_WITHIN_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaTopic:
    """Settings."""

    bootstrap: str = option("the cluster that has the topic, host:port,…", example="kafka.example:9092")
    topic: str = option("name of the topic", example="shop.reviews")
    fields: Mapping[str, str] = option(
        "where each field stands in a record: id, text, created_at, … = dotted path; others go by their own name",
        example={"text": "payload.body", "id": "payload.id"},
        default=None,
    )
    rating_max: float = option("the best rating there is, with 1 as the worst", default=5.0, least=1.01)
    username: str | None = option("user for SASL/SCRAM-SHA-512, where the cluster wants one", default=None)
    password: Secret | None = option("its password", example="env:KAFKA_PASSWORD", default=None)
    tls: bool = option("whether to speak TLS", default=False)


@connector(
    name="kafka",
    title="An existing Kafka topic",
    kind="files",
    channel="other",
    modes=("stream",),
    cursor="The next offset of every partition; reads no consumer group and leaves the cluster as it is.",
    limits=(
        "What the topic's retention deleted before it was read is a gap, which is recorded.",
        "A record without an id is known by its partition and offset; without a time, by the record's timestamp.",
        "Keep Ovoz's own topics out of it.",
    ),
    source="https://kafka.apache.org/documentation/",
    config=KafkaTopic,
)
class KafkaConnector:
    """See the declaration."""

    def __init__(self, config: KafkaTopic, context: Context) -> None:
        self._config = config
        self._now = context.now
        faults = mapping.faults(config.fields or {})
        if (config.username is None) != (config.password is None):
            name = "password" if config.password is None else "username"
            faults.append(Fault(field=name, reason="must be set: username and password go together"))
        if not _BOOTSTRAP.fullmatch(config.bootstrap):
            faults.append(Fault(field="bootstrap", reason="must be host:port, or several with commas between them"))
        if faults:
            raise Misconfigured(faults)

    async def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`. Without a cursor it begins at the end, and says so by an empty page first."""
        async with self._consumer() as consumer:
            places = sorted(consumer.assignment())
            first = await consumer.beginning_offsets(places)
            end = await _ends(consumer, places)
            offsets, gaps = await self._start(consumer, cursor, first, end)
            for place, offset in offsets.items():
                consumer.seek(place, offset)
            yield Page(cursor=self._cursor(offsets), gaps=gaps)
            while follow or any(offsets[place] < end[place] for place in places):
                got = await consumer.getmany(timeout_ms=POLL_MS, max_records=PAGE_RECORDS)
                items: list[Item] = []
                skipped: list[Skipped] = []
                for place, records in got.items():
                    for record in records:
                        self._convert(record, items, skipped)
                    offsets[place] = records[-1].offset + 1
                for place in places if not got else ():
                    # Behind the last record may stand offsets without one: markers of transactions.
                    offsets[place] = max(offsets[place], await consumer.position(place))
                if got:
                    yield Page(items=tuple(items), skipped=tuple(skipped), cursor=self._cursor(offsets))

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`: the first records whose timestamps are not older."""
        return {"since_ms": int(moment.timestamp() * 1_000)}

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[Any]:
        """A consumer of no group, with every partition of the topic assigned."""
        config = self._config
        access = {
            "bootstrap_servers": config.bootstrap,
            "security_protocol": ("SASL_" if config.username else "") + ("SSL" if config.tls else "PLAINTEXT"),
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": config.username,
            "sasl_plain_password": config.password.reveal() if config.password else None,
            "ssl_context": ssl.create_default_context() if config.tls else None,
        }
        where = f"Kafka at {config.bootstrap}, topic {config.topic}"
        try:
            async with _running(AIOKafkaAdminClient(**access)) as admin:
                (topic,) = await admin.describe_topics([config.topic])
            if topic["error_code"] == UnknownTopicOrPartitionError.errno:
                raise Permanent(f"topic: the cluster at {config.bootstrap} has no {config.topic!r}")
            options = {"enable_auto_commit": False, "isolation_level": "read_committed", **access}
            async with _running(AIOKafkaConsumer(max_partition_fetch_bytes=2**20, **options)) as consumer:
                numbers = sorted(entry["partition"] for entry in topic["partitions"])
                consumer.assign([TopicPartition(config.topic, number) for number in numbers])
                yield consumer
        except (SaslAuthenticationFailed, TopicAuthorizationFailedError) as error:
            raise Permanent(f"{where}: {type(error).__name__}: check username, password and its rights") from None
        except (KafkaError, OSError) as error:
            raise Retryable(f"{where}: {type(error).__name__}: {error}") from None

    async def _start(
        self, consumer: Any, cursor: Cursor | None, first: Mapping[Any, int], end: Mapping[Any, int]
    ) -> tuple[dict[Any, int], tuple[Gap, ...]]:
        if cursor is None:
            return dict(end), ()
        if "since_ms" in cursor:
            found = await consumer.offsets_for_times(dict.fromkeys(end, int(cursor["since_ms"])))
            return {place: found[place].offset if found.get(place) else end[place] for place in end}, ()
        known = {int(number): int(offset) for number, offset in cursor["offsets"].items()}
        offsets: dict[Any, int] = {}
        lost = []
        for place in end:
            offset = known.get(place.partition, first[place])  # a partition that was added is read whole
            if not first[place] <= offset <= end[place]:
                lost.append(place.partition)
                offset = first[place]
            offsets[place] = offset
        if not lost:
            return offsets, ()
        since = datetime.fromtimestamp(float(cursor.get("at", 0)), UTC)
        reason = f"partitions {lost} no longer have the records that came next: retention, or the topic was made anew"
        return offsets, (Gap(since=since, until=self._now(), reason=reason),)

    def _convert(self, record: Any, items: list[Item], skipped: list[Skipped]) -> None:
        where = f"{record.topic}:{record.partition}:{record.offset}"
        if record.value is None:
            return
        try:
            items.append(
                mapping.item(
                    json.loads(record.value),
                    self._config.fields or {},
                    default_id=f"{record.partition}-{record.offset}",
                    default_at=datetime.fromtimestamp(record.timestamp / 1_000, UTC),
                    scale=(1.0, self._config.rating_max),
                )
            )
        except (Unreadable, ValueError, RecursionError) as error:
            skipped.append(skip(str(error), where, record.value))

    def _cursor(self, offsets: Mapping[Any, int]) -> Cursor:
        return {
            "offsets": {str(place.partition): offset for place, offset in offsets.items()},
            "at": int(self._now().timestamp()),
        }


async def _ends(consumer: Any, places: list[Any]) -> dict[Any, int]:
    """The offset after the last record that may be read, by partition.

    Some brokers list the start of their last batch instead: where it really ends is told by a fetch.
    """
    told: dict[Any, int] = await consumer.end_offsets(places)
    for place, offset in told.items():
        consumer.seek(place, offset)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ENDS_WITHIN_S
    while any(consumer.last_stable_offset(place) is None for place in places):
        if loop.time() > deadline:
            raise Retryable(f"no end of every partition was told within {ENDS_WITHIN_S:g} s")
        await consumer.getmany(timeout_ms=100)
    return {place: max(offset, consumer.last_stable_offset(place)) for place, offset in told.items()}


@asynccontextmanager
async def _running(client: Any) -> AsyncIterator[Any]:
    started = False
    try:
        await client.start()
        started = True
        yield client
    finally:
        # A consumer wants to be stopped even where it could not start; an admin client only closes.
        stop = getattr(client, "stop", None) or client.close
        if started or hasattr(client, "stop"):
            await stop()
