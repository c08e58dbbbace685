"""Clients of a running installation: fill the raw topic, post to the intake, watch what is committed."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from benchmarks.processes import samples
from pipeline.bus import Bus
from pipeline.ledger import Ledger
from pipeline.settings import Kafka
from pipeline.topics import Topics

CHUNK: Final = 5_000
POST_ITEMS: Final = 200
POSTS_AT_ONCE: Final = 8
REPEATS: Final = 60
WATCH_S: Final = 0.05
PROBE: Final = "probe"


def fill(kafka: Kafka, records: Iterable[tuple[bytes, bytes]]) -> int:
    """Put records into the raw topic; return once the broker acknowledged all: how many."""
    bus, topic, count = Bus(kafka, delivery_timeout_s=120), Topics.of(kafka).raw.name, 0
    chunk: list[tuple[bytes, bytes]] = []

    def send() -> None:
        for future in bus.send(topic, chunk):
            future.result(120)
        chunk.clear()

    for record in records:
        chunk.append(record)
        count += 1
        if len(chunk) == CHUNK:
            send()
    send()
    bus.close()
    return count


@dataclass(slots=True)
class Watched:
    """What was committed when: (time.perf_counter(), how many are committed) at each change."""

    seen: list[tuple[float, int]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Items a second from the first commit to the last; the first batch itself does not count."""
        (began, first), (ended, last) = self.seen[0], self.seen[-1]
        return (last - first) / (ended - began) if ended > began else 0.0


class Watch:
    """Reads what is committed in an SQLite store, beside the worker that writes it.

    `live`: count live items, where some may be sent twice; else raw records that have an outcome, where
    items may be pruned.
    """

    def __init__(self, database: Path, *, live: bool) -> None:
        self._database = database
        self._live = live

    def count(self) -> int:
        """What is committed now."""
        with suppress(sqlite3.OperationalError):
            connection = sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)
            try:
                if self._live:
                    return int(connection.execute("SELECT coalesce(sum(count), 0) FROM total").fetchone()[0])
                rows = connection.execute("SELECT low, spans FROM ledger").fetchall()
            finally:
                connection.close()
            ledgers = [Ledger.from_json(low, spans) for low, spans in rows]
            return sum(ledger.low + sum(end - start for start, end in ledger.spans) for ledger in ledgers)
        return 0

    def until(
        self,
        wanted: int,
        alive: Callable[[], bool],
        *,
        above: int = 0,
        patience_s: float = 120.0,
        each: Callable[[int], None] = lambda count: None,
    ) -> Watched:
        """Watch until `wanted` records are done. RuntimeError when nothing moves for `patience_s`.

        `above`: how many were done before; `each` hears of every change.
        """
        watched, last, moved = Watched(), above, time.monotonic()
        while last < wanted:
            count = self.count()
            if count > last:
                watched.seen.append((time.perf_counter(), count))
                last, moved = count, time.monotonic()
                each(count)
            elif time.monotonic() - moved > patience_s or not alive():
                raise RuntimeError(f"the worker stands still at {last} of {wanted} items")
            time.sleep(WATCH_S)
        return watched


def post_all(url: str, items: Sequence[dict[str, str]]) -> None:
    """POST the items in batches, as fast as they are acknowledged."""
    bodies = [
        b"\n".join(orjson.dumps(item) for item in items[start : start + POST_ITEMS])
        for start in range(0, len(items), POST_ITEMS)
    ]

    async def main() -> None:
        left = iter(bodies)
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(_drain(session, url, left) for _ in range(POSTS_AT_ONCE)))

    asyncio.run(main())


def await_intake(url: str, patience_s: float = 60.0) -> None:
    """Return once the intake whose POST address is `url` has its broker. RuntimeError when it does not get it."""
    ready, deadline = url.removesuffix("/v1/feedback") + "/readyz", time.monotonic() + patience_s
    while True:
        with suppress(urllib.error.URLError):
            urllib.request.urlopen(ready, timeout=5).close()
            return
        if time.monotonic() > deadline:
            raise RuntimeError("the intake does not reach the broker")
        time.sleep(0.1)


def in_background(call: Callable[[], None]) -> Future[None]:
    """Run it in a thread that does not hold up the end of the process."""
    done: Future[None] = Future()

    def run() -> None:
        done.set_running_or_notify_cancel()
        try:
            call()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, daemon=True).start()
    return done


async def _drain(session: aiohttp.ClientSession, url: str, bodies: Iterator[bytes]) -> None:
    for body in bodies:
        # What an overloaded or broker-less intake refuses is sent again, as docs/intake.md asks; it counts once.
        for again in itertools.count():
            if await _post(session, url, body):
                break
            if again == REPEATS:
                raise RuntimeError(f"the intake refused a batch {REPEATS} times")
            await asyncio.sleep(0.5)


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> bool:
    """Whether it was acknowledged; False where the intake says to send it again."""
    headers = {"Content-Type": "application/x-ndjson"}
    async with session.post(url, data=body, headers=headers) as answer:
        text = await answer.text()
        if answer.status not in (202, 429, 503):
            raise RuntimeError(f"the intake answered {answer.status}: {text[:300]}")
        return answer.status == 202


@dataclass(slots=True)
class Latencies:
    """Seconds from 202 to visible, one a probe; and how the watching was done."""

    seconds: list[float] = field(default_factory=list)
    poll_s: float = 0.0
    polls: int = 0
    posted: int = 0

    def percentile(self, share: float) -> float:
        """The smallest latency that `share` of the probes did not exceed."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")


async def latencies(
    intake: str, metrics: str, background: Iterator[dict[str, str]], *, rate: float, seconds: float, lanes: int = 8
) -> Latencies:
    """Post `rate` items a second, and among them probes whose way to /metrics is timed.

    Each lane sends one probe at a time, of a source of its own, and waits until `feedback_items` of that
    source has grown. A probe's time ends when the answer of /metrics that shows it was received whole, so it contains
    the wait for the next poll and the rendering, as it would for Prometheus: nothing is subtracted.
    """
    found = Latencies()
    expected = [0] * lanes
    acknowledged = [0.0] * lanes
    visible = [asyncio.Event() for _ in range(lanes)]
    stop = asyncio.Event()

    async def lane(number: int, session: aiohttp.ClientSession) -> None:
        await asyncio.sleep(0.1 * number)
        while not stop.is_set():
            visible[number].clear()
            item = {"source": f"{PROBE}-{number}", "id": f"{number}-{expected[number]}", "text": _probe_text(number)}
            item |= {"channel": "chat", "workspace": "w0"}
            expected[number] += 1
            acknowledged[number] = 0.0
            if not await _post(session, intake, orjson.dumps(item)):
                raise RuntimeError("the intake is overloaded at half load")
            acknowledged[number] = time.perf_counter()
            await visible[number].wait()

    async def poll(session: aiohttp.ClientSession) -> None:
        started = time.perf_counter()
        while True:
            async with session.get(metrics) as answer:
                text = await answer.text()
            now = time.perf_counter()
            found.polls += 1
            found.poll_s = (now - started) / found.polls
            shown = [0.0] * lanes
            for (name, labels), value in samples(text).items():
                source = dict(labels).get("source", "") if name == "feedback_items" else ""
                if source.startswith(PROBE):
                    shown[int(source.rpartition("-")[2])] += value
            for number in range(lanes):
                if shown[number] >= expected[number] and acknowledged[number] and not visible[number].is_set():
                    found.seconds.append(now - acknowledged[number])
                    visible[number].set()
            await asyncio.sleep(0.05)

    async def load(session: aiohttp.ClientSession) -> None:
        began, sent, posts = time.perf_counter(), 0, set[asyncio.Task[Any]]()
        while (passed := time.perf_counter() - began) < seconds:
            due = int(passed * rate) - sent
            if due > 0:
                body = b"\n".join(orjson.dumps(next(background)) for _ in range(due))
                task = asyncio.ensure_future(_post(session, intake, body))
                posts.add(task)
                task.add_done_callback(posts.discard)
                sent += due
            await asyncio.sleep(0.025)
        stop.set()
        found.posted = sent

    async with aiohttp.ClientSession() as session:
        poller = asyncio.ensure_future(poll(session))
        try:
            await asyncio.gather(load(session), *(lane(number, session) for number in range(lanes)))
        finally:
            poller.cancel()
    return found


def _probe_text(number: int) -> str:
    return ("The courier was two hours late and nobody called", "Оплата прошла дважды, верните деньги")[number % 2]
