"""RSS and Atom: news, blogs, forums (Discourse, phpBB), release notes; anything that has a feed."""

from __future__ import annotations

import asyncio
import calendar
import hashlib
import io
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import feedparser

from connectors.connector import Cursor, Gap, Item, Page, Permanent, Retryable, Skipped
from connectors.fields import Fields, plain, skip
from connectors.option import Secret, option
from connectors.registry import Context, connector
from connectors.timestamp import micros
from connectors.transport import Answer, verdict

MAX_FEED_BYTES: Final = 4 * 2**20
KEEP: Final = 500
HOPS: Final = 3
_MARK_CHARS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Rss:
    """Settings."""

    url: str = option("address of the feed", example="https://forum.example.uz/posts.rss", pattern=r"https?://\S+")
    user: str | None = option("name for HTTP Basic, where the feed wants one", example="reader", default=None)
    password: Secret | None = option("password for HTTP Basic", example="env:FEED_PASSWORD", default=None)


@connector(
    name="rss",
    title="RSS and Atom feeds",
    kind="social",
    channel="social",
    modes=("poll",),
    cursor="ETag and Last-Modified, and which of the feed's entries were read. Nothing older than the feed shows.",
    limits=(
        "A feed shows its newest entries only. Where none of them was known from the last poll, a gap is recorded.",
        "An edit is seen where the feed gives it a new time; deletions are not told.",
        "An entry without a time counts as said when it was first seen.",
        "Redirects are followed on the same host only.",
    ),
    source="https://www.rfc-editor.org/rfc/rfc4287",
    config=Rss,
    every_s=600.0,
)
class RssConnector:
    """See the declaration."""

    def __init__(self, config: Rss, context: Context) -> None:
        self._config = config
        self._http = context.http
        self._now = context.now

    async def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`: one page, empty where the feed has not changed."""
        before = Feed.of(cursor)
        answer = await self._get(before)
        if answer.status == 304:
            yield Page(cursor=dict(cursor or {}))
            return
        if len(answer.body) > MAX_FEED_BYTES:
            raise Retryable(f"{answer.where} is a feed of more than {MAX_FEED_BYTES // 2**20} MB")
        # A feed of megabytes takes seconds to parse: not in the event loop.
        items, skipped = await asyncio.to_thread(_parsed, answer.body, self._now(), answer)
        yield before.page(items, skipped, answer.headers)

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`: as far back as the feed shows; what lies before is told as a gap."""
        return {"floor": max(0, int(moment.timestamp()) - 1), "marks": "", "since": True}

    async def _get(self, before: Feed) -> Answer:
        headers = {"Accept": "application/atom+xml, application/rss+xml, application/xml;q=0.9, */*;q=0.5"}
        if before.etag:
            headers["If-None-Match"] = before.etag
        if before.modified:
            headers["If-Modified-Since"] = before.modified
        auth = None
        if self._config.user and self._config.password:
            auth = (self._config.user, self._config.password.reveal())
        url = self._config.url
        for _ in range(HOPS):
            answer = await self._http.get(url, headers=headers, auth=auth, expect=(304, 301, 302, 303, 307, 308))
            if answer.status < 300 or answer.status == 304:
                return answer
            url = _redirected(url, answer, self._now())
        raise Permanent(f"GET {self._config.url} is redirected more than {HOPS} times: check its address")


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """What was read of a feed: `marks` of its entries; `floor`: what is not later and has no mark counts as read."""

    marks: frozenset[str] = frozenset()
    floor: int = 0
    newest: int = 0
    etag: str = ""
    modified: str = ""
    begun: bool = False

    def page(self, items: tuple[Item, ...], skipped: tuple[Skipped, ...], headers: Mapping[str, str]) -> Page:
        """What is new among the entries. Pure."""
        marks = [_mark(item) for item in items]
        fresh = tuple(
            item
            for item, mark in zip(items, marks, strict=True)
            if mark not in self.marks and (not _second(item) or _second(item) > self.floor)
        )
        dated = [item for item in items if _second(item)]
        gaps: tuple[Gap, ...] = ()
        if self.begun and dated and len(fresh) == len(items):
            since = datetime.fromtimestamp(max(self.newest, self.floor), UTC)
            oldest = min(item.created_at for item in dated)
            if since < oldest:
                gaps = (Gap(since=since, until=oldest, reason="the feed shows none of the entries that were read"),)
        rest = [_second(item) for item in items[KEEP:]]
        after = {
            "marks": "".join(marks[:KEEP]),
            "floor": max([self.floor, *rest]) if rest else (self.floor if items else 0),
            "newest": max([self.newest, *(_second(item) for item in dated)]),
            "etag": _short(headers.get("etag", "")),
            "modified": _short(headers.get("last-modified", "")),
        }
        return Page(items=fresh, skipped=skipped, cursor=after, gaps=gaps)

    @classmethod
    def of(cls, cursor: Cursor | None) -> Feed:
        """From a cursor."""
        found = cursor or {}
        packed = str(found.get("marks", ""))
        marks = frozenset(packed[at : at + _MARK_CHARS] for at in range(0, len(packed), _MARK_CHARS))
        return cls(
            marks=marks,
            floor=int(found.get("floor", 0)),
            newest=int(found.get("newest", 0)),
            etag=str(found.get("etag", "")),
            modified=str(found.get("modified", "")),
            begun=bool(marks) or bool(found.get("since")),
        )


def parse(answer: str | bytes, now: datetime) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """A feed's entries, the newest first where the feed has times → (items, what could not be read)."""
    raw = answer.encode("utf-8", "replace") if isinstance(answer, str) else answer
    return _entries(_feed(raw, ""), now)


def _parsed(body: bytes, now: datetime, answer: Answer) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    found = _feed(body, answer.headers.get("content-type", ""))
    if not found.get("version"):
        begins = body[:40].decode("utf-8", "replace").strip()
        raise Retryable(f"{answer.where} is no RSS or Atom ({len(body)} bytes, beginning {begins!r})")
    return _entries(found, now)


def _feed(body: bytes, content_type: str) -> Any:
    # A stream, never the bytes: feedparser would take those for an address or the name of a file.
    return feedparser.parse(
        io.BytesIO(body),
        response_headers={"content-type": content_type} if content_type else {},
        sanitize_html=False,
        resolve_relative_uris=False,
    )


def _entries(found: Any, now: datetime) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    language = Fields({"language": str(found.feed.get("language") or "")}).language("language")
    items: list[Item] = []
    skipped: list[Skipped] = []
    for number, entry in enumerate(found.entries):
        try:
            items.extend(_item(entry, now, language))
        except (ValueError, OverflowError, TypeError) as error:
            skipped.append(skip(str(error), f"entries[{number}]", dict(entry)))
    items.sort(key=_second, reverse=True)
    return tuple(items), tuple(skipped)


def _item(entry: Any, now: datetime, language: str | None) -> Iterator[Item]:
    title = plain(str(entry.get("title") or ""))
    contents = [str(one.get("value") or "") for one in entry.get("content") or ()]
    body = plain(next((text for text in contents if text), "") or str(entry.get("summary") or ""))
    text = body if body.startswith(title.removesuffix("…")) else f"{title}\n{body}".strip()
    if not text:
        return
    # feedparser's own `get` takes one time for the other where it is missing.
    published, updated = (_time(dict.get(entry, name)) for name in ("published_parsed", "updated_parsed"))
    key = str(entry.get("id") or entry.get("link") or "") or hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    link = str(entry.get("link") or "")
    at = published or updated
    yield Item(
        external_id=key if len(key) <= 400 else hashlib.sha256(key.encode("utf-8", "replace")).hexdigest(),
        created_at=at or now,
        # Without a time of its own it is as old as our first sight of it; see _second.
        version=micros(max(at, updated or at)) if at else micros(now) | 1,
        text=text,
        author=str(entry.get("author") or "") or None,
        language=language,
        url=link if link.startswith(("http://", "https://")) else None,
    )


def _time(parsed: Any) -> datetime | None:
    return datetime.fromtimestamp(calendar.timegm(parsed), UTC) if parsed else None


def _second(item: Item) -> int:
    # Feeds have whole seconds; an odd microsecond marks an entry that has no time.
    return 0 if item.version % 2 else max(0, item.version // 1_000_000)


def _mark(item: Item) -> str:
    what = f"{item.external_id}\n{_second(item) or item.text}"
    return hashlib.blake2b(what.encode("utf-8", "replace"), digest_size=_MARK_CHARS // 2).hexdigest()


def _short(header: str) -> str:
    return header if len(header) <= 256 and header.isascii() and header.isprintable() else ""


def _redirected(url: str, answer: Answer, now: datetime) -> str:
    there = urljoin(url, answer.headers.get("location", ""))
    ours, theirs = urlsplit(url), urlsplit(there)
    same = theirs.hostname == ours.hostname and (theirs.scheme == "https" or theirs.netloc == ours.netloc)
    if not same or theirs.scheme not in ("http", "https"):
        raise verdict(answer.status, answer.headers, b"", answer.where, now=now, retryable=())
    return there
