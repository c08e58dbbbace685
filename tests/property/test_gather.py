"""Pages put together lose nothing, keep their order, and never promise more than they hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.connector import Item, Page, Retryable
from pipeline.gather import MAX_ITEMS, MAX_WAITING, gathered

AT = datetime(2026, 11, 25, tzinfo=UTC)


def stream(sizes: list[int], fails: bool, read: list[int]) -> AsyncIterator[Page]:
    async def pages() -> AsyncIterator[Page]:
        number = 0
        for index, size in enumerate(sizes):
            items = tuple(Item(external_id=str(number + n), created_at=AT) for n in range(size))
            number += size
            read.append(index)
            yield Page(items=items, cursor={"n": number, "page": index})
        if fails:
            raise Retryable("broke off")

    return pages()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=40), st.booleans(), st.lists(st.booleans(), max_size=40))
def test_nothing_is_lost_and_each_cursor_stands_for_what_came(sizes: list[int], fails: bool, slow: list[bool]) -> None:
    async def run() -> None:
        seen, last, turns = 0, -1, iter(slow)
        try:
            async for page in gathered(stream(sizes, fails, [])):
                assert page is not None
                assert [item.external_id for item in page.items] == [str(seen + n) for n in range(len(page.items))]
                seen += len(page.items)
                assert page.cursor["n"] == seen and page.cursor["page"] > last
                last = page.cursor["page"]
                assert len(page.items) < MAX_ITEMS + 300
                if next(turns, False):
                    await asyncio.sleep(0)
        except Retryable:
            assert fails
        else:
            assert not fails
        assert seen == sum(sizes) and last == len(sizes) - 1

    asyncio.run(run())


async def test_what_comes_while_one_is_saved_is_one_page() -> None:
    found = []
    async for page in gathered(stream([1] * 100, False, [])):
        assert page is not None
        found.append(len(page.items))
        await asyncio.sleep(0.01)
    assert sum(found) == 100 and len(found) <= 3


async def test_it_does_not_read_on_without_end() -> None:
    read: list[int] = []
    pages = gathered(stream([1] * 5_000, False, read))
    await anext(pages)
    for _ in range(MAX_WAITING * 3):
        await asyncio.sleep(0)
    assert len(read) <= 2 * MAX_WAITING + 2, "a page full, and as many waiting"
    await pages.aclose()


async def test_closing_it_ends_the_reading() -> None:
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[Page]:
        try:
            yield Page(cursor={"n": 1})
            await asyncio.Event().wait()
        finally:
            ended.set()

    pages = gathered(endless())
    assert await anext(pages) == Page(cursor={"n": 1})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(pages)
    await pages.aclose()
    assert ended.is_set()


async def test_a_stream_that_is_open_and_quiet_says_so() -> None:
    more = asyncio.Event()

    async def quiet() -> AsyncIterator[Page]:
        await more.wait()
        yield Page(cursor={"n": 1})

    pages = gathered(quiet(), idle_s=0.01)
    assert [await anext(pages), await anext(pages)] == [None, None]
    more.set()
    found = await anext(pages)
    while found is None:
        found = await anext(pages)
    assert found.cursor == {"n": 1}
    await pages.aclose()
