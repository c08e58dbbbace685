"""`ovoz replay`: files of feedback into `feedback.raw`, what is unreadable into `feedback.dead`.

Memory is bounded: so many records and bytes wait for the broker at most, and no line is longer than
replay_source allows. Order is kept. What the broker did not acknowledge is sent again for a while, which
is harmless, since the same item counts once.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Protocol

from connectors.feedback import Faulty, Feedback
from pipeline.bus import BrokerAway
from pipeline.codec import encode_dead, encode_feedback
from pipeline.records import DeadLetter
from pipeline.redact import Redactor
from pipeline.replay_item import Shape, feedback_of
from pipeline.replay_source import KEPT_BYTES, Item, Unreadable
from pipeline.topics import Topics

BATCH_RECORDS: Final = 500
BATCH_BYTES: Final = 2_000_000
BATCHES_UNDER_WAY: Final = 4
SHOWN: Final = 20
HOPELESS_LINES: Final = 1000
PATIENCE_S: Final = 30.0

Record = tuple[str, bytes, bytes]


class Publisher(Protocol):
    """The part of bus.Bus that is needed here."""

    def send(self, topic: str, records: Iterable[tuple[bytes, bytes]]) -> list[Future[tuple[int, int]]]:
        """Hand records over; each future gives (partition, offset) or BrokerAway."""
        ...

    def renew(self) -> None:
        """Connect afresh on next use."""
        ...


class Hopeless(RuntimeError):
    """Not one of the first thousand lines could be read: this is no file of feedback, or the mapping is wrong."""


@dataclass(slots=True)
class Tally:
    """What became of the lines so far. `acknowledged` counts items that the broker has."""

    read: int = 0
    acknowledged: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    earliest: datetime | None = None
    latest: datetime | None = None

    @property
    def bad(self) -> int:
        """Lines that could not be read."""
        return self.unreadable.total()


class Outlet:
    """Sends records in order, with a bounded number under way. Without a publisher nothing is sent."""

    def __init__(self, bus: Publisher | None, tally: Tally, topics: Topics, patience_s: float = PATIENCE_S) -> None:
        self._bus = bus
        self._tally = tally
        self._raw = topics.raw.name
        self._patience_s = patience_s
        self._filling: list[Record] = []
        self._bytes = 0
        self._sent: deque[tuple[list[Record], list[Future[tuple[int, int]]]]] = deque()
        self._reached = False

    def put(self, topic: str, key: bytes, value: bytes) -> None:
        """Take one record; waits while too much is under way. Raises BrokerAway."""
        self._filling.append((topic, key, value))
        self._bytes += len(value)
        if len(self._filling) >= BATCH_RECORDS or self._bytes >= BATCH_BYTES:
            self.push()

    def push(self) -> None:
        """Hand over what was taken so far. Raises BrokerAway."""
        batch, self._filling, self._bytes = self._filling, [], 0
        if not batch or self._bus is None:
            return
        try:
            self._sent.append((batch, self._hand_over(batch)))
        except BrokerAway as error:
            self._sent.append((batch, []))
            self._again(error)
        while len(self._sent) > BATCHES_UNDER_WAY:
            self._settle()

    def flush(self) -> None:
        """Return once the broker has everything. Raises BrokerAway."""
        self.push()
        while self._sent:
            self._settle()

    def _settle(self) -> None:
        """Wait for the oldest batch."""
        batch, futures = self._sent[0]
        try:
            for future in futures:
                future.result()
        except BrokerAway as error:
            self._again(error)
            return
        self._done(batch)

    def _again(self, error: BrokerAway) -> None:
        """Send everything under way once more, from the oldest on, until the broker has it or patience ends."""
        if not self._reached or self._bus is None:
            raise error
        deadline = time.monotonic() + self._patience_s
        while self._sent:
            batch = self._sent[0][0]
            try:
                self._bus.renew()
                for future in self._hand_over(batch):
                    future.result()
            except BrokerAway:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                self._done(batch)

    def _hand_over(self, batch: list[Record]) -> list[Future[tuple[int, int]]]:
        assert self._bus is not None  # noqa: S101
        by_topic: dict[str, list[tuple[bytes, bytes]]] = {}
        for topic, key, value in batch:
            by_topic.setdefault(topic, []).append((key, value))
        return [future for topic, records in by_topic.items() for future in self._bus.send(topic, records)]

    def _done(self, batch: list[Record]) -> None:
        self._sent.popleft()
        self._reached = True
        self._tally.acknowledged += sum(topic == self._raw for topic, _, _ in batch)


def replay(
    name: str,
    lines: Iterable[Item | Unreadable],
    outlet: Outlet,
    tally: Tally,
    topics: Topics,
    shape: Shape,
    *,
    redactor: Redactor,
    pace: Callable[[Feedback], None] = lambda _: None,
    bad: Callable[[int, str, str], None] = lambda *_: None,
    progress: Callable[[], None] = lambda: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Send one file, called `name`, through the outlet. Raises BrokerAway, SourceError and Hopeless.

    `pace` is called before each item and may wait, `bad` with line, reason and detail of each unreadable
    line, `progress` after each line.
    """
    for line in lines:
        tally.read += 1
        if isinstance(line, Item):
            try:
                feedback = feedback_of(
                    line.value, line.payload, shape, now=clock(), redactor=redactor, left_out=tally.left_out
                )
            except Faulty as error:
                line = Unreadable(
                    line=line.line, payload=line.payload[:KEPT_BYTES], reason="schema", detail=str(error)[:1000]
                )
            else:
                _note(tally, feedback)
                pace(feedback)
                outlet.put(topics.raw.name, feedback.feedback_id.encode(), encode_feedback(feedback))
        if isinstance(line, Unreadable):
            tally.unreadable[line.reason] += 1
            bad(line.line, line.reason, line.detail)
            letter = dead_letter(name, replace(line, payload=redactor.payload(line.payload)), clock())
            outlet.put(topics.dead.name, letter.dead_id.encode(), encode_dead(letter))
        progress()
        if tally.read == tally.bad == HOPELESS_LINES:
            raise Hopeless(
                f"{name}: not one of the first {HOPELESS_LINES:,} lines could be read; "
                "look at the reasons above, and try with --dry-run, --map and --source"
            )


def dead_letter(name: str, line: Unreadable, now: datetime) -> DeadLetter:
    """The dead letter of a line; the same line of the same file always has the same id."""
    origin = f"file:{name}:{line.line}"
    identity = hashlib.sha256(origin.encode("utf-8", "replace") + b"\0" + line.payload).hexdigest()[:32]
    return DeadLetter(
        dead_id=f"file-{identity}",
        stage="replay",
        reason=line.reason,
        detail=line.detail,
        payload=line.payload,
        failed_at=now,
        origin=origin,
    )


class Pace:
    """Lets event time go `speed` times as fast as the clock; an item that comes too early waits.

    `idle` is called before a wait, so that what was taken so far is not held back by it.
    """

    def __init__(self, speed: float, idle: Callable[[], None]) -> None:
        self._speed = speed
        self._idle = idle
        self._start: tuple[float, datetime] | None = None

    def __call__(self, feedback: Feedback) -> None:
        """Wait until it is this item's turn."""
        now = time.monotonic()
        if self._start is None:
            self._start = (now, feedback.created_at)
        began, first = self._start
        wait = began + (feedback.created_at - first).total_seconds() / self._speed - now
        if wait > 0:
            if wait > 0.01:
                self._idle()
            time.sleep(wait)


def _note(tally: Tally, feedback: Feedback) -> None:
    at = feedback.created_at
    tally.sources[feedback.source if len(tally.sources) < 1000 else "…"] += 1
    tally.earliest = at if tally.earliest is None else min(tally.earliest, at)
    tally.latest = at if tally.latest is None else max(tally.latest, at)
