"""YouTube: the comments under one video, or under all videos of a channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from connectors.connector import Cursor, Item, Page, Retryable, Skipped
from connectors.fields import Fields, Unreadable, each, need
from connectors.google import asked
from connectors.listing import Listed, Seen, newest_first
from connectors.option import Secret, option
from connectors.registry import Context, connector
from connectors.timestamp import micros
from connectors.transport import Answer

PAGE: Final = 100
MAX_REPLY_PAGES: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Youtube:
    """Settings."""

    api_key: Secret = option("API key of a Google Cloud project", example="env:YOUTUBE_KEY")
    target: str = option(
        "whose comments: channel/ID for all videos of a channel, or video/ID",
        example="channel/UC_x5XG1OV2P6uZZ5FSM9Ttw",
        pattern=r"(channel|video)/[\w-]+",
    )
    base_url: str = option("address of the API", default="https://www.googleapis.com")


@connector(
    name="youtube",
    title="YouTube comments",
    kind="social",
    channel="social",
    modes=("poll",),
    cursor="The latest comments read. Newest threads first: a broken pass starts over; a backfill goes on.",
    limits=(
        "Each page of 100 threads costs one of 10,000 units a day; a new thread with many replies costs more.",
        "Replies to threads that have left the newest page are not seen, nor are edits and deletions there.",
        "A video whose comments are switched off is refused.",
    ),
    source="https://developers.google.com/youtube/v3/docs/commentThreads/list",
    config=Youtube,
    every_s=120.0,
)
class YoutubeConnector:
    """See the declaration."""

    def __init__(self, config: Youtube, context: Context) -> None:
        self._config = config
        self._http = context.http
        self._now = context.now

    def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`."""
        seen = Seen.of(cursor)

        async def threads(after: str | None) -> Listed:
            return await self._list(after, seen)

        return newest_first(threads, seen, self._now, first=cursor is None)

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`: YouTube lists every comment there is."""
        return Seen.since(moment).cursor()

    async def _list(self, after: str | None, seen: Seen) -> Listed:
        kind, _, key = self._config.target.partition("/")
        params: dict[str, str | int] = {
            "part": "snippet,replies",
            "videoId" if kind == "video" else "allThreadsRelatedToChannelId": key,
            "order": "time",
            "maxResults": PAGE,
        }
        answer = await self._get("commentThreads", params, after)
        items, skipped = answer.read(parse)
        # The thread shows some of its replies only; the rest is asked for when the thread is new.
        for thread in answer.read(more_replies):
            top = next((item for item in items if item.external_id == thread), None)
            if top is None or seen.fresh(top):
                more, bad = await self._replies(thread)
                items, skipped = items + more, skipped + bad
        unique = {(item.external_id, item.version): item for item in items}
        return Listed(items=tuple(unique.values()), skipped=skipped, after=answer.read(_next))

    async def _replies(self, thread: str) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
        items: tuple[Item, ...] = ()
        skipped: tuple[Skipped, ...] = ()
        after: str | None = None
        for _ in range(MAX_REPLY_PAGES):
            answer = await self._get("comments", {"part": "snippet", "parentId": thread, "maxResults": PAGE}, after)
            got, bad = answer.read(parse_replies)
            items, skipped, before, after = items + got, skipped + bad, after, answer.read(_next)
            if after is None:
                return items, skipped
            if after == before:
                break
        raise Retryable(f"the replies to {thread[:60]} do not end")

    async def _get(self, what: str, params: dict[str, str | int], after: str | None) -> Answer:
        more = {"textFormat": "plainText", "key": self._config.api_key.reveal()}
        more |= {"pageToken": after} if after else {}
        url = f"{self._config.base_url}/youtube/v3/{what}"
        return await asked(self._http.get(url, params=params | more, expect=(403,)), self._now())


def parse(answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """commentThreads → (items, what could not be read): top-level comments and the replies shown with them."""
    threads = Fields(answer, "the answer").items("items")
    items, skipped = each(threads, _top, "items")
    for number, thread in enumerate(threads):
        try:
            replies = Fields(thread).items("replies.comments")
        except Unreadable:
            continue
        got, bad = each(replies, _comment, f"items[{number}].replies.comments")
        items, skipped = items + got, skipped + bad
    return items, skipped


def parse_replies(answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """A list of comments → (items, what could not be read)."""
    return each(Fields(answer, "the answer").items("items"), _comment, "items")


def more_replies(answer: Any) -> list[str]:
    """Ids of the threads with more replies than they show."""
    found: list[str] = []
    for entry in Fields(answer, "the answer").items("items"):
        try:
            thread = Fields(entry)
            if (thread.number("snippet.totalReplyCount") or 0) > len(thread.items("replies.comments")):
                found.append(thread.key("id"))
        except Unreadable:
            continue
    return found


def _next(answer: Any) -> str | None:
    return Fields(answer).text("nextPageToken") or None


def _top(thread: Fields) -> Item:
    return _comment(need(thread.inside("snippet.topLevelComment"), "snippet.topLevelComment"))


def _comment(comment: Fields) -> Item:
    key = comment.key("id")
    said = need(comment.iso("snippet.publishedAt"), "snippet.publishedAt")
    author, channel = comment.text("snippet.authorChannelId.value"), comment.text("snippet.channelId")
    video, thread = comment.text("snippet.videoId"), comment.text("snippet.parentId") or key
    own = author is not None and author == channel
    return Item(
        external_id=key,
        created_at=said,
        version=micros(max(said, comment.iso("snippet.updatedAt") or said)),
        # What the channel itself writes is an answer, and no customer's voice.
        text="" if own else (comment.text("snippet.textOriginal") or comment.text("snippet.textDisplay") or "").strip(),
        author=None if own else comment.text("snippet.authorDisplayName"),
        url=f"https://www.youtube.com/watch?v={video}&lc={key}" if video else None,
        conversation_id=thread,
        turn="agent_reply" if own else "customer_message",
    )
