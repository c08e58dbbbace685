"""The door to Faust: what was begun by hand goes on as if it had been awaited from the start."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.app import resumed


def begun(coroutine: Any) -> Any:
    """The coroutine's rest, after what it does until it first waits."""
    return resumed(coroutine, coroutine.send(None))


async def test_what_was_begun_by_hand_gets_what_it_waited_for_and_returns_what_it_made() -> None:
    first: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    second: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def add() -> int:
        return await first + await second

    task = asyncio.ensure_future(begun(add()))
    await asyncio.sleep(0)
    first.set_result(1)
    await asyncio.sleep(0)
    second.set_result(2)
    assert await task == 3


async def test_a_task_that_is_cancelled_leaves_no_waiter_of_what_was_begun_by_hand_in_a_queue() -> None:
    queue: asyncio.Queue[str] = asyncio.Queue(1)
    queue.put_nowait("first")
    task = asyncio.ensure_future(begun(queue.put("given up")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    later = asyncio.ensure_future(queue.put("later"))
    assert await queue.get() == "first"
    assert await asyncio.wait_for(queue.get(), 5) == "later"
    await later


async def test_what_goes_wrong_in_what_was_begun_by_hand_comes_out_of_its_rest() -> None:
    waits: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def fail() -> None:
        await waits
        raise KeyError("here")

    task = asyncio.ensure_future(begun(fail()))
    await asyncio.sleep(0)
    waits.set_result(None)
    with pytest.raises(KeyError, match="here"):
        await task


async def test_an_error_of_what_was_waited_for_reaches_what_was_begun_by_hand() -> None:
    waits: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def mend() -> str:
        try:
            await waits
        except ValueError as error:
            return f"mended {error}"
        return "nothing to mend"

    task = asyncio.ensure_future(begun(mend()))
    await asyncio.sleep(0)
    waits.set_exception(ValueError("it"))
    assert await task == "mended it"
