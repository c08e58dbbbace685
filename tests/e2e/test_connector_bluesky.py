"""The Bluesky connector on the firehose of a real personal data server, in Jetstream's two dialects."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from connectors.connector import MAX_CURSOR_BYTES, Cursor, CursorExpired, Item, Page, Retryable
from connectors.registry import Context
from connectors.social.bluesky import Bluesky, BlueskyConnector
from connectors.transport import Http
from tests.connectors import items
from tests.servers.bluesky import Account, Pds, Relay

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture(scope="module")
def pds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pds]:
    server = Pds(tmp_path_factory.mktemp("pds"))
    yield server
    server.stop()


@dataclass
class Network:
    pds: Pds
    relay: Relay
    http: Http
    dialect: str
    customer: Account

    def connector(self, *, later: timedelta = timedelta(0)) -> BlueskyConnector:
        config = Bluesky(words=("acme", "@acme.test"), server=self.relay.url, dialect=self.dialect)
        return BlueskyConnector(config, Context(http=self.http, now=lambda: datetime.now(UTC) + later))

    async def read(self, cursor: Cursor, until: int, *, wanted: Set[str] = frozenset()) -> list[Page]:
        """Pages from a cursor until so many items have come, and those that are wanted."""
        pages: list[Page] = []
        stream = self.connector().pages(cursor, follow=True)
        async with asyncio.timeout(20):
            while len(items(pages)) < until or not wanted <= set(newest(pages)):
                pages.append(await anext(stream))
        await stream.aclose()  # type: ignore[attr-defined]
        return pages


@pytest.fixture(params=["v1", "v2"])
async def network(pds: Pds, request: pytest.FixtureRequest) -> AsyncIterator[Network]:
    async with aiohttp.ClientSession() as session, Relay(pds).running() as relay:
        http = Http(session, lambda: datetime.now(UTC), 5.0)
        customer = await asyncio.to_thread(pds.account, f"d{uuid.uuid4().hex[:8]}")
        yield Network(pds, relay, http, request.param, customer)


def now() -> Cursor:
    at = datetime.now(UTC) - timedelta(seconds=1)
    return BlueskyConnector(Bluesky(words=("x",)), Context(http=None, now=lambda: at)).since(at)  # type: ignore[arg-type]


def newest(pages: list[Page]) -> dict[str, Item]:
    found: dict[str, Item] = {}
    for item in items(pages):
        if item.external_id not in found or found[item.external_id].version < item.version:
            found[item.external_id] = item
    return found


async def test_posts_about_us_come_and_others_do_not(network: Network) -> None:
    start = now()
    post = network.pds.post
    uris = [post(network.customer, text) for text in ("ACME kuryeri kelmadi", "about @acme.test: 👎")]
    for text in ("lovely weather", "acmeology is a science"):
        post(network.customer, text)
    last = post(network.customer, "acme, again")
    found = newest(await network.read(start, 3))
    assert set(found) == {*uris, last}
    item = found[uris[0]]
    assert item.text == "ACME kuryeri kelmadi" and item.author == network.customer.did and item.language == "uz"
    assert abs(item.created_at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_deletions_are_honoured_also_after_a_restart_and_those_of_strangers_are_not_told(
    network: Network,
) -> None:
    start = now()
    ours = network.pds.post(network.customer, "acme: never again")
    other = network.pds.post(network.customer, "nothing to see")
    first = await network.read(start, 1)
    network.pds.delete(network.customer, other)
    network.pds.delete(network.customer, ours)
    after = newest(await network.read(json.loads(json.dumps(first[-1].cursor)), 2))
    assert set(after) == {ours} and after[ours].deleted and after[ours].version > items(first)[0].version


async def test_an_account_that_goes_takes_its_posts_with_it(network: Network) -> None:
    start = now()
    gone = await asyncio.to_thread(network.pds.account, f"g{uuid.uuid4().hex[:8]}")
    uris = {network.pds.post(gone, f"acme {n}") for n in range(3)}
    pages = await network.read(start, 3)
    network.pds.deactivate(gone)
    found = newest(pages + await network.read(pages[-1].cursor, 3))
    assert set(found) == uris and all(item.deleted for item in found.values())


async def test_from_any_cursor_nothing_is_lost(network: Network) -> None:
    start = now()
    uris = {network.pds.post(network.customer, f"acme {n}") for n in range(40)}
    pages = await network.read(start, 40)
    assert set(newest(pages)) == uris
    for stop in range(0, len(pages), 7):
        cursor = json.loads(json.dumps(pages[stop].cursor))
        assert len(json.dumps(cursor)) <= MAX_CURSOR_BYTES
        missing = uris - set(newest(pages[: stop + 1]))
        assert not missing or await network.read(cursor, 1, wanted=missing)


async def test_a_claimed_time_far_from_the_streams_is_not_believed(network: Network) -> None:
    start = now()
    for claimed in ("1970-01-01T00:00:00Z", "2261-01-01T00:00:00.000Z"):
        network.pds.post(network.customer, "acme", createdAt=claimed)
    for item in items(await network.read(start, 2)):
        assert abs(item.created_at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_what_the_stream_no_longer_reaches_is_known_as_a_gap(network: Network) -> None:
    old = {"at": 1, "time": int((datetime.now(UTC) - timedelta(days=3)).timestamp() * 1e6)}
    network.pds.post(network.customer, "acme")
    await network.relay.wait_for(1)
    if network.dialect == "v2":
        network.relay.oldest = 10
        with pytest.raises(CursorExpired):
            await anext(network.connector().pages(old, follow=True))
        return
    page = await anext(network.connector().pages(old, follow=True))
    assert page.gaps and page.gaps[0].since < page.gaps[0].until


async def test_a_stream_that_breaks_off_is_retryable(network: Network) -> None:
    network.relay.url = "ws://127.0.0.1:1"
    with pytest.raises(Retryable):
        await anext(network.connector().pages(None, follow=True))
