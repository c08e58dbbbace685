"""Webhooks that nothing else makes up for: when they were open, so that the times when none was are known as gaps.

A service that cannot be asked again tells everything once, and repeats what was not taken for some time only.
What it told while no process could take it, because none ran, the broker was away or the machine slept, is lost,
and that something is lost must not depend on how the last process ended. So each process notes every few seconds
that its webhooks are open; the next to open them sees how long they were not.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pipeline.store.connectors import Run

BEAT_S: Final = 5.0
SLACK: Final = timedelta(seconds=2 * BEAT_S)
"""Up to so long a process that ended by itself may have been open after its last note."""
REASON: Final = "no webhook was open for longer than the service repeats what was not taken"


@dataclass(slots=True)
class Presence:
    """Since when each webhook has been open in this process, without a break. Pure."""

    _since: dict[Run, datetime] = field(default_factory=dict)
    _last: datetime | None = None

    def seen(self, open_now: Collection[Run], now: datetime) -> dict[Run, datetime]:
        """These are open now: since when each has been. A process that slept through its beats begins anew."""
        asleep = self._last is None or not timedelta(0) <= now - self._last <= SLACK
        self._last = now
        self._since = {run: now if asleep else self._since.get(run, now) for run in open_now}
        return dict(self._since)
