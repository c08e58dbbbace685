"""All connectors of a process: built, mounted, followed, each at its own pace."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from connectors.registry import Context
from connectors.transport import Http
from pipeline.connector_build import Built, build, faults
from pipeline.connector_metrics import ConnectorMetrics, OneConnector
from pipeline.follow import Follower, Means
from pipeline.hooks import Hooks
from pipeline.patience import persist
from pipeline.presence import BEAT_S, REASON, SLACK, Presence
from pipeline.redact import Redactor
from pipeline.settings import Settings, SettingsError
from pipeline.sink import Sink
from pipeline.store.connectors import ConnectorStore, Ear, Run
from pipeline.store.engine import StoreAway, connect, prepare

log = logging.getLogger("ovoz.connectors")


class Drive:
    """`async with Drive(…) as drive:` builds every connector; `start` begins to follow them.

    Raises SettingsError with the faults of all tables, StoreError.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        sink: Sink,
        redactor: Redactor,
        metrics: ConnectorMetrics,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._sink = sink
        self._redactor = redactor
        self._metrics = metrics
        self._now = now
        self._chance = chance
        self._stack = AsyncExitStack()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._built: list[tuple[Built, OneConnector]] = []
        self._ears: dict[Run, tuple[Built, OneConnector]] = {}
        self._presence = Presence()

    async def __aenter__(self) -> Drive:
        found = [fault for table in self._settings.connector for fault in faults(table, self._environ)]
        if found:
            raise SettingsError(found)
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _open(self) -> None:
        settings, stack = self._settings, self._stack
        engine = connect(settings.store.url)
        stack.callback(engine.dispose)
        thread = ThreadPoolExecutor(1, thread_name_prefix="connectors")
        stack.callback(thread.shutdown)
        loop = asyncio.get_running_loop()

        async def keep(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
            return await persist(
                lambda: loop.run_in_executor(thread, lambda: call(*arguments, **named)),
                away=(StoreAway,),
                what="the database of the connectors' cursors",
            )

        holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        lease = timedelta(seconds=settings.ingest.lease_s)
        self._means = Means(
            sink=self._sink,
            store=ConnectorStore(engine, holder=holder, lease=lease),
            keep=keep,
            redactor=self._redactor,
            now=self._now,
            chance=self._chance,
            fuse_share=settings.worker.dead_letter_fuse_share,
            fuse_items=settings.worker.dead_letter_fuse_items,
        )
        try:
            await asyncio.to_thread(prepare, engine)
        except StoreAway as error:
            log.warning("the database of the connectors' cursors is away: %s", error)
        self._engine = engine
        # One pool of connections for all, without a bound: streams keep theirs for hours.
        pool = aiohttp.TCPConnector(limit=0, ttl_dns_cache=60)
        stack.push_async_callback(pool.close)
        for table in settings.connector:
            metrics = self._metrics.of(table.use.rpartition(":")[2], table.name)
            session = await stack.enter_async_context(open_session(pool, metrics))
            context = Context(http=Http(session, self._now), now=self._now)
            self._built.append((build(table, context, self._environ), metrics))
        self.hooks = Hooks(self._built, self._means, settings.ingest.public_url)
        # What is asked too makes up by itself for what a webhook did not take.
        self._ears = {
            Run(source=built.origin.source, instance=built.origin.instance): (built, metrics)
            for built, metrics in self._built
            if built.receiver is not None and built.reader is None
        }

    def start(self) -> None:
        """Begin to follow; returns at once."""
        self._spawn(self._run())

    async def _run(self) -> None:
        await self._means.keep(prepare, self._engine)
        self._spawn(self._renew())
        if self._ears:
            self._spawn(self._listen())
        for built, metrics in self._built:
            if built.reader is not None:
                self._spawn(self._follow(built, metrics))
            else:
                metrics.show("running")

    async def _follow(self, built: Built, metrics: OneConnector) -> None:
        # Not all at once: hundreds would knock on their services in the same moment.
        await asyncio.sleep(self._chance() * min(built.every_s, len(self._built) / 50))
        await Follower(built, self._means, metrics).run()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._settings.ingest.lease_s / 3)
            await self._means.keep(self._means.store.renew, now=self._now())

    async def _listen(self) -> None:
        """Note which webhooks are open. That they are is watched while the database is away, too."""
        noting: asyncio.Task[Any] | None = None
        while True:
            now = self._now()
            since = self._presence.seen([run for run in self._ears if self.hooks.open(run.instance)], now)
            if noting is None or noting.done():
                noting = self._spawn(self._means.keep(self._hear, since, now))
            await asyncio.sleep(BEAT_S)

    def _hear(self, since: Mapping[Run, datetime], now: datetime) -> None:
        ears = [
            Ear(run=run, workspace=built.origin.workspace, since=since[run],
                repeated=timedelta(seconds=built.repeated_s) + SLACK)
            for run, (built, _) in self._ears.items() if run in since
        ]  # fmt: skip
        for run, gap in self._means.store.hear(ears, now=now, reason=REASON):
            self._ears[run][1].count("gaps")
            log.warning("webhook of %s %r has a gap from %s to %s: %s", run.source, run.instance, gap.since, gap.until,
                        gap.reason)  # fmt: skip

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("a connector's task ended: %s", type(error).__name__, exc_info=error)

    async def __aexit__(self, *_: object) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await asyncio.to_thread(self._means.store.release)
        except StoreAway as error:
            log.warning("the leases could not be given back, they end by themselves: %s", error)
        await self._stack.aclose()


def open_session(pool: aiohttp.BaseConnector | None, metrics: OneConnector) -> aiohttp.ClientSession:
    """A session for one connector that counts its requests; cookies are not kept."""

    async def ended(_: Any, __: Any, told: aiohttp.TraceRequestEndParams) -> None:
        status = told.response.status
        metrics.count("requests", 1, f"{status // 100}xx")
        metrics.count("throttled", float(status == 429))

    async def failed(_: Any, __: Any, told: aiohttp.TraceRequestExceptionParams) -> None:
        metrics.count("requests", 1, "failed")

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(ended)
    trace.on_request_exception.append(failed)
    return aiohttp.ClientSession(
        connector=pool, connector_owner=pool is None, cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[trace]
    )
