"""The connector that reads an existing Kafka topic, on Apache Kafka.

The embedded broker tells the end of a log wrongly and knows no offsets by time: it is no topic of anybody's.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition

from benchmarks.servers import KafkaServer, ServerMissing
from connectors.connector import Page, Permanent, Retryable
from connectors.files.kafka_topic import KafkaConnector, KafkaTopic
from connectors.registry import Context
from tests.connectors import items, read_all

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    except ServerMissing as error:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    server.start()
    yield server.bootstrap
    server.stop()


@pytest.fixture
async def topic(bootstrap: str) -> str:
    name = f"shop.{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, 3, 1)])
    await admin.close()
    return name


@pytest.fixture
async def producer(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    made = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await made.start()
    yield made
    await made.stop()


def connector(bootstrap: str, topic: str, **settings: Any) -> KafkaConnector:
    fields = {"text": "payload.body", "id": "payload.id"}
    context = Context(http=None, now=lambda: datetime.now(UTC))  # type: ignore[arg-type]
    return KafkaConnector(KafkaTopic(bootstrap=bootstrap, topic=topic, fields=fields, **settings), context)


async def send(producer: AIOKafkaProducer, topic: str, ids: range) -> None:
    sent = []
    for n in ids:
        value = json.dumps({"payload": {"id": f"r{n}", "body": f"text {n}"}, "rating": 4}).encode()
        sent.append(await producer.send(topic, value, partition=n % 3))
    await asyncio.gather(*sent)


def numbers(pages: list[Page]) -> list[int]:
    return sorted(int(item.external_id[1:]) for item in items(pages))


async def test_it_begins_now_and_goes_on_from_any_cursor(
    bootstrap: str, topic: str, producer: AIOKafkaProducer
) -> None:
    await send(producer, topic, range(5))
    start = await read_all(connector(bootstrap, topic), None)
    assert numbers(start) == []
    await send(producer, topic, range(5, 1_300))
    pages = await read_all(connector(bootstrap, topic), start[-1].cursor)
    assert numbers(pages) == list(range(5, 1_300)) and len(pages) > 2
    for stop in range(len(pages)):
        rest = await read_all(connector(bootstrap, topic), json.loads(json.dumps(pages[stop].cursor)))
        assert numbers(pages[: stop + 1] + rest) == list(range(5, 1_300))


async def test_history_is_read_since_a_moment(bootstrap: str, topic: str, producer: AIOKafkaProducer) -> None:
    await send(producer, topic, range(7))
    asked = connector(bootstrap, topic)
    assert numbers(await read_all(asked, asked.since(datetime.now(UTC) - timedelta(hours=1)))) == list(range(7))
    assert numbers(await read_all(asked, asked.since(datetime.now(UTC) + timedelta(hours=1)))) == []


async def test_unreadable_records_are_kept_and_their_neighbours_go_in(
    bootstrap: str, topic: str, producer: AIOKafkaProducer
) -> None:
    cursor = (await read_all(connector(bootstrap, topic), None))[-1].cursor
    await send(producer, topic, range(1))
    for poison in (b"\xff\xfe", b"[" * 50_000, b"5", b'{"payload": 7}', b""):
        await producer.send_and_wait(topic, poison, partition=0)
    await producer.send_and_wait(topic, None, key=b"tombstone", partition=0)
    await send(producer, topic, range(1, 2))
    pages = await read_all(connector(bootstrap, topic), cursor)
    assert numbers(pages) == [0, 1]
    assert len([skipped for page in pages for skipped in page.skipped]) == 5


async def test_it_follows_until_it_is_closed(bootstrap: str, topic: str, producer: AIOKafkaProducer) -> None:
    stream = connector(bootstrap, topic).pages(None, follow=True)
    async with asyncio.timeout(30):
        assert not (await anext(stream)).items
        await send(producer, topic, range(3))
        found: list[Page] = []
        while len(items(found)) < 3:
            found.append(await anext(stream))
    await stream.aclose()  # type: ignore[attr-defined]
    assert numbers(found) == [0, 1, 2]


async def test_records_that_the_topic_no_longer_has_are_a_gap(
    bootstrap: str, topic: str, producer: AIOKafkaProducer
) -> None:
    cursor = (await read_all(connector(bootstrap, topic), None))[-1].cursor
    await send(producer, topic, range(30))
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=4)})
    await admin.close()
    pages = await read_all(connector(bootstrap, topic), cursor)
    assert numbers(pages) == [n for n in range(30) if n % 3 or n >= 12]
    (gap,) = pages[0].gaps
    assert "partitions [0]" in gap.reason and gap.since < gap.until


async def test_a_topic_that_is_not_there_is_permanent_and_a_broker_that_is_not_is_retryable(
    bootstrap: str,
) -> None:
    with pytest.raises(Permanent, match="no-such-topic"):
        await read_all(connector(bootstrap, "no-such-topic"), None)
    with pytest.raises(Retryable):
        await read_all(connector("127.0.0.1:1", "any"), None)
