"""Every message of every conversation is read, however often the conversation changes, a pass breaks off or lags."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.connector import Cursor, Reader
from connectors.fakes.fake import Said
from connectors.fakes.intercom import FakeIntercom
from connectors.fakes.zendesk import FakeZendesk
from connectors.registry import SHIPPED
from tests.connectors import NOW, Bench, bench

SAY = st.tuples(st.just("say"), st.integers(0, 5), st.integers(1, 900))
POLL = st.tuples(st.just("poll"), st.integers(1, 3), st.integers(0, 900))


async def poll(
    at: Bench, cursor: Cursor, most: int | None, got: list[str], meanwhile: Callable[[], None] = lambda: None
) -> Cursor:
    """Read at most so many pages, as a process that is then killed; the last cursor was saved. `meanwhile`:
    what happens while a page is taken."""
    reader = at.rebuilt()
    assert isinstance(reader, Reader)
    seen = 0
    async for page in reader.pages(json.loads(json.dumps(cursor)), follow=False):
        got += [item.text for item in page.items]
        cursor, seen = page.cursor, seen + 1
        meanwhile()
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
            fake.limits[0].requests = 10_000
        assert isinstance(at.connector, Reader)
        cursor = at.connector.since(NOW - timedelta(hours=1))
        begun: dict[int, str] = {}
        said: list[str] = []
        got: list[str] = []

        def say(which: int) -> None:
            one = Said(id=f"{len(said) + 1:06d}", text=f"message {len(said)}", at=at.clock.at)
            said.append(one.text)
            if which in begun:
                fake.reply(begun[which], one)
            else:
                begun[which] = one.id
                fake.say(one)

        def meanwhile(which: int) -> None:
            at.clock.at += timedelta(seconds=1)
            say(which)

        for what, which, seconds in steps:
            at.clock.at += timedelta(seconds=seconds)
            if what == "poll":
                cursor = await poll(at, cursor, which, got, partial(meanwhile, seconds % 6))
            else:
                say(which)
        at.clock.at += timedelta(hours=1)
        cursor = await poll(at, cursor, None, got)
        assert set(said) == set(got)
        before = len(got)
        await poll(at, cursor, None, got)
        assert len(got) == before, "and what is known does not come again"


@pytest.mark.parametrize("name", ["hubspot", "salesforce", "surveymonkey", "zoho"])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(SAY | POLL, max_size=25))
async def test_the_newest_version_of_every_record_is_read_though_records_move_while_they_are_listed(
    name: str, steps: list[tuple[str, int, int]]
) -> None:
    module = importlib.import_module(SHIPPED[name])
    async with bench(name) as at:
        with pytest.MonkeyPatch.context() as patch:
            if name != "salesforce":  # its query is answered from a snapshot, in batches of at least 200
                patch.setattr(module, "PAGE", 2)
            assert isinstance(at.connector, Reader)
            cursor = at.connector.since(NOW - timedelta(hours=1))
            newest: dict[int, str] = {}
            got: list[str] = []

            def change(which: int) -> None:
                at.clock.at += timedelta(seconds=1)
                text = f"text {at.clock.at.isoformat()}"
                if which in newest:
                    at.service.fake.edit(f"{which + 1:06d}", text, at.clock.at)
                else:
                    at.service.fake.say(Said(id=f"{which + 1:06d}", text=text, at=at.clock.at))
                newest[which] = text

            for what, which, seconds in steps:
                at.clock.at += timedelta(seconds=seconds)
                if what == "poll":
                    cursor = await poll(at, cursor, which, got, partial(change, seconds % 6))
                else:
                    change(which)
            at.clock.at += timedelta(hours=1)
            cursor = await poll(at, cursor, None, got)
            assert set(newest.values()) <= set(got)
            before = len(got)
            await poll(at, cursor, None, got)
            assert len(got) == before
