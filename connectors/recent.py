"""Reading what has changed since a moment, from services that show some changes late.

A search index lags, a transaction commits after its own time stamp, several things change in one second. So
each pass asks again from some time before the newest change it knows (`lag`), and leaves out what it has
already shown: of the things that changed last, each is remembered as a digest of its key with the version
that was read. A change is missed only if the service shows it later than `lag`; where more changed within
`lag` than can be remembered, some come again, and the store counts each once.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from connectors.connector import Clock, Cursor, Item, Page, Quota, Retryable, Skipped
from connectors.fields import Fields, Unreadable
from connectors.listing import digest_of, pack, unpack
from connectors.timestamp import micros
from connectors.timestamp import moment as moment_of

KEEP: Final = 240
_CHARS: Final = 8
MAX_PAGES: Final = 20_000
FIRST: Final = timedelta(days=1)
"""How far back a connector looks that has no cursor yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """What has been read. Pure; times are microseconds since 1970.

    `start`: nothing older is wanted. `floor`: ask for what has changed since. `newest`: the newest change of
    this pass. `entries`: what was read last, as digest of the key → version in milliseconds.
    """

    start: int
    floor: int
    newest: int = 0
    entries: Mapping[str, int]

    def fresh(self, key: str, version: int) -> bool:
        """Whether this change has not been read yet. Version 0: its time is not known."""
        known = self.entries.get(digest_of(key, 0))
        return known is None if version == 0 else version >= self.floor and known != _milliseconds(version)

    def unread(self, key: str) -> int:
        """Of a thing made of parts: parts of this version and later have to be taken when it has changed.

        That it has been read before is known of it alone: others may have been read and it not, because it
        changed while the service listed them.
        """
        known = self.entries.get(digest_of(key, 0))
        return self.start if known is None else max(self.start, known * 1_000)

    def note(self, changes: Iterable[tuple[str, int]], now: datetime) -> Recent:
        """These changes, as (key, version), have been read.

        One dated after `now` is remembered, but hides nothing that is dated before it.
        """
        entries, newest, latest = dict(self.entries), self.newest, micros(now)
        for key, version in changes:
            entries[digest_of(key, 0)] = _milliseconds(version or latest)
            newest = max(newest, version) if version <= latest else newest
        kept = sorted(entries.items(), key=lambda entry: entry[1], reverse=True)[:KEEP]
        return replace(self, entries=dict(kept), newest=newest)

    def settle(self, lag: timedelta, *, complete: bool) -> Recent:
        """All that the service shows up to the newest change noted has been read; `complete`: all there is."""
        floor = max(self.floor, self.newest - lag // timedelta(microseconds=1))
        return replace(self, floor=floor, newest=0 if complete else self.newest)

    def cursor(self) -> Cursor:
        """As a cursor."""
        seen = pack(self.entries, _CHARS)
        return {"start": self.start, "floor": self.floor, "newest": self.newest, "seen": seen}

    @classmethod
    def of(cls, cursor: Mapping[str, Any] | None, now: datetime) -> Recent:
        """From a cursor; without one, what has changed within the last day."""
        if not cursor:
            return cls.since(now - FIRST)
        floor = int(cursor["floor"])
        return cls(
            start=int(cursor.get("start", floor)),
            floor=floor,
            newest=int(cursor.get("newest", 0)),
            entries=unpack(str(cursor.get("seen", "")), _CHARS),
        )

    @classmethod
    def since(cls, moment: datetime) -> Recent:
        """Every change from `moment` on is new."""
        floor = max(0, micros(moment))
        return cls(start=floor, floor=floor, entries={})


def _milliseconds(version: int) -> int:
    return max(0, min(version // 1_000, 36**_CHARS - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One page of changes: (key, version) of all that is listed, and the items of what is fresh.

    `after`: what to ask for the next page with; None on the last.
    """

    changes: tuple[tuple[str, int], ...]
    items: tuple[Item, ...]
    skipped: tuple[Skipped, ...] = ()
    after: str | None = None
    quota: Quota | None = None


def sift(
    recent: Recent, listed: Iterable[Any], identify: Callable[[Fields], tuple[str, int]]
) -> tuple[tuple[tuple[str, int], ...], list[Any]]:
    """All that is listed as (key, version), and those entries that are fresh, as they came.

    An entry that `identify` cannot read is known by its own digest, so that it is told of once and not at every
    poll that lists it.
    """
    changes: list[tuple[str, int]] = []
    fresh: list[Any] = []
    for entry in listed:
        try:
            change = identify(Fields(entry, "entry"))
        except Unreadable:
            change = (json.dumps(entry, sort_keys=True, default=str), 0)
        changes.append(change)
        if recent.fresh(*change):
            fresh.append(entry)
    return tuple(changes), fresh


async def changes(
    fetch: Callable[[datetime, Recent, str | None], Awaitable[Changed]],
    recent: Recent,
    now: Clock,
    lag: timedelta,
    *,
    ordered: bool,
    save: Callable[[Recent], Cursor] = Recent.cursor,
) -> AsyncIterator[Page]:
    """The pages of one pass. `fetch(start, recent, after)` lists what changed since `start`, a page at a time.

    `ordered`: the oldest change comes first, so that a broken pass goes on where it was; otherwise it starts
    over. Raises Verdict.
    """
    start = moment_of(recent.floor)
    after: str | None = None
    asked: set[str] = set()
    while True:
        page = await fetch(start, recent, after)
        recent = recent.note(page.changes, now())
        last = page.after is None
        if last or ordered:
            recent = recent.settle(lag, complete=last)
        yield Page(items=page.items, skipped=page.skipped, cursor=save(recent), quota=page.quota)
        if page.after is None:
            return
        after = page.after
        if after in asked or len(asked) >= MAX_PAGES:
            raise Retryable(f"the service goes round in circles: page {len(asked) + 1} names one that was read")
        asked.add(after)
