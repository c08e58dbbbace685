"""Every message of every conversation is read, however often the conversation changes, a pass breaks off or lags."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.connector import Cursor, Reader
from connectors.fakes.fake import Said
from connectors.fakes.intercom import FakeIntercom
from connectors.fakes.zendesk import FakeZendesk
from tests.connectors import NOW, Bench, bench

SAY = st.tuples(st.just("say"), st.integers(0, 5), st.integers(1, 900))
POLL = st.tuples(st.just("poll"), st.integers(1, 3), st.integers(0, 900))


async def poll(at: Bench, cursor: Cursor, most: int | None, got: list[str]) -> Cursor:
    """Read at most so many pages, as a process that is then killed; the last cursor was saved."""
    reader = at.rebuilt()
    assert isinstance(reader, Reader)
    seen = 0
    async for page in reader.pages(json.loads(json.dumps(cursor)), follow=False):
        got += [item.text for item in page.items]
        cursor, seen = page.cursor, seen + 1
        if seen == most:
            break
    return cursor


@pytest.mark.parametrize("name", ["zendesk", "intercom"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(SAY | POLL, max_size=25), largest=st.integers(1, 4))
async def test_every_message_is_read_whatever_happens_in_between(
    name: str, steps: list[tuple[str, int, int]], largest: int
) -> None:
    async with bench(name) as at:
        fake: Any = at.service.fake
        assert isinstance(fake, FakeZendesk | FakeIntercom)
        fake.largest = largest
        if isinstance(fake, FakeZendesk):
            fake.per_minute = 10_000
        assert isinstance(at.connector, Reader)
        cursor = at.connector.since(NOW - timedelta(hours=1))
        begun: dict[int, str] = {}
        said: list[str] = []
        got: list[str] = []
        for number, (what, which, seconds) in enumerate(steps):
            at.clock.at += timedelta(seconds=seconds)
            if what == "poll":
                cursor = await poll(at, cursor, which, got)
                continue
            one = Said(id=f"{number + 1:06d}", text=f"message {number}", at=at.clock.at)
            said.append(one.text)
            if which in begun:
                fake.reply(begun[which], one)
            else:
                begun[which] = one.id
                fake.say(one)
        at.clock.at += timedelta(hours=1)
        cursor = await poll(at, cursor, None, got)
        assert set(said) == set(got)
        before = len(got)
        await poll(at, cursor, None, got)
        assert len(got) == before, "and what is known does not come again"
