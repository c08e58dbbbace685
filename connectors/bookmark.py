"""A bookmark over pages that are unsorted, overlap and share times. Pure.

A bookmark is the greatest version seen and the ids that had exactly that version. Asking again from that
version brings those ids once more; `fresh` leaves them out. Progress is only promoted when a pass is
complete (`finish`): services that list the newest first would otherwise skip what a broken pass had not
reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from connectors.connector import Cursor, Item

MAX_IDS: Final = 60
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bookmark:
    """`high`: everything with a lesser version (microseconds since 1970) has been read, as well as `at_high`,
    the ids that have exactly that version. `pending_*`: the same for the pass under way.

    Where more than MAX_IDS share a version the ids are dropped, and all of them are read again: the store
    counts each once.
    """

    high: int = 0
    at_high: tuple[str, ...] = ()
    pending: int = 0
    at_pending: tuple[str, ...] = ()

    def fresh(self, item: Item) -> bool:
        """Whether an item lies beyond the bookmark."""
        return item.version > self.high or (item.version == self.high and item.external_id not in self.at_high)

    def see(self, items: Iterable[Item]) -> Bookmark:
        """Note the items of one page of the pass under way; the order of pages does not matter."""
        high, ids = self.pending, set(self.at_pending)
        for item in items:
            if item.version > high:
                high, ids = item.version, {item.external_id}
            elif item.version == high:
                ids.add(item.external_id)
        return replace(self, pending=high, at_pending=_kept(ids))

    def finish(self) -> Bookmark:
        """The pass is complete: what it saw is read."""
        if self.pending < self.high:
            return Bookmark(high=self.high, at_high=self.at_high)
        ids = set(self.at_pending)
        if self.pending == self.high:
            ids |= set(self.at_high)
        return Bookmark(high=self.pending, at_high=_kept(ids))

    def abandon(self) -> Bookmark:
        """Forget the pass under way."""
        return Bookmark(high=self.high, at_high=self.at_high)

    def cursor(self, **more: Any) -> Cursor:
        """As a cursor, with whatever else the connector keeps there."""
        return {"high": self.high, "ids": list(self.at_high), "pending": self.pending,
                "pending_ids": list(self.at_pending), **more}  # fmt: skip

    @classmethod
    def of(cls, cursor: Mapping[str, Any] | None) -> Bookmark:
        """From a cursor; nothing read yet where there is none."""
        if not cursor:
            return cls()
        return cls(
            high=int(cursor.get("high", 0)),
            at_high=tuple(cursor.get("ids", ())),
            pending=int(cursor.get("pending", 0)),
            at_pending=tuple(cursor.get("pending_ids", ())),
        )

    @classmethod
    def since(cls, moment: datetime) -> Bookmark:
        """Everything from `moment` on is new."""
        return cls(high=max(0, micros(moment) - 1))


def _kept(ids: set[str]) -> tuple[str, ...]:
    return tuple(sorted(ids)) if len(ids) <= MAX_IDS and sum(map(len, ids)) <= 1_500 else ()


def micros(moment: datetime) -> int:
    """Microseconds since 1970: the version of an item that has a time of change."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(microseconds: int) -> datetime:
    """The other way round."""
    return _EPOCH + timedelta(microseconds=microseconds)
