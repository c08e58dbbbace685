"""App Store: the customer reviews of one app, in all countries."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from connectors.connector import Cursor, Item, Page, Quota, Rating, Skipped
from connectors.fields import Fields, each, need
from connectors.listing import Listed, Seen, newest_first, next_link
from connectors.oauth import Authorized, signed_here
from connectors.option import Secret, option
from connectors.registry import Context, connector
from connectors.timestamp import micros

PAGE: Final = 200
LIFE_S: Final = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class AppStore:
    """Settings."""

    app_id: str = option("Apple id of the app", example="682658836", pattern=r"\d+")
    issuer_id: str = option("issuer id of the team's API keys", example="57246542-96fe-1a63-e053-0824d011072a")
    key_id: str = option("id of the API key", example="2X9R4HXF34")
    private_key: Secret = option("the key itself (.p8)", example="file:/run/secrets/AuthKey_2X9R4HXF34.p8")
    base_url: str = option("address of the API", default="https://api.appstoreconnect.apple.com")


@connector(
    name="app_store",
    title="App Store reviews",
    kind="reviews",
    channel="review",
    modes=("poll",),
    cursor="The latest reviews read. Listings are newest first, so a broken pass starts over; a backfill goes on.",
    limits=(
        "Apple tells neither the language of a review nor the version of the app; ratings without text are not listed.",
        "Deletions are not told. Whether an edit changes a review's date is not documented: one that does not is "
        "not seen.",
        "About 3,500 requests an hour for a key; the header that says so is not always there.",
    ),
    source="https://developer.apple.com/documentation/appstoreconnectapi/customer-reviews",
    config=AppStore,
    every_s=300.0,
)
class AppStoreConnector:
    """See the declaration."""

    def __init__(self, config: AppStore, context: Context) -> None:
        self._url = f"{config.base_url}/v1/apps/{config.app_id}/customerReviews"
        self._now = context.now

        def claims(now: datetime) -> Mapping[str, Any]:
            issued = int(now.timestamp()) - 60
            return {"iss": config.issuer_id, "iat": issued, "exp": issued + LIFE_S, "aud": "appstoreconnect-v1"}

        grant = signed_here(claims, config.private_key, "ES256", config.key_id)
        self._http = Authorized(context.http, context.now, grant)

    def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`."""
        return newest_first(self._list, Seen.of(cursor), self._now, first=cursor is None)

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`: Apple lists every review there is."""
        return Seen.since(moment).cursor()

    async def _list(self, after: str | None) -> Listed:
        params: dict[str, str | int] = {"limit": PAGE, "sort": "-createdDate", "include": "response"}
        answer = await self._http.get(next_link(self._url, after) or self._url, params=None if after else params)
        items, skipped = answer.read(parse)
        link = answer.read(lambda found: Fields(found).text("links.next"))
        return Listed(
            items=items,
            skipped=skipped,
            after=next_link(self._url, link),
            quota=_quota(answer.headers.get("x-rate-limit", ""), self._now()),
        )


def parse(answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """A list of customerReviews → (items, what could not be read). Raises Unreadable where it is none."""
    found = Fields(answer, "the answer")
    replies: dict[str, datetime] = {}
    for entry in found.items("included"):
        reply = Fields(entry, "included")
        at = reply.iso("attributes.lastModifiedDate")
        if reply.text("type") == "customerReviewResponses" and at:
            replies[reply.key("id")] = at
    return each(found.items("data"), lambda review: _items(review, replies), "data")


def _items(review: Fields, replies: Mapping[str, datetime]) -> Iterator[Item]:
    key = review.key("id")
    created = need(review.iso("attributes.createdDate"), "attributes.createdDate")
    stars = need(review.number("attributes.rating"), "attributes.rating")
    title, body = review.text("attributes.title") or "", review.text("attributes.body") or ""
    yield Item(
        external_id=key,
        created_at=created,
        version=micros(created),
        text=body if body.startswith(title) else f"{title}\n{body}".strip(),
        author=review.text("attributes.reviewerNickname"),
        rating=Rating(value=stars, low=1, high=5),
        conversation_id=key,
        turn="customer_message",
    )
    answered = replies.get(review.text("relationships.response.data.id") or "")
    if answered:
        yield Item(
            external_id=f"{key}/reply",
            created_at=answered,
            version=micros(answered),
            conversation_id=key,
            turn="agent_reply",
        )


def _quota(header: str, now: datetime) -> Quota | None:
    # user-hour-lim:3500;user-hour-rem:500; - of a rolling hour.
    found = re.search(r"user-hour-rem:(\d{1,9})", header)
    return Quota(remaining=int(found[1]), reset_at=now + timedelta(hours=1)) if found else None
