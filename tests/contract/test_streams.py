"""One suite over every connector that streams: nothing falls between a connection that broke and the next."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from connectors import registry
from connectors.connector import Cursor, Item, Page, Permanent, Reader, Retryable
from connectors.fakes.fake import Fault, Streaming
from connectors.option import options
from connectors.registry import declaration
from tests.connectors import NOW, Bench, bench, items, read_all

# Over HTTP; IMAP and Kafka are followed on real servers (tests/e2e/test_connector_imap.py, test_connector_kafka.py).
STREAMED = [
    name for name in registry.names() if "stream" in declaration(name).modes and name not in ("imap", "kafka")
]
LONG_S = 20.0


class Listener:
    """A connector that follows its service, in a task of its own."""

    def __init__(self, at: Bench, cursor: Cursor | None) -> None:
        self.pages: list[Page] = []
        self.cursor = cursor
        self._changed = asyncio.Condition()
        self._reader = at.rebuilt()
        self.task = asyncio.ensure_future(self._listen(cursor))

    async def _listen(self, cursor: Cursor | None) -> None:
        assert isinstance(self._reader, Reader)
        try:
            async with aclosing(self._reader.pages(cursor, follow=True)) as pages:  # type: ignore[type-var]
                async for page in pages:
                    self.pages.append(page)
                    self.cursor = json.loads(json.dumps(page.cursor))
                    await self._tell()
        finally:
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, holds: Callable[[list[Item]], bool]) -> list[Item]:
        """The items so far, once they are as wanted; raises what ended the task before that."""
        async with asyncio.timeout(LONG_S), self._changed:
            await self._changed.wait_for(lambda: holds(items(self.pages)) or self.task.done())
        if not holds(items(self.pages)):
            await self.task
            raise AssertionError("the stream ended in peace")
        return items(self.pages)


@asynccontextmanager
async def listening(at: Bench, cursor: Cursor | None) -> AsyncIterator[Listener]:
    listener = Listener(at, cursor)
    try:
        yield listener
    finally:
        listener.task.cancel()
        await asyncio.gather(listener.task, return_exceptions=True)
        async with asyncio.timeout(LONG_S):
            await at.service.wait_under_way(0)


def fake_stream(at: Bench) -> Streaming:
    assert isinstance(at.service.fake, Streaming), "a connector that streams needs a fake that streams"
    return at.service.fake


async def ended(listener: Listener) -> BaseException:
    async with asyncio.timeout(LONG_S):
        outcome = await asyncio.gather(listener.task, return_exceptions=True)
    assert isinstance(outcome[0], BaseException)
    return outcome[0]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def hung_up(at: Bench) -> bool:
    at.service.hang_up()
    return False


def texts(found: list[Item]) -> set[str]:
    return {item.text for item in found}


@pytest.mark.parametrize("name", STREAMED)
async def test_what_is_said_while_the_stream_is_open_comes_at_once(name: str) -> None:
    async with bench(name, timeout_s=10) as at, listening(at, at.start()) as listener:
        before = at.say(3)
        await listener.until(lambda found: texts(found) >= {one.text for one in before})
        more = at.say(20, start=50)
        await listener.until(lambda found: texts(found) >= {one.text for one in more})


@pytest.mark.parametrize("name", STREAMED)
async def test_what_is_said_between_two_connections_is_not_lost(name: str) -> None:
    async with bench(name, timeout_s=10) as at:
        said = at.say(3)
        async with listening(at, at.start()) as listener:
            said += at.say(5, start=10)
            await listener.until(lambda found: texts(found) >= {one.text for one in said})
            await until(lambda: fake_stream(at).heartbeats > 0)
            await until(lambda: hung_up(at) or listener.task.done())  # a GET is asked again by the client, once
            assert isinstance(await ended(listener), Retryable)
        said += at.say(130, start=20)
        async with listening(at, listener.cursor) as listener:
            said += at.say(3, start=200)
            found = await listener.until(lambda found: texts(found) >= {one.text for one in said[8:]})
        assert texts(found) == {one.text for one in said[8:]}, "and what was read before does not come again"


@pytest.mark.parametrize("name", STREAMED)
async def test_a_stream_broken_off_anywhere_loses_nothing(name: str) -> None:
    async with bench(name, timeout_s=10) as at:
        said, found = at.say(1), []
        cursor = (await read_all(at.connector, at.start()))[-1].cursor
        for turn in range(6):
            async with listening(at, cursor) as listener:
                said += at.say(7, start=100 * turn + 10)
                await listener.until(lambda got, turn=turn: len(got) >= min(turn, 3))  # type: ignore[misc]
                await until(lambda: hung_up(at) or listener.task.done())
                assert isinstance(await ended(listener), Retryable)
                said += at.say(2, start=100 * turn + 50)
            found += items(listener.pages)
            cursor = listener.cursor
        found += items(await read_all(at.rebuilt(), cursor))
        assert texts(found) >= {one.text for one in said[1:]}


@pytest.mark.parametrize("name", STREAMED)
async def test_a_connection_without_a_heartbeat_counts_as_dead(name: str) -> None:
    if "silence_s" not in options(declaration(name).config):
        pytest.skip("every request of it has its own end")
    async with bench(name, timeout_s=10) as at:
        at.table["silence_s"] = 1.0
        async with listening(at, at.start()) as listener:
            fake = fake_stream(at)
            await until(lambda: fake.heartbeats >= 40)
            assert not listener.task.done(), "two seconds of heartbeats keep a quiet stream alive"
            fake.mute = True
            failure = await ended(listener)
            assert isinstance(failure, Retryable) and "silent" in str(failure)


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("verb", ["edit", "delete"])
async def test_an_edit_or_deletion_told_by_the_stream_is_a_newer_version(name: str, verb: Any) -> None:
    async with bench(name, timeout_s=10) as at:
        if verb not in fake_stream(at).tells:
            pytest.skip(f"the stream does not tell of a {verb}")
        said = at.say(2)
        async with listening(at, at.start()) as listener:
            found = await listener.until(lambda found: len(found) >= 2)
            await until(lambda: fake_stream(at).heartbeats > 0)
            before = next(item for item in found if item.text == said[0].text)
            at.clock.at += timedelta(minutes=5)
            if verb == "edit":
                at.service.fake.edit(said[0].id, "It came after all", NOW + timedelta(minutes=1))
            else:
                at.service.fake.delete(said[0].id, NOW + timedelta(minutes=1))
            found = await listener.until(lambda found: any(item.version > before.version for item in changed(found)))
            newest = max(changed(found), key=lambda item: item.version)
            assert newest.external_id == before.external_id
            assert newest.deleted if verb == "delete" else newest.text == "It came after all"


def changed(found: list[Item]) -> list[Item]:
    return [item for item in found if item.deleted or item.text == "It came after all"]


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize(
    ("fault", "expected"),
    [(Fault(status=401), Permanent), (Fault(status=503), Retryable), (Fault(status=429), Retryable),
     (Fault(kind="silent"), Retryable)],
    ids=["401", "503", "429", "silent"],
)  # fmt: skip
async def test_a_stream_that_does_not_open_is_a_verdict(name: str, fault: Fault, expected: type[Exception]) -> None:
    async with bench(name, timeout_s=0.3) as at:
        at.service.faults.append(fault)
        async with listening(at, at.start()) as listener:
            assert isinstance(await ended(listener), expected)


@pytest.mark.parametrize("name", STREAMED)
async def test_strangers_get_no_stream(name: str) -> None:
    async with bench(name) as at:
        if not at.secrets:
            pytest.skip("the service wants no credentials")
        at.secrets = {key: f"wrong-{value}" for key, value in at.secrets.items()}
        async with listening(at, at.start()) as listener:
            assert isinstance(await ended(listener), Permanent)


@pytest.mark.parametrize("name", STREAMED)
async def test_a_stream_without_follow_ends_once_it_has_caught_up(name: str) -> None:
    async with bench(name) as at:
        said = at.say(3)
        assert texts(items(await read_all(at.connector, at.start()))) == {one.text for one in said}
        if getattr(at.service.fake, "live", False):
            return  # it has nothing but the stream
        assert not any("stream" in path and "rules" not in path for path in at.service.seen)
