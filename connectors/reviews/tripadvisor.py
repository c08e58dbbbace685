"""Tripadvisor: the five newest reviews of one location, in one language."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connectors.connector import Cursor, Item, Page, Permanent, Rating, Skipped
from connectors.fields import Fields, each, need
from connectors.listing import Listed, Seen, newest_first
from connectors.option import Secret, option
from connectors.pace import Rate
from connectors.registry import Context, connector
from connectors.timestamp import micros


@dataclass(frozen=True, slots=True, kw_only=True)
class Tripadvisor:
    """Settings."""

    location: str = option("id of the location: the number after -d in its address", example="89575", pattern=r"\d+")
    api_key: Secret = option("key of the Content API", example="env:TRIPADVISOR_KEY")
    language: str = option("language of the reviews", default="en")
    base_url: str = option("address of the API", default="https://api.content.tripadvisor.com")


@connector(
    name="tripadvisor",
    title="Tripadvisor reviews",
    kind="reviews",
    channel="review",
    modes=("poll",),
    cursor="The reviews read. History is not to be had.",
    limits=(
        "A sample, not a stream: the Content API shows the five newest reviews of a location in a language.",
        "Each request is paid for beyond the free ones; set the daily limit in Tripadvisor's own console.",
        "The key is bound to an address or domain there. Edits and deletions are not told.",
        "Tripadvisor has announced a successor of this API (Terra).",
    ),
    source="https://tripadvisor-content-api.readme.io/reference/getlocationreviews",
    config=Tripadvisor,
    at_most=(Rate(50, 1),),
    sample=True,
    every_s=3_600.0,
)
class TripadvisorConnector:
    """See the declaration."""

    def __init__(self, config: Tripadvisor, context: Context) -> None:
        self._config = config
        self._http = context.http
        self._now = context.now
        self._url = f"{config.base_url}/api/v1/location/{config.location}/reviews"

    def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`: one page."""
        return newest_first(self._list, Seen.of(cursor), self._now, first=cursor is None)

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`."""
        raise Permanent("Tripadvisor shows only the five newest reviews: there is no history to fetch")

    async def _list(self, after: str | None) -> Listed:
        answer = await self._http.get(
            self._url,
            params={"key": self._config.api_key.reveal(), "language": self._config.language},
            headers={"Accept": "application/json"},
        )
        items, skipped = answer.read(parse)
        return Listed(items=items, skipped=skipped)


def parse(answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """A list of reviews → (items, what could not be read). Raises Unreadable where it is none."""
    return each(Fields(answer, "the answer").items("data"), _items, "data")


def _items(review: Fields) -> Iterator[Item]:
    key = review.key("id")
    created = need(review.iso("published_date"), "published_date")
    title, text = review.text("title") or "", review.text("text") or ""
    yield Item(
        external_id=key,
        created_at=created,
        version=micros(created),
        text=text if text.startswith(title) else f"{title}\n{text}".strip(),
        author=review.text("user.username"),
        rating=Rating(value=need(review.number("rating"), "rating"), low=1, high=5),
        language=review.language("lang"),
        url=review.link("url"),
        conversation_id=key,
        turn="customer_message",
    )
    if answered := review.iso("owner_response.published_date"):
        yield Item(
            external_id=f"{key}/reply",
            created_at=answered,
            version=micros(answered),
            conversation_id=key,
            turn="agent_reply",
        )
