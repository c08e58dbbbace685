"""Event time: minutes, cells and what a longer window is made of. Pure.

A cell is one tumbling minute of event time with its labels; every longer window is a sum of cells, so
an item that comes late, changes or goes away is right in every window at once. Scores are whole
millionths, since floating-point sums depend on their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
WINDOWS_MINUTES: Final = {"5m": 5, "1h": 60, "24h": 1440}
SCORE_UNIT: Final = 1_000_000


class Cell(NamedTuple):
    """Where an item counts. `minute`: whole minutes since 1970, of the event time."""

    workspace: str
    minute: int
    source: str
    channel: str
    topic: str
    language: str
    sentiment: str


@dataclass(slots=True)
class Tally:
    """A count and the sum of scores in millionths; addition is commutative and associative."""

    count: int = 0
    score_e6: int = 0

    def add(self, count: int, score_e6: int) -> None:
        """Add (or, with negative values, take back) a contribution."""
        self.count += count
        self.score_e6 += score_e6


def micros(at: datetime) -> int:
    """Microseconds since 1970."""
    since = at - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment(us: int) -> datetime:
    """The moment, UTC, of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=us)


def minute_of(at: datetime) -> int:
    """Whole minutes since 1970."""
    return int(at.timestamp() // 60)


def minute_start(minute: int) -> datetime:
    """The moment at which a minute begins, UTC."""
    return EPOCH + timedelta(minutes=minute)


def score_e6(score: float) -> int:
    """A score −1..1 in millionths."""
    return round(score * SCORE_UNIT)


def window_start(stream_time: datetime, window: str) -> int:
    """The first minute of a window that ends with the minute of `stream_time`, that minute included."""
    return minute_of(stream_time) - WINDOWS_MINUTES[window] + 1


def stream_time(watermark: datetime, advanced_at: datetime, now: datetime) -> datetime:
    """The event time that it is now: the watermark, moved on by the time since it last advanced.

    In live operation this is the wall clock; while history is replayed it is the history's clock. It
    never passes `now`.
    """
    return min(now, watermark + max(timedelta(0), now - advanced_at))
