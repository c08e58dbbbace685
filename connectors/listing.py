"""Reading listings that show the newest first, page by page down to what is known.

Services show some entries late (a review held for moderation), date some in the future, and list an edited
one anew. So what is remembered is not the newest time but the entries themselves: the latest few hundred,
each as its second and a digest of id and version. An entry is new when it is not among them and lies
above the floor, below which everything counts as read.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from connectors.connector import Clock, Cursor, Gap, Item, Page, Permanent, Quota, Retryable, Skipped

KEEP: Final = 250
MAX_AFTER_CHARS: Final = 400
MAX_PAGES: Final = 20_000
_DIGEST_CHARS: Final = 6
_SECOND_CHARS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One page of a listing. `after`: what to ask for the next one with; None on the last."""

    items: tuple[Item, ...]
    skipped: tuple[Skipped, ...] = ()
    after: str | None = None
    quota: Quota | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What has been read of a listing. Pure.

    `floor`: seconds since 1970; what is not newer counts as read. `entries`: digest → second of what was
    read above it. `checked`: when the last complete pass was (seconds since 1970), 0 for never. `after`, `noted`:
    the next page of a long pass under way, and its newest entries; kept while there are no `entries`, as in a
    backfill, so that one which breaks off goes on where it was.
    """

    floor: int = 0
    entries: Mapping[str, int]
    checked: int = 0
    after: str = ""
    noted: Mapping[str, int] = field(default_factory=dict)

    def fresh(self, item: Item) -> bool:
        """Whether an item has not been read yet."""
        return _second(item) > self.floor and _digest(item) not in self.entries

    def add(self, items: Mapping[str, int], at: datetime, keep: int = KEEP) -> Seen:
        """A pass over `items` (digest → second) was complete; the `keep` newest are remembered."""
        newest = sorted({**self.entries, **items}.items(), key=lambda entry: entry[1], reverse=True)
        kept = dict(newest[:keep])
        # The entry that is dropped first is the newest of those dropped.
        floor = max(self.floor, newest[keep][1] if len(newest) > keep else 0)
        return Seen(floor=floor, entries=kept, checked=int(at.timestamp()))

    def cursor(self) -> dict[str, Any]:
        """As (part of) a cursor: at most 12 bytes an entry."""
        found = {"floor": self.floor, "seen": pack(self.entries), "checked": self.checked}
        return found | ({"after": self.after, "noted": pack(self.noted)} if self.after else {})

    def under_way(self, after: str | None, noted: Mapping[str, int], keep: int) -> Seen:
        """A page of a pass was read, and `after` is next."""
        if not after or len(after) > MAX_AFTER_CHARS or self.entries:
            return self
        newest = sorted(noted.items(), key=lambda entry: entry[1], reverse=True)[:keep]
        return replace(self, after=after, noted=dict(newest))

    @classmethod
    def of(cls, cursor: Mapping[str, Any] | None) -> Seen:
        """From a cursor."""
        found = cursor or {}
        return cls(
            floor=int(found.get("floor", 0)),
            entries=unpack(str(found.get("seen", ""))),
            checked=int(found.get("checked", 0)),
            after=str(found.get("after", "")),
            noted=unpack(str(found.get("noted", ""))),
        )

    @classmethod
    def since(cls, moment: datetime) -> Seen:
        """Everything from `moment` on is new."""
        return cls(floor=max(0, int(moment.timestamp()) - 1), entries={})


async def newest_first(
    fetch: Callable[[str | None], Awaitable[Listed]],
    seen: Seen,
    now: Clock,
    *,
    first: bool,
    save: Callable[[Seen], Cursor] = Seen.cursor,
    reach: timedelta | None = None,
    most: int | None = None,
    keep: int = KEEP,
) -> AsyncGenerator[Page, None]:
    """The pages of a listing down to what `seen` knows; one page only if this is the `first` time.

    `fetch(after)` gets a page. Only the last page's cursor moves: a broken pass starts over, except where nothing
    was known (a backfill): that goes on at the page where it was. `reach`: how far back the service lists; a
    pass that comes later than that after the one before leaves a Gap. `most`: how many entries it lists; where that
    many were listed and none was known, there is a Gap too.
    """
    begun = now()
    gaps = _out_of_reach(seen, begun, reach)
    after: str | None = seen.after or None
    noted: dict[str, int] = dict(seen.noted)
    resumed, seen = after is not None, replace(seen, after="", noted={})
    asked: set[str] = set()
    # How many a pass that goes on had listed before is not known: it counts as if they were all.
    listed, known = (most or 0) if resumed else 0, False
    oldest: datetime | None = None
    while True:
        try:
            page = await fetch(after)
        except Permanent:
            if not resumed:
                raise
            page = Listed(items=())
        if resumed and not page.items:
            # The service does not know that page any more: from the beginning.
            after, resumed, listed = None, False, 0
            continue
        resumed = False
        fresh = tuple(item for item in page.items if item.external_id and seen.fresh(item))
        for item in page.items:
            noted |= (digest(item),)
            oldest = min(oldest, item.created_at) if oldest else item.created_at
        if len(noted) > 4 * keep:
            noted = dict(sorted(noted.items(), key=lambda entry: entry[1], reverse=True)[: keep + 1])
        listed += len(page.items) + len(page.skipped)
        known = known or len(fresh) < len(page.items)
        last = first or page.after is None or (not fresh and bool(page.items))
        if not last:
            going_on = seen.under_way(page.after, noted, keep)
            yield Page(items=fresh, skipped=page.skipped, cursor=save(going_on), quota=page.quota)
            after = page.after
            if after in asked or len(asked) >= MAX_PAGES:
                raise Retryable(f"the service goes round in circles: page {len(asked) + 1} names one that was read")
            asked.add(after or "")
            continue
        if most and listed >= most and not known and (seen.floor or seen.entries) and oldest:
            since = datetime.fromtimestamp(max(seen.entries.values(), default=seen.floor), UTC)
            if since < oldest:
                gaps += (Gap(since=since, until=oldest, reason=f"the service lists only the newest {most}"),)
        if first and page.after is not None and page.items:
            # What the first page does not show was said before the beginning.
            seen = replace(seen, floor=max(seen.floor, min(map(_second, page.items)) - 1))
        done = seen.add(noted, begun, keep)
        yield Page(items=fresh, skipped=page.skipped, cursor=save(done), gaps=gaps, quota=page.quota)
        return


def next_link(base_url: str, link: str | None) -> str | None:
    """A link to the next page, made absolute. Raises Permanent where it leads to another server, which would
    be handed our credentials."""
    if not link:
        return None
    ours = urlsplit(base_url)
    try:
        found = urljoin(base_url, link)
        theirs = urlsplit(found)
    except ValueError:
        raise Permanent(f"{base_url} names a next page that is no address") from None
    if (ours.scheme, ours.netloc.lower()) != (theirs.scheme, theirs.netloc.lower()):
        raise Permanent(f"{base_url} names a next page on {theirs.hostname}: not followed; check base_url")
    return found


def _out_of_reach(seen: Seen, now: datetime, reach: timedelta | None) -> tuple[Gap, ...]:
    before = seen.checked or seen.floor
    if reach is None or not before:
        return ()
    since, edge = datetime.fromtimestamp(before, UTC), now - reach
    return (Gap(since=since, until=edge, reason=f"the service lists {reach.days} days"),) if since < edge else ()


def digest(item: Item) -> tuple[str, int]:
    """What is remembered of an item: (digest of id and version, second of the version)."""
    return _digest(item), _second(item)


def _second(item: Item) -> int:
    return second_of(item.version)


def _digest(item: Item) -> str:
    return digest_of(item.external_id, item.version)


def second_of(version: int) -> int:
    """The second of a version in microseconds, within what `pack` can write."""
    return max(0, min(version // 1_000_000, 36**_SECOND_CHARS - 1))


def digest_of(key: str, version: int) -> str:
    """Six characters that stand for one version of one thing."""
    raw = hashlib.blake2b(f"{version}:{key}".encode("utf-8", "replace"), digest_size=5).digest()
    return base64.b64encode(raw).decode()[:_DIGEST_CHARS]


def pack(entries: Mapping[str, int], chars: int = _SECOND_CHARS) -> str:
    """Digest → number, which takes `chars` bytes; the digest takes six."""
    return "".join(digest + _base36(number, chars) for digest, number in entries.items())


def unpack(packed: str, chars: int = _SECOND_CHARS) -> dict[str, int]:
    """The other way round."""
    size = _DIGEST_CHARS + chars
    parts = [packed[at : at + size] for at in range(0, len(packed), size)]
    return {part[:_DIGEST_CHARS]: int(part[_DIGEST_CHARS:], 36) for part in parts}


_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


def _base36(number: int, chars: int) -> str:
    text = ""
    for _ in range(chars):
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text
