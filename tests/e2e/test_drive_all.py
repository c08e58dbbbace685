"""Every connector, driven at once by one intake, each on its fake; every webhook, called as its vendor calls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from connectors import registry
from connectors.fakes.fake import Hook, OnBroker, Running, Said, fake_of
from connectors.registry import declaration
from pipeline.broker import EmbeddedBroker
from pipeline.settings import Connector
from tests.e2e.test_drive import metric
from tests.intake import published, ready, running, until

ASKED = [name for name in registry.names() if {"poll", "stream"} & set(declaration(name).modes)]
TOLD = [name for name in registry.names() if "webhook" in declaration(name).modes]


def tables(services: Mapping[str, Running]) -> tuple[Connector, ...]:
    """Each connector as one that asks, and again as one that is told."""
    made = []
    for name, service in services.items():
        modes = [mode for mode in declaration(name).modes if mode != "webhook"]
        # A stream where there is one: of Telegram's two ways to ask only one may be used at a time.
        ways = ("stream",) if "stream" in modes else tuple(modes)
        if ways:
            # Zendesk takes ten exports a minute, and its fake holds to that.
            every_s = 7.0 if name == "zendesk" else 1.0
            made.append(Connector(use=name, name=name, options=service.table, modes=ways, every_s=every_s))
        if name in TOLD:
            made.append(Connector(use=name, name=f"{name}-hook", options=service.table, modes=("webhook",)))
    return tuple(made)


def said(name: str, number: int) -> Said:
    at = datetime.now(UTC) - timedelta(minutes=2)
    return Said(id=f"{number:06d}", text=f"The courier never came, says {name} for the {number}th time", at=at)


async def tell(client: aiohttp.ClientSession, name: str, service: Running, one: Said) -> None:
    """Call the webhook as the vendor does, for something said at it."""
    assert isinstance(service.fake, Hook)
    url = f"{str(client._base_url).rstrip('/')}/v1/hooks/{name}-hook"
    for request in service.fake.deliveries(one, url, datetime.now(UTC)):
        sent = {"params": dict(request.query), "data": request.body, "headers": dict(request.headers)}
        async with client.post(url, **sent) as got:
            assert got.status < 300, (name, got.status, await got.text())


@pytest.mark.slow
async def test_every_connector_brings_what_is_said_through_one_intake(broker: EmbeddedBroker, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        services: dict[str, Running] = {}
        for name in registry.names():
            fake = fake_of(name)
            if isinstance(fake, OnBroker):
                fake.bootstrap = broker.bootstrap
            services[name] = await stack.enter_async_context(Running(fake))
        environ = {key: value for service in services.values() for key, value in service.fake.environment.items()}
        made = tables(services)
        client = await stack.enter_async_context(
            running(tmp_path, broker.bootstrap, connectors=made, environ=environ)
        )
        await ready(client)
        number, heard = 0, Counter[str]()

        async def all_heard(names: set[str], text: str = "") -> bool:
            found = await asyncio.to_thread(published, broker.bootstrap)
            heard.clear()
            heard.update(item.instance for _, item in found if text in item.text)
            return names <= set(heard)

        async def speak(names: list[str]) -> None:
            nonlocal number
            number += 1
            for name in names:
                one = said(name, number)
                await asyncio.to_thread(services[name].fake.say, one)

        async def heard_or_said_again() -> bool:
            if await all_heard(set(ASKED)):
                return True
            # Who is told only what is new may not have been listening yet.
            await speak([name for name in ASKED if name not in heard])
            await asyncio.sleep(1.0)
            return False

        await until(heard_or_said_again, seconds=60)
        number = 500
        await speak(ASKED)
        await until(lambda: all_heard(set(ASKED), "for the 501th time"), seconds=60)
        for name in TOLD:
            one = said(name, 600)
            services[name].fake.say(one)
            await tell(client, name, services[name], one)
        hooks = {f"{name}-hook" for name in TOLD}
        await until(lambda: all_heard(hooks, "for the 600th time"))
        for table in made:
            state = await metric(client, "feedback_connector_state", name=table.name, state="running")
            assert state == 1.0, f"{table.name} is not running"
        found = [item for _, item in await asyncio.to_thread(published, broker.bootstrap)]
        assert not [item for item in found if "Dilnoza" in repr(item)], "no author's name"
