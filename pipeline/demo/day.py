"""The day that is replayed: its messages, its clock, and what must be counted of it. Pure.

The day is yesterday in UTC, so that the times in alerts are those of the view's clock. `_s` are seconds
since its midnight.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

DAY_FILE: Final = Path(__file__).with_name("day.jsonl")
DAY_S: Final = 86_400
INCIDENT_S: Final = (13 * 3600, 14 * 3600 + 40 * 60)
"""When the couriers fail and cards are charged twice."""
WORKSPACE: Final = "marketplace"

# (second of the day, share of the replay's duration that is over by then): quiet hours fly by, the incident
# and its end take nearly half of it.
PACE: Final = (
    (0.0, 0.0),
    (8.0 * 3600, 0.10),
    (12.5 * 3600, 0.30),
    (15.25 * 3600, 0.77),
    (24.0 * 3600, 1.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One request to the intake: sent at `at_s`, about what a customer said at `created_s`."""

    at_s: int
    created_s: int
    item: Mapping[str, Any]

    @property
    def identity(self) -> tuple[str, str]:
        """Source and id: edits, deletions and redeliveries share it."""
        return self.item["source"], self.item["id"]

    def body(self, midnight: datetime) -> dict[str, Any]:
        """What is posted, for the day that began at `midnight`."""
        created_at = midnight + timedelta(seconds=self.created_s)
        return {"workspace": WORKSPACE, "created_at": created_at.isoformat(), **self.item}


def read_day(lines: Iterable[str]) -> list[Message]:
    """The messages in the order in which they are sent.

    A line's `at` is when it is sent. Another line with the same id is an edit, a deletion or a redelivery
    of the first one, and so has its event time.
    """
    messages: list[Message] = []
    first: dict[tuple[str, str], int] = {}
    for line in lines:
        item = json.loads(line)
        at_s = seconds(item.pop("at"))
        created = item.pop("created", None)
        created_s = first.setdefault((item["source"], item["id"]), seconds(created) if created else at_s)
        messages.append(Message(at_s=at_s, created_s=created_s, item=item))
    return sorted(messages, key=lambda message: message.at_s)


def seconds(clock: str) -> int:
    """`13:05:09` → seconds since midnight."""
    hours, minutes, rest = map(int, clock.split(":"))
    return hours * 3600 + minutes * 60 + rest


def clock(at_s: float) -> str:
    """Seconds since midnight → `13:05`."""
    minutes = int(at_s // 60)
    return f"{minutes // 60:02}:{minutes % 60:02}"


def live_items(messages: Iterable[Message]) -> int:
    """How many items must count once all of these are in: the newest version of each, if it is not deleted."""
    newest: dict[tuple[str, str], tuple[int, bool]] = {}
    for message in messages:
        version = int(message.item.get("version", 0))
        if message.identity not in newest or version > newest[message.identity][0]:
            newest[message.identity] = (version, bool(message.item.get("deleted")))
    return sum(not deleted for _, deleted in newest.values())


def midnight_before(now: datetime) -> datetime:
    """The beginning of the day before the one of `now`."""
    return now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)


def at_share(share: float, pace: Sequence[tuple[float, float]] = PACE) -> float:
    """Second of the day that it is when this share (0..1) of the replay is over."""
    if share >= 1:
        return float(DAY_S)
    index = bisect_right([end for _, end in pace], max(share, 0.0)) - 1
    (begin_s, begin), (end_s, end) = pace[index], pace[index + 1]
    return begin_s + (end_s - begin_s) * (max(share, 0.0) - begin) / (end - begin)
