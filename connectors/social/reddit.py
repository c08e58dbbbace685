"""Reddit: posts and comments of subreddits, or the posts that a search finds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from connectors.connector import Cursor, Item, Page, Skipped
from connectors.feedback import Fault
from connectors.fields import Fields, each, need
from connectors.listing import Listed, Seen, newest_first
from connectors.oauth import Authorized, client_credentials
from connectors.option import Misconfigured, Secret, option
from connectors.registry import Context, connector
from connectors.timestamp import micros
from connectors.transport import Limits, quota

PAGE: Final = 100
MOST: Final = 900
"""Reddit lists about 1,000 entries; some of them may be hidden from us."""
KEEP: Final = 120
GONE: Final = ("[deleted]", "[removed]")
LIMITS: Final = Limits(remaining="x-ratelimit-remaining", reset="x-ratelimit-reset")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reddit:
    """Settings."""

    client_id: str = option("id of a Reddit app", example="p-jcoLKBynTLew")
    client_secret: Secret = option("its secret", example="env:REDDIT_SECRET")
    user_agent: str = option(
        "who asks: platform:app:version (by /u/name), which Reddit demands",
        example="server:uz.example.ovoz:1.0 (by /u/example)",
        pattern=r"[^:\s]+:[^:\s]+:\S+ \(by /?u/[\w-]+\)",
    )
    subreddits: tuple[str, ...] = option(
        "names of subreddits, without r/; [] with a query for all of Reddit",
        example=["uzbekistan", "tashkent"],
        pattern=r"\w+",
    )
    query: str | None = option(
        "search for posts with these words, in the subreddits or everywhere", example="ovoz delivery", default=None
    )
    comments: bool = option("comments of the subreddits as well as posts", default=True)
    token_url: str = option("where access tokens are given", default="https://www.reddit.com/api/v1/access_token")
    base_url: str = option("address of the API", default="https://oauth.reddit.com")

    def __post_init__(self) -> None:
        """Raises Misconfigured where there is nothing to listen to."""
        if not self.subreddits and not self.query:
            raise Misconfigured([Fault(field="subreddits", reason="set subreddits or a query")])


@connector(
    name="reddit",
    title="Reddit posts and comments",
    kind="social",
    channel="social",
    modes=("poll",),
    cursor="The latest posts and comments read, by what they are: a deleted one does not break the chain.",
    limits=(
        "Listings end after about 1,000 entries: where more was said since the last poll, a gap is recorded.",
        "Edits and deletions are seen while an entry is among the newest hundred; a search does not find comments.",
        "About 100 requests a minute for an app. Commercial use needs Reddit's agreement; deleted content must go.",
    ),
    source="https://www.reddit.com/dev/api/",
    config=Reddit,
    every_s=60.0,
)
class RedditConnector:
    """See the declaration."""

    def __init__(self, config: Reddit, context: Context) -> None:
        self._config = config
        self._now = context.now
        self._agent = {"User-Agent": config.user_agent}
        grant = client_credentials(config.token_url, config.client_id, config.client_secret, headers=self._agent)
        self._http = Authorized(context.http, context.now, grant)
        within = f"/r/{'+'.join(config.subreddits)}" if config.subreddits else ""
        self._listings = {"posts": f"{within}/search" if config.query else f"{within}/new"}
        if config.comments and not config.query:
            self._listings["comments"] = f"{within}/comments"

    async def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`: one listing after the other."""
        read: dict[str, Any] = dict(cursor or {})
        for name, path in self._listings.items():

            async def fetch(after: str | None, path: str = path) -> Listed:
                return await self._list(path, after)

            def save(seen: Seen, name: str = name) -> Cursor:
                return {**read, name: seen.cursor()}

            before = read.get(name)
            listing = newest_first(
                fetch, Seen.of(before), self._now, first=before is None, save=save, most=MOST, keep=KEEP
            )  # fmt: skip
            async with aclosing(listing) as pages:
                async for page in pages:
                    yield page
                    read[name] = page.cursor[name]

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`: as far back as some 1,000 entries go; what lies before is told as a gap."""
        return {name: Seen.since(moment).cursor() for name in self._listings}

    async def _list(self, path: str, after: str | None) -> Listed:
        params: dict[str, str | int] = {"limit": PAGE, "raw_json": 1}
        if self._config.query:
            params |= {"q": self._config.query, "sort": "new", "type": "link"}
            params |= {"restrict_sr": 1} if self._config.subreddits else {}
        if after:
            params["after"] = after
        answer = await self._http.get(
            f"{self._config.base_url}{path}", params=params, headers=self._agent, limits=LIMITS
        )  # fmt: skip
        items, skipped = answer.read(parse)
        token = answer.read(lambda found: Fields(found).text("data.after"))
        return Listed(
            items=items, skipped=skipped, after=token or None, quota=quota(answer.headers, LIMITS, self._now())
        )  # fmt: skip


def parse(answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """A Listing of posts (t3) and comments (t1) → (items, what could not be read)."""
    return each(Fields(answer, "the answer").items("data.children"), _item, "data.children")


def _item(entry: Fields) -> Item | None:
    kind = entry.text("kind")
    if kind not in ("t1", "t3"):
        return None
    thing = need(entry.inside("data"), "data")
    said = need(thing.epoch("created_utc"), "created_utc")
    # `edited` is false, or when.
    changed = thing.epoch("edited") if thing.get("edited") not in (False, True, None) else None
    version = micros(max(said, changed or said))
    body = thing.text("body" if kind == "t1" else "selftext") or ""
    author = thing.text("author")
    gone = body in GONE or thing.text("removed_by_category") is not None
    title = thing.text("title") or ""
    link = thing.text("permalink")
    return Item(
        external_id=thing.key("name"),
        created_at=said,
        # A deletion has no time of its own, and nothing comes after it.
        version=version + 1 if gone else version,
        text="" if gone else (body if body.startswith(title) else f"{title}\n{body}".strip()),
        deleted=gone,
        author=None if gone or author in GONE else author,
        url=f"https://www.reddit.com{link}" if link and link.startswith("/") else None,
        conversation_id=thing.text("link_id") or thing.text("name"),
    )
