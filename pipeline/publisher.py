"""Between requests and the broker: shared batches, a bound on what waits, and notice of its absence."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final

from pipeline.bus import BrokerAway, Bus, TopicMismatch
from pipeline.intake_body import Record

log = logging.getLogger("ovoz.intake")

MAX_BATCH_RECORDS: Final = 2_000
MAX_BATCHES_UNDER_WAY: Final = 4
PROBE_INTERVAL_S: Final = 1.0
READY_CACHE_S: Final = 1.0


class Overloaded(RuntimeError):
    """As much as is allowed already waits for the broker."""


class Publisher:
    """Publishes the records of many requests in shared batches to one topic; used from one event loop.

    At most `max_items` items and `max_bytes` bytes (bodies being read and records that wait for
    acknowledgement) are held at a time. While the broker is away (`away` says why) publishing fails
    at once, and a probe connects again every second. `observe` is given the seconds of each batch.
    """

    def __init__(
        self,
        bus: Bus,
        topic: str,
        bootstrap: str,
        *,
        max_items: int,
        max_bytes: int,
        observe: Callable[[float], None],
    ) -> None:
        self.items = 0
        self.bytes = 0
        self.away: str | None = "the broker has not been reached yet"
        self._bus = bus
        self._topic = topic
        self._bootstrap = bootstrap
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._observe = observe
        self._waiting: deque[tuple[list[Record], asyncio.Future[None]]] = deque()
        self._senders: set[asyncio.Task[None]] = set()
        self._probe: asyncio.Task[None] | None = None
        self._life = 0
        self._ready_lock = asyncio.Lock()
        self._ready_until = 0.0

    def start(self) -> None:
        """Begin to connect; returns at once."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._connect())

    def hold(self) -> Hold:
        """`with publisher.hold() as hold:` room for one request, given back at its end."""
        return Hold(self)

    async def publish(self, records: list[Record]) -> None:
        """Return when the broker has acknowledged all records. Raises BrokerAway."""
        if self.away is not None:
            raise BrokerAway(self.away)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((records, done))
        if len(self._senders) < MAX_BATCHES_UNDER_WAY:
            sender = asyncio.create_task(self._send_waiting())
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        await done

    async def ready(self) -> str | None:
        """None when the broker answers, or else why not. Asks it at most once a second."""
        async with self._ready_lock:
            if self.away is None and time.monotonic() >= self._ready_until:
                life = self._life
                try:
                    await _reach(self._bootstrap)
                    await asyncio.get_running_loop().run_in_executor(None, self._bus.ping)
                except (BrokerAway, OSError) as error:
                    # With records under way their own fate decides: a slow answer must not fail them.
                    if self.items == 0:
                        self._lost(str(error), life)
                    return str(error)
                finally:
                    self._ready_until = time.monotonic() + READY_CACHE_S
        return self.away

    async def close(self) -> None:
        """Let go of the broker; what still waits fails with BrokerAway."""
        tasks = [*self._senders, *([self._probe] if self._probe is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fail_waiting(BrokerAway("the intake is shutting down"))
        await asyncio.get_running_loop().run_in_executor(None, self._bus.close)

    async def _send_waiting(self) -> None:
        while self._waiting:
            requests: list[asyncio.Future[None]] = []
            batch: list[Record] = []
            while self._waiting and (not batch or len(batch) + len(self._waiting[0][0]) <= MAX_BATCH_RECORDS):
                records, done = self._waiting.popleft()
                batch += records
                requests.append(done)
            life, began = self._life, time.perf_counter()
            failure: BrokerAway | None = None
            try:
                await self._bus.publish(self._topic, batch)
            except (BrokerAway, TopicMismatch) as error:
                failure = BrokerAway(str(error))
                self._lost(str(error), life)
            except BaseException:
                failure = BrokerAway("publishing was broken off")
                raise
            else:
                self._observe(time.perf_counter() - began)
            finally:
                for done in requests:
                    if not done.done():
                        done.set_result(None) if failure is None else done.set_exception(failure)

    def _lost(self, reason: str, life: int) -> None:
        # Of many batches that fail together only the first may drop the connection, or else the last
        # would drop the one that was made since.
        if life != self._life:
            return
        self._life += 1
        self.away = reason
        log.warning("the broker is away: %s", reason)
        self._fail_waiting(BrokerAway(reason))
        self.start()

    def _fail_waiting(self, error: BrokerAway) -> None:
        while self._waiting:
            _, done = self._waiting.popleft()
            if not done.done():
                done.set_exception(error)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                # A refused TCP connection answers at once, where the client would try on for seconds.
                await _reach(self._bootstrap)
                await loop.run_in_executor(None, self._bus.renew)
                await self._bus.publish(self._topic, [])
            # Anything else would end the only task that can bring the intake back.
            except Exception as error:
                if self.away != str(error):
                    known = isinstance(error, BrokerAway | TopicMismatch | OSError)
                    log.warning("the broker is away: %s", error, exc_info=not known)
                self.away = str(error)
                await asyncio.sleep(PROBE_INTERVAL_S)
            else:
                self.away = None
                log.info("connected to the broker at %s", self._bootstrap)
                return


class Hold:
    """The room that one request takes of what may wait."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._items = 0
        self._bytes = 0

    def take(self, *, items: int = 0, size: int = 0) -> None:
        """Hold so much in all, items and bytes, in place of what was held. Raises Overloaded."""
        owner = self._publisher
        total_items, total_bytes = owner.items - self._items + items, owner.bytes - self._bytes + size
        if (total_items > owner._max_items and items) or (
            total_bytes > owner._max_bytes and size > self._bytes
        ):
            raise Overloaded(f"{owner.items} items and {owner.bytes} bytes already wait for the broker")
        owner.items, owner.bytes = total_items, total_bytes
        self._items, self._bytes = items, size

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.take()


async def _reach(bootstrap: str) -> None:
    """Return when one of the `host:port,…` accepts a TCP connection within a second. Raises OSError."""
    failure: OSError | None = None
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            async with asyncio.timeout(1.0):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except (OSError, ValueError) as error:
            failure = OSError(f"no broker answers on {address.strip()}: {error or 'no answer within 1 s'}")
        else:
            writer.close()
            await writer.wait_closed()
            return
    raise failure or OSError("no broker address is set: write [kafka] bootstrap")
