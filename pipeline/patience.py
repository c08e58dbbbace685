"""How a stage waits for what is away: again and again, with growing pauses, until it is back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

log = logging.getLogger("ovoz")

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0

T = TypeVar("T")


async def persist(
    call: Callable[[], Awaitable[T]],
    *,
    away: tuple[type[Exception], ...],
    what: str,
    retried: Callable[[], None] = lambda: None,
) -> T:
    """The result of `call`, which is made again as long as it raises one of `away`.

    Says once that `what` is away, and once that it is back.
    """
    pause, missing = FIRST_PAUSE_S, False
    while True:
        try:
            result = await call()
        except away as error:
            if not missing:
                log.warning("%s is away, waiting for it: %s", what, error)
            missing = True
            retried()
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE_S, pause * 2)
        else:
            if missing:
                log.warning("%s is back", what)
            return result
