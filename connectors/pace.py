"""Staying under a limit that a service's documentation names: so many requests in so many seconds. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from connectors.connector import Retryable

LONGEST_WAIT_S: Final = 60.0
"""So long a request waits for its turn; beyond it, it is for the driver to come again."""
APART: Final = 1.05
"""Requests leave us at other moments than they get there: so much longer than documented is a window taken to be."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `requests` in any `seconds`, of those whose path has `path` in it."""

    requests: int
    seconds: float
    path: str = "/"


@dataclass(slots=True)
class Throttle:
    """When each request may leave, so that a rate is kept."""

    rate: Rate
    _slots: deque[datetime] = field(default_factory=deque)

    def take(self, now: datetime) -> float:
        """Take the next place: seconds to wait until it comes."""
        window = timedelta(seconds=self.rate.seconds * APART)
        # A clock that was set back leaves places behind in a time that will not come soon.
        while self._slots and not now - window < self._slots[0] <= now + window * (1 + len(self._slots)):
            self._slots.popleft()
        slot = now
        if len(self._slots) >= self.rate.requests:
            slot = max(now, self._slots[-self.rate.requests] + window)
        self._slots.append(slot)
        return (slot - now).total_seconds()

    def give_back(self) -> None:
        """The place that was taken last is not used."""
        self._slots.pop()


def turn(throttles: Iterable[Throttle], url: str, where: str, now: datetime) -> float:
    """Seconds until a request may leave. Raises Retryable where that is too long to wait."""
    path, longest = urlsplit(url).path, 0.0
    for throttle in throttles:
        if throttle.rate.path in path:
            wait_s = throttle.take(now)
            if wait_s > LONGEST_WAIT_S:
                throttle.give_back()
                allowed = f"{throttle.rate.requests} requests in {throttle.rate.seconds:g} s"
                raise Retryable(f"{where}: the {allowed} that the service allows are used up", wait_s)
            longest = max(longest, wait_s)
    return longest
