"""The Matrix connector on Synapse: edits, redactions, and a sync that was cut short."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from connectors.chat.matrix import Matrix, MatrixConnector
from connectors.connector import CursorExpired, Item, Page, Permanent
from connectors.option import Secret
from connectors.registry import Context
from connectors.transport import Http
from tests.connectors import items, read_all
from tests.servers.synapse import Synapse

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture(scope="module")
def synapse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synapse]:
    server = Synapse(tmp_path_factory.mktemp("synapse"))
    yield server
    server.stop()


@dataclass
class Room:
    server: Synapse
    http: Http
    reader: str
    customer: str
    agent: str
    id: str
    agent_id: str

    def connector(self, token: str | None = None) -> MatrixConnector:
        config = Matrix(homeserver=self.server.url, token=Secret(token or self.reader), agents=(self.agent_id,))
        return MatrixConnector(config, Context(http=self.http, now=lambda: datetime.now(UTC)))

    def say(self, text: str, **content: Any) -> str:
        return self.server.send(self.customer, self.id, {"msgtype": "m.text", "body": text, **content})


@pytest.fixture
async def room(synapse: Synapse) -> AsyncIterator[Room]:
    mark = uuid.uuid4().hex[:8]
    reader, customer, agent = (synapse.register(f"{name}{mark}") for name in ("reader", "customer", "agent"))
    made = synapse.call("POST", "/_matrix/client/v3/createRoom", {"preset": "public_chat"}, customer)["room_id"]
    for token in (reader, agent):
        synapse.call("POST", f"/_matrix/client/v3/join/{made}", {}, token)
    async with aiohttp.ClientSession() as session:
        http = Http(session, lambda: datetime.now(UTC))
        yield Room(synapse, http, reader, customer, agent, made, f"@agent{mark}:localhost")


def words(pages: list[Page]) -> list[str]:
    return [item.text for item in items(pages)]


async def test_what_is_said_edited_and_erased_comes_as_versions(room: Room) -> None:
    room.say("before we listened")
    start = await read_all(room.connector(), None)
    assert words(start) == []
    first, second = room.say("kuryer kelmadi"), room.say("pul ikki marta yechildi")
    relation = {"m.relates_to": {"rel_type": "m.replace", "event_id": first}}
    room.say("* kuryer keldi", **{"m.new_content": {"msgtype": "m.text", "body": "kuryer keldi"}, **relation})
    room.server.redact(room.customer, room.id, second)
    room.server.send(room.agent, room.id, {"msgtype": "m.text", "body": "We are looking into it"})
    room.server.send(room.customer, room.id, {"msgtype": "m.image", "body": "photo.png", "url": "mxc://x/y"})
    found = items(await read_all(room.connector(), start[-1].cursor))
    newest: dict[str, Item] = {}
    for item in found:
        if item.external_id not in newest or newest[item.external_id].version < item.version:
            newest[item.external_id] = item
    assert newest[first].text == "kuryer keldi" and newest[first].version > min(i.version for i in found)
    assert newest[second].deleted
    replies = [item for item in newest.values() if item.turn == "agent_reply"]
    assert len(newest) == 3 and len(replies) == 1 and replies[0].text == ""
    assert {item.conversation_id for item in newest.values() if not item.deleted} == {room.id}


async def test_nobody_edits_the_words_of_another(room: Room) -> None:
    cursor = (await read_all(room.connector(), None))[-1].cursor
    said = room.say("it is broken")
    relation = {"rel_type": "m.replace", "event_id": said}
    forged = {"msgtype": "m.text", "body": "*", "m.new_content": {"body": "all is well"}, "m.relates_to": relation}
    room.server.send(room.agent, room.id, forged)
    assert "all is well" not in words(await read_all(room.connector(), cursor))


async def test_a_sync_that_was_cut_short_loses_nothing_and_any_cursor_goes_on(room: Room) -> None:
    cursor = (await read_all(room.connector(), None))[-1].cursor
    said = {f"message {n}" for n in range(340)}
    for text in sorted(said):
        room.say(text)
    pages = await read_all(room.connector(), cursor)
    assert set(words(pages)) == said and len(pages) >= 4
    for stop in range(len(pages)):
        rest = await read_all(room.connector(), json.loads(json.dumps(pages[stop].cursor)))
        assert set(words(pages[: stop + 1] + rest)) == said
    assert not words(await read_all(room.connector(), pages[-1].cursor))


async def test_history_is_read_since_a_moment(room: Room) -> None:
    said = {f"message {n}" for n in range(150)}
    for text in sorted(said):
        room.say(text)
    asked = room.connector()
    assert set(words(await read_all(asked, asked.since(datetime.now(UTC) - timedelta(hours=1))))) == said
    assert not words(await read_all(asked, asked.since(datetime.now(UTC) + timedelta(hours=1))))


async def test_a_message_comes_while_the_sync_waits(room: Room) -> None:
    stream = room.connector().pages(None, follow=True)
    async with asyncio.timeout(30):
        await anext(stream)
        coming = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.2)  # let the sync wait
        room.say("hozir")
        assert words([await coming]) == ["hozir"]
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_wrong_token_is_permanent_and_a_wrong_cursor_expired(room: Room) -> None:
    with pytest.raises(Permanent) as refused:
        await read_all(room.connector("syt_wrong"), None)
    assert "syt_wrong" not in str(refused.value)
    with pytest.raises(CursorExpired):
        await read_all(room.connector(), {"since": "nonsense"})
