"""History of one connector into `feedback.raw`, marked as such, behind whatever is live."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from connectors.connector import Permanent
from connectors.registry import Context
from connectors.transport import Http
from pipeline.author import load_key
from pipeline.bus import BrokerAway, Bus, admin
from pipeline.connector_build import build
from pipeline.connector_metrics import ConnectorMetrics
from pipeline.conversion import Converted
from pipeline.drive import open_session
from pipeline.follow import Follower, Means
from pipeline.pace import BACKFILL_RESERVE, Pacer
from pipeline.patience import persist
from pipeline.publisher import Publisher
from pipeline.redact import Redactor
from pipeline.settings import Connector, Kafka, Settings
from pipeline.sink import Sink
from pipeline.store.connectors import ConnectorStore, Run, forget
from pipeline.store.engine import StoreAway, connect, prepare
from pipeline.topics import Topics

log = logging.getLogger("ovoz.connectors")

MAX_BEHIND: Final = 5_000
"""Raw records that the workers may be behind; beyond it a backfill waits for them."""
LOOK_EVERY_S: Final = 2.0
MAX_ITEMS: Final = 2_000


@dataclass(slots=True)
class Told:
    """How far it is. `waiting` says what for, if it waits."""

    items: int = 0
    newest: datetime | None = None
    waiting: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`state`: done, stopped (see `message`) or interrupted (`terminated`: by SIGTERM)."""

    state: str
    items: int
    message: str = ""
    terminated: bool = False


def purpose(since: datetime) -> str:
    """The name of the run: the same command goes on with the same run."""
    return f"since {since:%Y-%m-%dT%H:%M:%SZ}"


def run(
    settings: Settings,
    table: Connector,
    since: datetime,
    environ: Mapping[str, str],
    *,
    again: bool = False,
    told: Callable[[Told], None] = lambda _: None,
) -> Outcome:
    """Take in what was said since `since`. Raises SettingsError, StoreError, BrokerAway where it cannot begin."""
    with admin(settings.kafka) as client:
        client.ensure_topics(Topics.of(settings.kafka))
    return asyncio.run(_run(settings, table, since, environ, again, told))


async def _run(
    settings: Settings,
    table: Connector,
    since: datetime,
    environ: Mapping[str, str],
    again: bool,
    told: Callable[[Told], None],
) -> Outcome:
    loop, so_far = asyncio.get_running_loop(), Told()
    async with AsyncExitStack() as stack:
        engine = connect(settings.store.url)
        stack.callback(engine.dispose)
        await asyncio.to_thread(prepare, engine)
        thread = ThreadPoolExecutor(1)
        stack.callback(thread.shutdown)
        metrics = ConnectorMetrics().of(table.use, table.name)
        session = await stack.enter_async_context(open_session(None, metrics))
        context = Context(http=Http(session, _now), now=_now)
        built = build(table, context, environ)
        if built.reader is None:
            return Outcome(state="stopped", items=0, message="it is told by webhook and has no history to ask for")
        key = await asyncio.to_thread(load_key, settings.ingest.author_key_file, settings.ingest.data_dir)
        bus, topics = Bus(settings.kafka), Topics.of(settings.kafka)
        publisher = Publisher(
            bus, topics.raw.name, settings.kafka.bootstrap,
            max_items=MAX_ITEMS, max_bytes=64 * 2**20, observe=lambda _: None,
        )  # fmt: skip
        stack.push_async_callback(publisher.close)
        publisher.start()
        try:
            start = built.reader.since(since)
        except Permanent as error:
            return Outcome(state="stopped", items=0, message=str(error))
        run = Run(source=built.origin.source, instance=built.origin.instance, purpose=purpose(since))
        if again:
            await asyncio.to_thread(forget, engine, run)

        async def keep(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
            return await persist(
                lambda: loop.run_in_executor(thread, lambda: call(*arguments, **named)),
                away=(StoreAway,), what="the database of the connectors' cursors",
            )  # fmt: skip

        def note(converted: Converted) -> None:
            so_far.items += len(converted.feedback)
            so_far.newest = max(filter(None, (so_far.newest, converted.last_event)), default=None)
            told(so_far)

        def held_up() -> None:
            since = f"less than {lease.total_seconds():g} s ago"
            so_far.waiting = f"waiting: another process does it, or was killed {since}"
            told(so_far)

        lease = timedelta(seconds=settings.ingest.lease_s)
        holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        store = ConnectorStore(engine, holder=holder, lease=lease)
        stack.callback(store.release)

        async def renew() -> None:
            # A page may take longer than the lease: a spent quota, workers that are behind.
            while True:
                await asyncio.sleep(lease.total_seconds() / 3)
                await keep(store.renew, now=_now())

        stack.callback(asyncio.create_task(renew()).cancel)
        means = Means(
            sink=Sink(publisher, bus, topics.dead.name), store=store, keep=keep,
            redactor=Redactor(settings.privacy, key), now=_now, chance=random.random,
            fuse_share=settings.worker.dead_letter_fuse_share,
            fuse_items=settings.worker.dead_letter_fuse_items,
        )  # fmt: skip
        follower = Follower(
            built, means, metrics, purpose=run.purpose, start=start, pacer=Pacer(BACKFILL_RESERVE),
            wait=Behind(settings.kafka, f"{settings.worker.group}-classify", so_far, told), told=note,
            held_up=held_up,
        )  # fmt: skip
        return await _until_ended(follower, so_far)


async def _until_ended(follower: Follower, so_far: Told) -> Outcome:
    loop, ended = asyncio.get_running_loop(), list[signal.Signals]()
    task = asyncio.ensure_future(follower.run())

    def end(number: signal.Signals) -> None:
        ended.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)
    try:
        state = await task
    except asyncio.CancelledError:
        if not ended:
            raise
        return Outcome(state="interrupted", items=so_far.items, terminated=ended[0] == signal.SIGTERM)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return Outcome(state=state, items=so_far.items, message=follower.stopped_by)


class Behind:
    """Waits while the workers are behind, so that what is live goes first. Looks every two seconds at most."""

    def __init__(self, kafka: Kafka, group: str, so_far: Told, told: Callable[[Told], None]) -> None:
        self._kafka = kafka
        self._group = group
        self._so_far = so_far
        self._told = told
        self._looked = 0.0

    async def __call__(self) -> None:
        """Return when the workers are near the end of the log, or none has ever read it."""
        while time.monotonic() - self._looked >= LOOK_EVERY_S:
            try:
                behind = await asyncio.to_thread(self._behind)
            except BrokerAway:
                behind = 0
            self._looked = time.monotonic()
            self._so_far.waiting = "" if behind <= MAX_BEHIND else f"waiting: the workers are {behind:,} records behind"
            self._told(self._so_far)
            if behind <= MAX_BEHIND:
                return
            await asyncio.sleep(LOOK_EVERY_S)

    def _behind(self) -> int:
        topic = Topics.of(self._kafka).raw.name
        with admin(self._kafka) as client:
            read = client.committed(self._group, topic)
            ends = client.ends(topic)
        return sum(end - max(read.get(at, first), first) for at, (first, end) in ends.items()) if read else 0


def _now() -> datetime:
    return datetime.now(UTC)
