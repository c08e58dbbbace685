"""What the tests of connectors share: a fake at work, and a connector that speaks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from connectors.connector import Connector, Cursor, Item, Page, Reader
from connectors.fakes.fake import Limited, OnBroker, Running, Said, fake_of
from connectors.option import read
from connectors.registry import Context, declaration
from connectors.transport import Http
from pipeline.broker import EmbeddedBroker

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    at: datetime = NOW

    def __call__(self) -> datetime:
        return self.at


@dataclass
class Bench:
    """A connector on its fake."""

    name: str
    service: Running
    connector: Connector
    clock: Clock
    context: Context
    table: dict[str, Any]
    secrets: Mapping[str, str] = field(default_factory=dict)

    def rebuilt(self, environment: Mapping[str, str] | None = None) -> Connector:
        """The connector as a new process would make it, later, perhaps with other secrets."""
        if isinstance(self.service.fake, Limited):
            for limit in self.service.fake.limits:
                limit.renew()
        found = declaration(self.name)
        return found.build(read(found.config, self.table, environment or self.secrets), self.context)

    def start(self, since: datetime = NOW - timedelta(days=1)) -> Cursor | None:
        """Where to begin so that what was said before comes: no cursor, but for services that tell only what is new."""
        if not getattr(self.service.fake, "live", False):
            return None
        assert isinstance(self.connector, Reader)
        return self.connector.since(since)

    def say(self, count: int, *, start: int = 0, at: datetime = NOW - timedelta(hours=2)) -> list[Said]:
        """`count` customers speak, a second apart from the `start`th second after `at`."""
        said = [
            Said(id=f"{n + 1:06d}", text=f"The courier never came, {n}", at=at + timedelta(seconds=n))
            for n in range(start, start + count)
        ]
        for one in said:
            self.service.fake.say(one)
        return said


@asynccontextmanager
async def bench(name: str, timeout_s: float = 2.0) -> AsyncIterator[Bench]:
    """A running fake of the service, and its connector."""
    fake, clock, found = fake_of(name), Clock(), declaration(name)
    if hasattr(fake, "now"):  # A service that checks times of tokens keeps the same clock.
        fake.now = clock
    async with AsyncExitStack() as stack:
        if isinstance(fake, OnBroker):
            fake.bootstrap = stack.enter_context(EmbeddedBroker()).bootstrap
        service = await stack.enter_async_context(Running(fake))
        service.now = clock
        session = await stack.enter_async_context(aiohttp.ClientSession())
        async def sleep(seconds: float) -> None:
            """Time passes for connector and service alike."""
            clock.at += timedelta(seconds=seconds)

        context = Context(http=Http(session, clock, timeout_s, sleep=sleep), now=clock)
        table, secrets = service.table, fake.environment
        made = found.build(read(found.config, table, secrets), context)
        yield Bench(name, service, made, clock, context, table, secrets)


async def read_all(reader: Connector, cursor: Cursor | None) -> list[Page]:
    """Every page after a cursor, until the connector has caught up."""
    assert isinstance(reader, Reader)
    return [page async for page in reader.pages(cursor, follow=False)]


def items(pages: list[Page]) -> list[Item]:
    """The items of the pages."""
    return [item for page in pages for item in page.items]
