"""Which offsets of a raw partition are accounted for, as half-open intervals. Pure.

An offset is accounted for when the store holds the outcome of its record: an item version, a dead
letter, or the knowledge that the broker no longer has it. `low` closes the books: every offset below
it is accounted for; `spans` are the islands above, sorted, disjoint, none touching another or `low`.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The account of one partition of one life of the raw topic."""

    low: int = 0
    spans: tuple[Span, ...] = ()

    @property
    def high(self) -> int:
        """One past the greatest offset accounted for."""
        return self.spans[-1][1] if self.spans else self.low

    def holes(self, upto: int) -> list[Span]:
        """The gaps below `upto`, in order."""
        gaps: list[Span] = []
        position = self.low
        for start, end in self.spans:
            if start >= upto:
                break
            gaps.append((position, start))
            position = end
        if position < upto:
            gaps.append((position, upto))
        return gaps

    def contains(self, offset: int) -> bool:
        """Whether the offset is accounted for."""
        at = bisect_right(self.spans, (offset, 2**63)) - 1
        return offset < self.low or (at >= 0 and offset < self.spans[at][1])

    def add(self, spans: Iterable[Span]) -> Ledger:
        """The account with these half-open spans settled too; settling twice changes nothing."""
        merged: list[Span] = list(self.spans)
        low = self.low
        for start, end in spans:
            if end <= start or end <= low:
                continue
            start = max(start, low)
            first = bisect_left(merged, start, key=lambda span: span[1])
            last = bisect_right(merged, end, key=lambda span: span[0])
            if first < last:
                start, end = min(start, merged[first][0]), max(end, merged[last - 1][1])
            merged[first:last] = [(start, end)]
        if merged and merged[0][0] <= low:
            low = max(low, merged.pop(0)[1])
        return Ledger(low=low, spans=tuple(merged))

    def to_json(self) -> str:
        """The spans as stored beside `low`."""
        return json.dumps(self.spans, separators=(",", ":"))

    @classmethod
    def from_json(cls, low: int, spans: str) -> Ledger:
        """The account that was stored."""
        return cls(low=low, spans=tuple((start, end) for start, end in json.loads(spans)))


def runs(offsets: Iterable[int]) -> list[Span]:
    """Offsets in any order as the fewest half-open spans."""
    spans: list[Span] = []
    for offset in sorted(set(offsets)):
        if spans and spans[-1][1] == offset:
            spans[-1] = (spans[-1][0], offset + 1)
        else:
            spans.append((offset, offset + 1))
    return spans


def size(spans: Iterable[Span]) -> int:
    """How many offsets the spans hold."""
    return sum(end - start for start, end in spans)
