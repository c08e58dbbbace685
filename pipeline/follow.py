"""Following one connector: ask, convert, publish, and only then save the cursor."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import orjson

from connectors.connector import (
    MAX_CURSOR_BYTES,
    Clock,
    Cursor,
    CursorExpired,
    Gap,
    Page,
    Permanent,
    Reader,
    Retryable,
    Verdict,
)
from pipeline.connector_build import Built
from pipeline.connector_metrics import OneConnector
from pipeline.conversion import Converted, convert
from pipeline.dead_letter import Fuse, FuseBlown
from pipeline.gather import gathered
from pipeline.pace import Pacer, after_refusal_s, backoff_s
from pipeline.redact import Redactor
from pipeline.sink import Sink
from pipeline.store.connectors import LIVE, ConnectorStore, LeaseLost, Progress, Run

log = logging.getLogger("ovoz.connectors")

INLINE_ITEMS: Final = 20
"""Up to so many items are converted on the event loop: it takes less time than changing threads."""
NOTE_SUCCESS_S: Final = 20.0


class Keep(Protocol):
    """Calls of the store off the event loop, made again while the database is away."""

    def __call__(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Awaitable[Any]:
        """The result of the call."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What followers share: where records go, the store, the redactor, the time, and chance (0 to 1)."""

    sink: Sink
    store: ConnectorStore
    keep: Keep
    redactor: Redactor
    now: Clock
    chance: Callable[[], float]
    fuse_share: float
    fuse_items: int
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Follower:
    """Drives one Reader until it is cancelled or the service refuses it for good.

    `purpose`: LIVE, or the name of a backfill, which ends when it has everything. `follow`: whether streams stay
    open. `told` hears of each page that is safe, `held_up` that another process has the lease.
    """

    def __init__(
        self,
        built: Built,
        means: Means,
        metrics: OneConnector,
        *,
        purpose: str = LIVE,
        start: Cursor | None = None,
        pacer: Pacer | None = None,
        wait: Callable[[], Awaitable[None]] | None = None,
        told: Callable[[Converted], None] = lambda _: None,
        held_up: Callable[[], None] = lambda: None,
    ) -> None:
        if built.reader is None:
            raise ValueError(f"{built.table.name} does not ask its service for anything")
        self._reader: Reader = built.reader
        self._built = built
        self._means = means
        self._metrics = metrics
        self._backfill = purpose != LIVE
        self._start = start
        self._pacer = pacer or Pacer()
        self._wait = wait
        self._told = told
        self._held_up = held_up
        self._run = Run(source=built.origin.source, instance=built.origin.instance, purpose=purpose)
        self._name = f"{built.origin.source} {built.origin.instance!r}"
        modes = built.table.modes or built.declaration.modes
        self._stream = "stream" in modes and not self._backfill
        self._fuse = Fuse(means.fuse_share, means.fuse_items)
        self._cursor: Cursor | None = None
        self._failures = 0
        self._noted: datetime | None = None
        self._heard: datetime | None = None
        self._saved_state = ""
        self.stopped_by = ""

    async def run(self) -> str:
        """`stopped` when the service refuses it for good, `done` when a backfill has everything."""
        while True:
            held = await self._acquire()
            if self._backfill and held.state == "done":
                return "done"
            self._cursor = held.cursor if held.cursor is not None else self._start
            self._heard = held.last_success
            self._show("running")
            try:
                return await self._steps()
            except LeaseLost:
                log.warning("connector %s is driven by another process now", self._name)

    async def _acquire(self) -> Progress:
        means = self._means
        while True:
            held: Progress | None = await means.keep(
                means.store.acquire, self._run, self._built.origin.workspace, now=means.now()
            )
            if held is not None:
                return held
            self._show("waiting")
            self._held_up()
            await means.sleep(1.0 + means.chance())

    async def _steps(self) -> str:
        while True:
            try:
                pause_s = await self._pass()
            except Permanent as error:
                await self._stop(str(error), "permanent")
                return "stopped"
            except FuseBlown as error:
                await self._stop(str(error), "fuse")
                return "stopped"
            except CursorExpired as error:
                pause_s = await self._begin_anew(error)
            except Retryable as error:
                pause_s = await self._back_off(error)
            except (LeaseLost, asyncio.CancelledError):
                raise
            except Exception as error:
                where = "".join(traceback.format_tb(error.__traceback__)[-3:])
                # Its message is left out: nobody knows what a foreign library puts into one.
                log.error("connector %s: %s, which should not happen:\n%s", self._name, type(error).__name__, where)
                self._metrics.count("verdicts", 1, "error")
                pause_s = await self._back_off(Retryable(f"an error in the connector: {type(error).__name__}"))
            else:
                if self._backfill:
                    await self._save(state="done")
                    return "done"
            await self._means.sleep(pause_s)

    async def _pass(self) -> float:
        """Everything that is new; seconds to wait before the next pass."""
        async with AsyncExitStack() as stack:
            pages = await stack.enter_async_context(aclosing(self._pages()))
            if self._stream:
                pages = await stack.enter_async_context(aclosing(gathered(pages)))
            async for page in pages:
                if page is None:
                    await self._note_success()
                    continue
                await self._take(page)
                self._failures = 0
                self._show("running")
                if page.quota is not None:
                    self._metrics.set("quota_remaining", page.quota.remaining)
                if rest := self._pacer.rest_s(page.quota, self._means.now()):
                    await self._means.sleep(rest)
                if self._wait is not None:
                    await self._wait()
        self._failures = 0
        self._show("running")
        await self._note_success()
        chance = self._means.chance()
        return 0.5 + chance if self._stream else self._built.every_s * (0.9 + 0.2 * chance)

    def _pages(self) -> Any:
        return self._reader.pages(self._cursor, follow=self._stream)

    async def _take(self, page: Page) -> None:
        means, now = self._means, self._means.now()
        if len(orjson.dumps(dict(page.cursor))) > MAX_CURSOR_BYTES:
            raise Permanent(f"the connector made a cursor of over {MAX_CURSOR_BYTES} bytes: report this fault of it")
        converting = (page.items, page.skipped, self._built.origin, means.redactor)
        if len(page.items) <= INLINE_ITEMS:
            converted = convert(*converting, now=now, backfill=self._backfill)
        else:
            converted = await asyncio.to_thread(convert, *converting, now=now, backfill=self._backfill)
        await means.sink.put(converted)
        for gap in page.gaps:
            self._gap(gap)
        if page.items or page.skipped or page.gaps or page.cursor != self._cursor:
            await self._save(cursor=page.cursor, gaps=page.gaps, converted=converted)
        self._cursor = page.cursor
        self._observe(converted)
        # After the save: a blown fuse stops what comes next, and loses nothing of what is safe already.
        self._fuse.record(len(page.items) + len(page.skipped), len(converted.letters))

    def _observe(self, converted: Converted) -> None:
        now, metrics = self._means.now(), self._metrics
        self._heard = now
        metrics.set("last_success_timestamp_seconds", now.timestamp())
        metrics.count("items", len(converted.feedback))
        metrics.count("skipped", len(converted.letters))
        if (newest := converted.last_event) is not None:
            metrics.set("last_event_timestamp_seconds", newest.timestamp())
            metrics.set("lag_seconds", (now - newest).total_seconds())
        self._told(converted)

    async def _save(self, *, converted: Converted | None = None, **named: Any) -> None:
        found = converted or Converted()
        self._saved_state = named.get("state", "running")
        now = self._noted = self._means.now()
        await self._means.keep(
            self._means.store.save, self._run, now=now, workspace=self._built.origin.workspace,
            items=len(found.feedback), last_event=found.last_event, **named,
        )  # fmt: skip

    async def _note_success(self) -> None:
        """Let the store know that the service answers, though it had nothing new; not at every poll."""
        now = self._heard = self._means.now()
        self._metrics.set("last_success_timestamp_seconds", now.timestamp())
        due = self._noted is None or now - self._noted >= timedelta(seconds=NOTE_SUCCESS_S)
        if due or self._saved_state != "running":
            await self._save()

    async def _back_off(self, error: Retryable) -> float:
        self._metrics.count("verdicts", 1, "retryable")
        chance, first = self._means.chance(), self._failures == 0
        self._failures += 1
        if error.retry_after_s is None:
            pause = backoff_s(self._failures, chance)
        else:
            pause = after_refusal_s(error.retry_after_s, self._failures, chance)
        self._show("backing_off")
        if first:
            log.warning("connector %s: %s; asking again", self._name, error)
            await self._save(state="backing_off", message=str(error), success=False)
        return pause

    async def _begin_anew(self, error: Verdict) -> float:
        now = self._means.now()
        self._metrics.count("verdicts", 1, "expired")
        if self._cursor is None or self._failures:
            return await self._back_off(Retryable(f"{error} (without a cursor, too)"))
        gap = Gap(since=self._heard or now, until=now, reason=str(error))
        log.warning("connector %s: %s; what was said since %s may be missing", self._name, error, gap.since)
        self._gap(gap)
        await self._save(forget=True, gaps=(gap,), success=False)
        self._cursor = self._start
        self._failures = 1
        return 0.0

    async def _stop(self, message: str, verdict: str) -> None:
        self._metrics.count("verdicts", 1, verdict)
        self._show("stopped")
        self.stopped_by = message
        log.error("connector %s stopped, the others go on: %s", self._name, message)
        await self._save(state="stopped", message=message, success=False)

    def _gap(self, gap: Gap) -> None:
        self._metrics.count("gaps")
        log.warning("connector %s has a gap from %s to %s: %s", self._name, gap.since, gap.until, gap.reason)

    def _show(self, state: str) -> None:
        if self._metrics.state != state:
            self._metrics.show(state)
