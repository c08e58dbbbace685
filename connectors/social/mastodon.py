"""Mastodon: public posts with a hashtag, streamed; what was missed while away comes by REST."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from connectors.connector import Cursor, Item, Page, Retryable, Skipped
from connectors.fields import Fields, each, need, plain, skip
from connectors.listing import Seen, digest
from connectors.option import Secret, option
from connectors.registry import Context, connector
from connectors.timestamp import micros
from connectors.transport import Limits, quota

PAGE: Final = 40
LIMITS: Final = Limits(remaining="x-ratelimit-remaining", reset="x-ratelimit-reset", form="iso")
MAX_EVENT_CHARS: Final = 2**20
OVERLAP: Final = timedelta(minutes=10)
"""Posts of other servers arrive late, under an id of the time when they were written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mastodon:
    """Settings."""

    base_url: str = option("address of the server", example="https://mastodon.social", pattern=r"https?://[^/\s]+")
    token: Secret = option("access token of a user, with the scope read:statuses", example="env:MASTODON_TOKEN")
    tag: str = option("hashtag, without #", example="ovoz", pattern=r"[^#/\s]+")
    streaming_url: str | None = option(
        "address of the streaming server, where it is another one",
        example="https://streaming.mastodon.social",
        default=None,
        pattern=r"https?://[^/\s]+",
    )
    silence_s: float = option("seconds without a heartbeat: the connection counts as dead", default=60.0, least=0.1)


@connector(
    name="mastodon",
    title="Mastodon hashtag",
    kind="social",
    channel="social",
    modes=("stream",),
    cursor="Id of the newest post. The stream cannot resume; posts missed are read by REST once it is open again.",
    limits=(
        "A server knows the posts of those whom it or its users follow, not of the whole network.",
        "Edits and deletions made while the stream was away are not told.",
        "300 requests in 5 minutes for an account. Large servers stream from an address of their own: streaming_url.",
    ),
    source="https://docs.joinmastodon.org/methods/streaming/",
    config=Mastodon,
    every_s=60.0,
)
class MastodonConnector:
    """See the declaration."""

    def __init__(self, config: Mastodon, context: Context) -> None:
        self._config = config
        self._http = context.http
        self._now = context.now
        self._auth = {"Authorization": f"Bearer {config.token.reveal()}"}

    async def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`. The stream is open before what was missed is asked for: nothing falls between."""
        if not follow:
            async with aclosing(self._missed(cursor)) as missed:
                async for page in missed:
                    yield page
            return
        async with self._http.lines(
            f"{self._config.streaming_url or self._config.base_url}/api/v1/streaming/hashtag",
            params={"tag": self._config.tag},
            headers=self._auth | {"Accept": "text/event-stream"},
            silence_s=self._config.silence_s,
            limits=LIMITS,
        ) as lines:
            last = cursor
            async with aclosing(self._missed(cursor)) as missed:
                async for page in missed:
                    last = page.cursor
                    yield page
            async for told in events(lines):
                items, skipped = parse_event(told, self._now())
                if items or skipped:
                    last = self._after(last or {}, items)
                    yield Page(items=items, skipped=skipped, cursor=last)

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`: as far back as the server knows."""
        return {"id": str(int(moment.timestamp() * 1_000) << 16), **Seen.since(moment).cursor()}

    async def _missed(self, cursor: Cursor | None) -> AsyncGenerator[Page, None]:
        last: Cursor = dict(cursor or {})
        low = _earlier(str(last["id"]), self._now()) if last.get("id") else None
        while True:
            answer = await self._http.get(
                f"{self._config.base_url}/api/v1/timelines/tag/{quote(self._config.tag, safe='')}",
                params={"limit": PAGE} | ({"min_id": low} if low else {}),
                headers=self._auth,
                limits=LIMITS,
            )
            items, skipped = answer.read(parse)
            seen, top = Seen.of(last), answer.read(newest_id)
            fresh = tuple(item for item in items if seen.fresh(item))
            last = self._after(last, items, top)
            yield Page(items=fresh, skipped=skipped, cursor=last, quota=quota(answer.headers, LIMITS, self._now()))
            # With min_id a page holds the next older ones, the newest of them first.
            if low is None or top is None or top == low or (_decimal(top) and _decimal(low) and int(top) <= int(low)):
                return
            low = top

    def _after(self, last: Cursor, items: tuple[Item, ...], top: str | None = None) -> Cursor:
        ids = [str(last.get("id") or ""), top or "", *(item.external_id for item in items if not item.deleted)]
        newest = max(ids, key=lambda one: (int(one) if _decimal(one) else 0, bool(one)))
        if top and not _decimal(top):
            newest = top
        seen = Seen.of(last).add(dict(map(digest, items)), self._now())
        return {"id": newest, **seen.cursor()}


async def events(lines: AsyncIterator[bytes]) -> AsyncGenerator[dict[str, str], None]:
    """Server-sent events (WHATWG HTML, 9.2) as {"event": name, "data": text}; heartbeats are comments."""
    name, data = "message", ""
    async for raw in lines:
        line = raw.decode("utf-8", "replace")
        if not line:
            if data:
                yield {"event": name, "data": data}
            name, data = "message", ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data = f"{data}\n{value}" if data else value
            if len(data) > MAX_EVENT_CHARS:
                raise Retryable("the stream sends an event that does not end")


def parse(answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """A timeline → (items, what could not be read)."""
    return each(Fields({"statuses": answer}).items("statuses"), _item, "statuses")


def newest_id(answer: Any) -> str | None:
    """Id of the first status of a timeline."""
    statuses = Fields({"statuses": answer}).items("statuses")
    return Fields(statuses[0]).key("id") if statuses else None


def parse_event(answer: Any, now: datetime) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """One event of the stream → (items, what could not be read); kinds that are no posts bring nothing."""
    told = Fields(answer)
    kind, data = told.text("event"), told.text("data") or ""
    if kind == "delete":
        key = data.strip()
        if not key or len(key) > 64:
            return (), (skip("a delete event without an id", "delete", data),)
        return (Item(external_id=key, created_at=_written(key, now), version=micros(now), deleted=True),), ()
    if kind not in ("update", "status.update"):
        return (), ()
    try:
        status = json.loads(data)
    except (ValueError, RecursionError):
        return (), (skip("an event whose data is no JSON", kind, data),)
    return each([status], _item, kind)


def _item(status: Fields) -> Item | None:
    if status.get("reblog") is not None:
        return None
    written = need(status.iso("created_at"), "created_at")
    warning, text = plain(status.text("spoiler_text") or ""), plain(status.text("content") or "")
    return Item(
        external_id=status.key("id"),
        created_at=written,
        version=micros(max(written, status.iso("edited_at") or written)),
        text=f"{warning}\n{text}".strip(),
        author=status.text("account.acct"),
        language=status.language("language"),
        url=status.link("url") or status.link("uri"),
    )


def _earlier(key: str, now: datetime) -> str:
    """An id to ask from: some minutes before `key`. Ids of servers that are not Mastodon's stay as they are."""
    if not _decimal(key):
        return key
    # Milliseconds since 1970, above 16 bits.
    at = min(int(key), int(now.timestamp() * 1_000) << 16) - (int(OVERLAP.total_seconds() * 1_000) << 16)
    return str(max(1, at))


def _decimal(key: str) -> bool:
    return key.isascii() and key.isdecimal() and len(key) < 20


def _written(key: str, now: datetime) -> datetime:
    if not _decimal(key):
        return now
    try:
        return min(now, datetime.fromtimestamp((int(key) >> 16) / 1_000, UTC))
    except (ValueError, OverflowError, OSError):
        return now
