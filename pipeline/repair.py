"""Holes in the ledger: found, watched, and read again once they are older than a minute.

A hole is a raw offset that the classify stage has passed (acknowledged, or scored later ones) and whose
outcome the store does not have. Whatever made it, reading the record again is harmless: the outcome is
applied by identity and version.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.ledger import Ledger, Span


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

    def overdue(self, partition: int, now_s: float, after_s: float) -> list[Span]:
        """Holes that have been there for `after_s` seconds, in order."""
        return [span for span, since in self._since.get(partition, []) if now_s - since >= after_s]

    def count(self) -> int:
        """Offsets missing now, over all partitions."""
        return sum(end - start for holes in self._since.values() for (start, end), _ in holes)

    def keep(self, partitions: Iterable[int]) -> None:
        """Forget partitions that are no longer this worker's."""
        kept = set(partitions)
        self._since = {partition: holes for partition, holes in self._since.items() if partition in kept}


def holes(ledger: Ledger, committed: int | None) -> list[Span]:
    """What is missing: below the committed offset, or below the highest offset that has an outcome."""
    return ledger.holes(max(ledger.high, committed or 0))
