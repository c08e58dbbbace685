"""Where connectors' records go: the broker, and back only once it has them."""

from __future__ import annotations

import asyncio
from typing import Final

from pipeline.bus import BrokerAway, Bus, TopicMismatch
from pipeline.conversion import Converted, Record
from pipeline.publisher import Overloaded, Publisher

CHUNK_RECORDS: Final = 500
PAUSE_S: Final = 0.2


class Sink:
    """Publishes what connectors bring, beside what the HTTP intake takes."""

    def __init__(self, publisher: Publisher, bus: Bus, dead_topic: str) -> None:
        self._publisher = publisher
        self._bus = bus
        self._dead = dead_topic

    @property
    def open(self) -> bool:
        """Whether the broker acknowledges."""
        return self._publisher.away is None

    async def put(self, converted: Converted) -> None:
        """Return once the broker has everything; waits while it is away or has too much to do."""
        raw, dead = converted.raw(), converted.dead()
        for start in range(0, len(raw), CHUNK_RECORDS):
            await self._insist(raw[start : start + CHUNK_RECORDS], [])
        if dead:
            await self._insist([], dead)

    async def offer(self, converted: Converted) -> None:
        """The same at once or not at all. Raises BrokerAway, Overloaded."""
        await self._send(converted.raw(), converted.dead())

    async def _insist(self, raw: list[Record], dead: list[Record]) -> None:
        while True:
            try:
                await self._send(raw, dead)
            except (BrokerAway, Overloaded):
                await asyncio.sleep(PAUSE_S)
            else:
                return

    async def _send(self, raw: list[Record], dead: list[Record]) -> None:
        if self._publisher.away is not None:
            raise BrokerAway(self._publisher.away)
        with self._publisher.hold() as hold:
            hold.take(items=len(raw), size=sum(len(key) + len(value) for key, value in raw))
            if raw:
                await self._publisher.publish(raw)
        if dead:
            try:
                await self._bus.publish(self._dead, dead)
            except TopicMismatch as error:
                raise BrokerAway(str(error)) from error
