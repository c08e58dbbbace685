"""Another program that writes what customers say to a topic of its own, on a real broker."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from connectors.fakes.fake import Said, Verb

TOPIC = "shop.reviews"
PARTITIONS = 3


class FakeKafka:
    """See `fake.Fake`, `fake.Serving` and `fake.OnBroker`. What is said is in the topic when `say` returns."""

    can: frozenset[Verb] = frozenset({"edit", "delete", "since"})
    live = True
    """Without a cursor a connector hears only what comes from now on."""

    def __init__(self) -> None:
        self.bootstrap = ""
        self._producer: Any = None

    @property
    def environment(self) -> Mapping[str, str]:
        """The broker wants no login."""
        return {}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        fields = {"text": "payload.body", "id": "payload.id"}
        return {"bootstrap": self.bootstrap or "127.0.0.1:1", "topic": TOPIC, "fields": fields}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """None."""
        return []

    async def open(self) -> None:
        """Make the topic and connect. Raises ValueError where no broker was given."""
        if not self.bootstrap:
            raise ValueError("a topic needs a broker: set bootstrap before")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-kafka", daemon=True)
        self._thread.start()
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._connect(), self._loop))

    async def close(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._producer.stop(), self._loop))
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    def say(self, said: Said) -> None:
        """A record."""
        self._write(said.id, said.at, payload={"id": said.id, "body": said.text}, created_at=said.at.isoformat(),
                    author=said.author, rating=said.rating, language=said.language)  # fmt: skip

    def edit(self, id: str, text: str, at: datetime) -> None:
        """A record of the same id."""
        moment = at.isoformat()
        self._write(id, at, payload={"id": id, "body": text}, created_at=moment, updated_at=moment)

    def delete(self, id: str, at: datetime) -> None:
        """A record that says so."""
        self._write(id, at, payload={"id": id}, created_at=at.isoformat(), updated_at=at.isoformat(), deleted=True)

    def expire(self) -> None:
        """Nothing is deleted by retention here."""

    async def _connect(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])
        finally:
            await admin.close()
        self._producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all")
        await self._producer.start()

    def _write(self, key: str, at: datetime, **record: Any) -> None:
        sent: Coroutine[Any, Any, Any] = self._producer.send_and_wait(
            TOPIC, json.dumps(record).encode(), key=key.encode(), timestamp_ms=int(at.timestamp() * 1_000)
        )
        asyncio.run_coroutine_threadsafe(sent, self._loop).result(timeout=30)
