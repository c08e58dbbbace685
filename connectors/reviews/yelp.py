"""Yelp: the few newest review excerpts of one business."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from connectors.connector import Cursor, Item, Page, Permanent, Rating, Skipped
from connectors.fields import Fields, each, need
from connectors.listing import Listed, Seen, newest_first
from connectors.option import Secret, option
from connectors.registry import Context, connector
from connectors.timestamp import micros
from connectors.transport import Limits, quota

LIMITS: Final = Limits(remaining="ratelimit-remaining", reset="ratelimit-resettime", form="iso")


@dataclass(frozen=True, slots=True, kw_only=True)
class Yelp:
    """Settings."""

    business: str = option("id or alias of the business", example="molly-tea-house-san-francisco")
    api_key: Secret = option("API key of a Yelp app", example="env:YELP_KEY")
    locale: str = option("language and country of the reviews", default="en_US")
    sort_by: str | None = option("order of the excerpts, where Yelp takes one", example="newest", default=None)
    base_url: str = option("address of the API", default="https://api.yelp.com")


@connector(
    name="yelp",
    title="Yelp review excerpts",
    kind="reviews",
    channel="review",
    modes=("poll",),
    cursor="The excerpts read. History is not to be had.",
    limits=(
        "A sample, not a stream: Yelp shows three excerpts of a business (more on costlier plans), each cut short.",
        "Which three is Yelp's choice. sort_by is documented in contradictory ways: try before relying on it.",
        "The zone of Yelp's times is not documented: they are taken as UTC and may be hours off.",
        "About 300 requests a day on the starter plan, all businesses together. No edits, no deletions.",
        "Yelp's terms forbid keeping its content for longer than 24 hours: set a retention that fits.",
    ),
    source="https://docs.developer.yelp.com/reference/v3_business_reviews",
    config=Yelp,
    sample=True,
    every_s=1_800.0,
)
class YelpConnector:
    """See the declaration."""

    def __init__(self, config: Yelp, context: Context) -> None:
        self._config = config
        self._http = context.http
        self._now = context.now
        self._url = f"{config.base_url}/v3/businesses/{quote(config.business, safe='')}/reviews"

    def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`: one page."""
        return newest_first(self._list, Seen.of(cursor), self._now, first=cursor is None)

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`."""
        raise Permanent("Yelp shows only a few of the newest reviews: there is no history to fetch")

    async def _list(self, after: str | None) -> Listed:
        answer = await self._http.get(
            self._url,
            params={"locale": self._config.locale}
            | ({"sort_by": self._config.sort_by} if self._config.sort_by else {}),
            headers={"Authorization": f"Bearer {self._config.api_key.reveal()}"},
            limits=LIMITS,
        )
        items, skipped = answer.read(parse)
        return Listed(items=items, skipped=skipped, quota=quota(answer.headers, LIMITS, self._now()))


def parse(answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """A list of reviews → (items, what could not be read). Raises Unreadable where it is none."""
    return each(Fields(answer, "the answer").items("reviews"), _item, "reviews")


def _item(review: Fields) -> Item:
    created = need(review.iso("time_created", zone=False), "time_created")
    return Item(
        external_id=review.key("id"),
        created_at=created,
        version=micros(created),
        text=review.text("text") or "",
        author=review.text("user.name"),
        rating=Rating(value=need(review.number("rating"), "rating"), low=1, high=5),
        url=review.link("url"),
    )
