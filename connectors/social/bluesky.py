"""Bluesky posts over Jetstream, version 1 (`/subscribe`) or 2 (`network.bsky.jetstream.subscribeEvents`)."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from connectors.connector import Cursor, CursorExpired, Gap, Item, Page, Retryable, Skipped
from connectors.fields import Fields, Unreadable, need, skip
from connectors.option import option
from connectors.registry import Context, connector
from connectors.timestamp import micros, moment
from connectors.transport import Handshake

POSTS: Final = "app.bsky.feed.post"
PAGE_EVENTS: Final = 500
REMEMBERED: Final = 60
"""Posts whose deletion is told after a restart: their addresses stand in the cursor, which has little room."""
REMEMBERED_RUNNING: Final = 5_000
LOOKBACK: Final = timedelta(hours=36)
BACKDATED: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bluesky:
    """Settings."""

    words: tuple[str, ...] = option("posts with one of these words or phrases are read", example=("acme", "@acme.com"))
    server: str = option("a Jetstream server", default="wss://jetstream.us-west.bsky.network")
    dialect: str = option("which Jetstream it speaks", default="v2", choices=("v1", "v2"))
    authors: tuple[str, ...] = option("only posts of these accounts (did:…)", default=())


@connector(
    name="bluesky",
    title="Bluesky posts",
    kind="social",
    channel="social",
    modes=("stream",),
    cursor="Sequence number (v2) or time (v1). The stream goes back about 36 hours; what is older is a gap.",
    limits=(
        "All posts pass by, and those with one of `words` are kept; a post without them is never seen again.",
        f"Deletions are honoured for the last {REMEMBERED_RUNNING} posts that were kept, {REMEMBERED} after a restart.",
        "The time of a post is its author's claim; if it is not within a day of the stream's, the stream's counts.",
    ),
    source="https://github.com/bluesky-social/jetstream",
    config=Bluesky,
    every_s=1.0,
)
class BlueskyConnector:
    """See the declaration."""

    def __init__(self, config: Bluesky, context: Context) -> None:
        self._config = config
        self._http = context.http
        self._now = context.now
        escaped = (re.escape(word.casefold()) for word in config.words)
        self._wanted = re.compile(rf"(?<!\w)(?:{'|'.join(escaped)})(?!\w)")
        self._kept: OrderedDict[str, None] = OrderedDict()

    async def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`. Without `follow` it ends at the first event that is not older than the call."""
        began = self._now()
        place: int | None = None if cursor is None else int(cursor["at"])
        for uri in (cursor or {}).get("kept", ()):
            self._keep(str(uri))
        gaps = self._lost(cursor, began)
        first = True
        try:
            async with self._http.frames(self._url(), params=self._asked(place), expect=(400,)) as frames:
                items: list[Item] = []
                skipped: list[Skipped] = []
                count = 0
                async for frame in frames:
                    count += 1
                    try:
                        event = self._event(frame)
                        place = event.place
                        items.extend(self._items(event))
                        # The event at the cursor is told again: what comes after it is wanted.
                        known = cursor is not None and event.place == cursor["at"]
                        caught_up = not known and event.at >= began - timedelta(seconds=1)
                    except Unreadable as error:
                        skipped.append(skip(str(error), f"after {place}", frame))
                        caught_up = False
                    if items or skipped or first or caught_up or count >= PAGE_EVENTS:
                        page = Page(items=tuple(items), skipped=tuple(skipped), gaps=gaps, cursor=self._cursor(place))
                        items, skipped, gaps, count, first = [], [], (), 0, False
                        yield page
                    if caught_up and not follow:
                        return
        except Handshake:
            raise CursorExpired("Jetstream does not reach back to the cursor any more (CursorTooOld)") from None

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`: times are cursors too, as far as the stream goes back."""
        return {"at": micros(moment), "time": micros(moment)}

    def _url(self) -> str:
        path = "/subscribe" if self._config.dialect == "v1" else "/xrpc/network.bsky.jetstream.subscribeEvents"
        return f"{self._config.server.rstrip('/')}{path}"

    def _asked(self, place: int | None) -> Mapping[str, str | int]:
        v1 = self._config.dialect == "v1"
        asked: dict[str, str | int] = {"wantedCollections" if v1 else "collections": POSTS}
        if self._config.authors:
            asked["wantedDids" if v1 else "dids"] = ",".join(self._config.authors)
        if place is not None:
            asked["cursor"] = place
        return asked

    def _cursor(self, place: int | None) -> Cursor:
        kept = list(self._kept)[-REMEMBERED:]
        while len(json.dumps(kept)) > 3_800:
            kept.pop(0)
        return {"at": place or 0, "time": micros(self._now()), "kept": kept}

    def _lost(self, cursor: Cursor | None, now: datetime) -> tuple[Gap, ...]:
        """Version 1 clamps a cursor that is too old without a word, so the gap is known by its age."""
        if cursor is None or now - moment(int(cursor["time"])) <= LOOKBACK:
            return ()
        return (Gap(since=moment(int(cursor["time"])), until=now - LOOKBACK, reason="older than Jetstream goes back"),)

    def _event(self, frame: bytes) -> _Event:
        try:
            told = Fields(json.loads(frame), "event")
        except (ValueError, RecursionError):
            raise Unreadable("the event is no JSON") from None
        if self._config.dialect == "v1":
            at = need(told.epoch("time_us", 1e-6), "time_us")
            kind = told.text("kind") or ""
            return _Event(micros(at), at, told.key("did"), kind, told.inside("commit" if kind == "commit" else kind))
        if told.text("$type") == "error":
            raise Retryable(f"Jetstream ended the stream: {(told.text('error') or '')[:80]}")
        payload = need(told.inside("payload"), "payload")
        kind = (payload.text("$type") or "").rpartition("#")[2]
        place = int(need(payload.number("seq"), "seq"))
        return _Event(place, need(payload.iso("time"), "time"), payload.key("did"), kind, payload)

    def _items(self, event: _Event) -> Iterable[Item]:
        if event.kind == "account" and event.commit is not None:
            # An account that is gone takes its posts with it, as far as they are remembered.
            if not event.commit.flag("active"):
                for uri in [uri for uri in self._kept if uri.startswith(f"at://{event.did}/")]:
                    yield self._deleted(uri, event.at)
            return
        commit = event.commit
        if event.kind != "commit" or commit is None or commit.text("collection") != POSTS:
            return
        uri = f"at://{event.did}/{POSTS}/{commit.key('rkey')}"
        if commit.text("operation") == "delete":
            if uri in self._kept:
                yield self._deleted(uri, event.at)
            return
        record = need(commit.inside("record"), "record")
        text = record.text("text") or ""
        if uri not in self._kept and not self._wanted.search(text.casefold()):
            return
        self._keep(uri)
        languages = record.items("langs")
        yield Item(
            external_id=uri,
            created_at=_claimed(record, event.at),
            version=micros(event.at),
            text=text,
            author=event.did,
            language=languages[0] if languages and isinstance(languages[0], str) else None,
            url=f"https://bsky.app/profile/{event.did}/post/{commit.key('rkey')}",
        )

    def _deleted(self, uri: str, at: datetime) -> Item:
        self._kept.pop(uri, None)
        return Item(external_id=uri, created_at=at, version=micros(at), deleted=True)

    def _keep(self, uri: str) -> None:
        self._kept.pop(uri, None)
        self._kept[uri] = None
        while len(self._kept) > REMEMBERED_RUNNING:
            self._kept.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Event:
    place: int
    at: datetime
    did: str
    kind: str
    commit: Fields | None


def _claimed(record: Fields, at: datetime) -> datetime:
    try:
        said = record.iso("createdAt")
    except Unreadable:
        return at
    return said if said is not None and at - BACKDATED <= said <= at else at
