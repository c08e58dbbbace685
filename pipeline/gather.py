"""Pages of a stream put together while the ones before are being saved: streams give one for each thing said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from connectors.connector import Page

MAX_WAITING: Final = 200
MAX_ITEMS: Final = 500
IDLE_S: Final = 60.0
"""Longer than it takes to find that a service cannot be reached."""


async def gathered(pages: AsyncIterator[Page], idle_s: float = IDLE_S) -> AsyncGenerator[Page | None, None]:
    """The same items, skipped parts and gaps in the same order, in fewer pages; each has the cursor of its last.

    None where nothing came for `idle_s` seconds although the stream is open: a stream that is dead ends by itself.
    Reads at most MAX_WAITING pages ahead. What `pages` raises is raised after everything that came before it.
    """
    waiting: asyncio.Queue[Page | Exception | None] = asyncio.Queue(MAX_WAITING)

    async def read() -> None:
        try:
            async for page in pages:
                await waiting.put(page)
        except Exception as error:
            await waiting.put(error)
        else:
            await waiting.put(None)

    reading = asyncio.create_task(read())
    try:
        while True:
            some: list[Page] = []
            try:
                async with asyncio.timeout(idle_s):
                    got = await waiting.get()
            except TimeoutError:
                yield None
                continue
            while isinstance(got, Page):
                some.append(got)
                if waiting.empty() or sum(len(page.items) for page in some) >= MAX_ITEMS:
                    break
                got = waiting.get_nowait()
            if some:
                yield _together(some)
            if isinstance(got, Exception):
                raise got
            if got is None:
                return
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _together(pages: list[Page]) -> Page:
    if len(pages) == 1:
        return pages[0]
    return Page(
        items=tuple(item for page in pages for item in page.items),
        cursor=pages[-1].cursor,
        skipped=tuple(one for page in pages for one in page.skipped),
        gaps=tuple(gap for page in pages for gap in page.gaps),
        quota=next((page.quota for page in reversed(pages) if page.quota is not None), None),
    )
