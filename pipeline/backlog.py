"""Whether a pipeline is behind: records that have been in a log for a while and are not done. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

PATIENCE_S: Final = 30.0

Offsets = Mapping[tuple[str, int], int]
"""By (topic, partition)."""


class Backlog:
    """What was seen of the logs' ends lately. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self._ends: deque[tuple[float, dict[tuple[str, int], int]]] = deque()
        self._done: dict[tuple[str, int], int] = {}

    def observe(self, ends: Offsets, done: Offsets, now_s: float) -> None:
        """`ends`: next offsets of the logs; `done`: next offsets to be worked on."""
        self._ends.append((now_s, dict(ends)))
        self._done = dict(done)
        while len(self._ends) > 1 and self._ends[1][0] <= now_s - PATIENCE_S:
            self._ends.popleft()

    @property
    def seen(self) -> bool:
        """Whether anything was observed yet."""
        return bool(self._ends)

    def behind(self, now_s: float) -> bool:
        """Whether a record waits since PATIENCE_S, or nobody could look for so long."""
        if not self._ends or self._ends[-1][0] < now_s - PATIENCE_S:
            return True
        at_s, ends = self._ends[0]
        if at_s > now_s - PATIENCE_S:
            return False
        return any(end > self._done.get(place, 0) for place, end in ends.items())
