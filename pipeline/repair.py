"""Holes in the ledger: found, watched, and read again once it is sure that nothing more will come. Pure.

A hole is a raw offset that the classify stage has passed (acknowledged, or scored later ones) and whose
outcome the store does not have. It may only be late: the outcome waits in the scored or dead topic for a
fold that is behind. So a hole is overdue once it is old enough and the fold has since passed everything
that those topics held when it was seen. Reading the record again is harmless in any case: the outcome is
applied by identity and version.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from pipeline.ledger import Ledger, Span, runs


class HoleWatch:
    """Remembers since when each offset has been missing, for the partitions of one worker."""

    def __init__(self) -> None:
        self._since: dict[int, list[tuple[Span, float]]] = {}

    def observe(self, partition: int, holes: Iterable[Span], now_s: float) -> None:
        """Note the partition's holes of this moment; what is no longer missing is forgotten."""
        before = self._since.get(partition, [])
        noted: list[tuple[Span, float]] = []
        for start, end in holes:
            position = start
            for (old_start, old_end), since in before:
                overlap = (max(position, old_start), min(end, old_end))
                if overlap[0] >= overlap[1]:
                    continue
                if position < overlap[0]:
                    noted.append(((position, overlap[0]), now_s))
                noted.append((overlap, since))
                position = overlap[1]
            if position < end:
                noted.append(((position, end), now_s))
        self._since[partition] = noted

    def overdue(self, partition: int, now_s: float, after_s: float, settled_s: float) -> list[Span]:
        """Holes that are `after_s` seconds old and were there at `settled_s` (see FoldProgress), in order."""
        held = self._since.get(partition, [])
        return [span for span, since in held if now_s - since >= after_s and since <= settled_s]

    def count(self) -> int:
        """Offsets missing now, over all partitions."""
        return sum(end - start for holes in self._since.values() for (start, end), _ in holes)

    def keep(self, partitions: Iterable[int]) -> None:
        """Forget partitions that are no longer this worker's."""
        kept = set(partitions)
        self._since = {partition: holes for partition, holes in self._since.items() if partition in kept}


Place = tuple[str, int]
"""(topic, partition) of what the fold reads."""


class FoldProgress:
    """Up to which moment everything that was written for the fold has been folded."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, Mapping[Place, int]]] = deque()
        self.settled_s = float("-inf")

    def observe(self, ends: Mapping[Place, int], positions: Mapping[Place, int], now_s: float) -> None:
        """Note where the logs end now, and which next offsets the store has reached."""
        self._marks.append((now_s, ends))
        while self._marks:
            at_s, marked = self._marks[0]
            if any(positions.get(place, 0) < end for place, end in marked.items()):
                break
            self.settled_s = at_s
            self._marks.popleft()
        # The oldest mark is the next to be reached; of many in between, the newest say as much.
        while len(self._marks) > 64:
            del self._marks[1]


def absent(spans: Iterable[Span], read: Iterable[int]) -> list[Span]:
    """What of the spans was not among the offsets that were read: the log has it no longer, or never had."""
    account = Ledger().add(runs(read))
    return [(max(a, start), min(b, end)) for start, end in spans for a, b in account.holes(end) if b > start]


def holes(ledger: Ledger, committed: int | None) -> list[Span]:
    """What is missing: below the committed offset, or below the highest offset that has an outcome."""
    return ledger.holes(max(ledger.high, committed or 0))
