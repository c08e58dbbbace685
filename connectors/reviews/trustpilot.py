"""Trustpilot: the reviews of one business unit, by polling and by webhook."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from connectors import signature
from connectors.connector import Cursor, Delivery, Item, Page, Rating, Refused, Request, Skipped
from connectors.fields import Fields, each, need
from connectors.listing import Listed, Seen, newest_first
from connectors.option import Secret, option
from connectors.pace import Rate
from connectors.registry import Context, connector
from connectors.timestamp import micros

PAGE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Trustpilot:
    """Settings."""

    business_unit: str = option("id of the business unit", example="46d6a890000064000500e0c3", pattern=r"[0-9a-zA-Z]+")
    api_key: Secret = option("API key of a Trustpilot application", example="env:TRUSTPILOT_KEY")
    hook_secret: Secret | None = option(
        "part of the webhook's address that nobody can guess: …?secret=VALUE",
        example="env:TRUSTPILOT_HOOK",
        default=None,
    )
    base_url: str = option("address of the API", default="https://api.trustpilot.com")


@connector(
    name="trustpilot",
    title="Trustpilot reviews",
    kind="reviews",
    channel="review",
    modes=("poll", "webhook"),
    cursor="The latest reviews read. Listings are newest first, so a broken pass starts over; a backfill goes on.",
    limits=(
        "A poll sees new reviews, and edits of those among the newest; other edits and deletions come by webhook only.",
        "Trustpilot does not sign its webhooks: the secret stands in the address, and each review is fetched again.",
        "A review that is deleted while a listing of many pages is read can hide its neighbour from that pass.",
    ),
    source="https://developers.trustpilot.com",
    config=Trustpilot,
    at_most=(Rate(833, 300),),
    every_s=120.0,
)
class TrustpilotConnector:
    """See the declaration."""

    def __init__(self, config: Trustpilot, context: Context) -> None:
        self._config = config
        self._http = context.http
        self._now = context.now
        self._unit = f"{config.base_url}/v1/business-units/{config.business_unit}/reviews"

    def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`."""
        return newest_first(self._list, Seen.of(cursor), self._now, first=cursor is None)

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`: Trustpilot lists every review there is."""
        return Seen.since(moment).cursor()

    async def _list(self, after: str | None) -> Listed:
        number = int(after or 1)
        answer = await self._http.get(
            self._unit,
            params={"page": number, "perPage": PAGE, "orderBy": "createdat.desc"},
            headers={"apikey": self._config.api_key.reveal()},
        )
        items, skipped = answer.read(parse)
        full = len(answer.table().get("reviews") or ()) >= PAGE
        return Listed(items=items, skipped=skipped, after=str(number + 1) if full else None)

    async def receive(self, request: Request) -> Delivery:
        """See `Receiver.receive`. What the body claims is not believed: the review is fetched by its id."""
        secret = self._config.hook_secret
        if secret is None:
            raise Refused(404, "not_configured", "no hook_secret is set for this connector")
        if not signature.same(request.query.get("secret"), secret.reveal()):
            raise Refused(401, "signature", "the secret in the address is missing or wrong")
        try:
            events = Fields(json.loads(request.body)).items("events")
        except (ValueError, RecursionError):
            raise Refused(400, "body", "the body is no JSON object with events") from None
        items: list[Item] = []
        skipped: list[Skipped] = []
        for event in events:
            try:
                told = Fields(event)
                kind, review = told.text("eventName") or "", told.key("eventData.id")
            except ValueError as error:
                raise Refused(400, "body", f"an event cannot be read: {error}") from None
            if not (review.isascii() and review.isalnum()):
                raise Refused(400, "body", "a review's id has letters and digits only")
            if kind.endswith("-deleted"):
                # No other source tells when: the moment of the notice is later than any version of the review.
                at = request.received_at
                items.append(Item(external_id=review, created_at=at, version=micros(at), deleted=True))
                continue
            answer = await self._http.get(
                f"{self._config.base_url}/v1/reviews/{review}",
                headers={"apikey": self._config.api_key.reveal()},
                expect=(404,),
            )
            if answer.status == 404:  # Gone since: a notice of its deletion follows.
                continue
            got, bad = parse({"reviews": [answer.table()]})
            items.extend(got)
            skipped.extend(bad)
        return Delivery(items=tuple(items), skipped=tuple(skipped))


def parse(answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """An answer that lists reviews → (items, what could not be read). Raises Unreadable where it does not."""
    return each(Fields(answer, "the answer").items("reviews"), _items, "reviews")


def _items(review: Fields) -> Iterator[Item]:
    key = review.key("id")
    created = need(review.iso("createdAt"), "createdAt")
    stars = need(review.number("stars"), "stars")
    title, text = review.text("title") or "", review.text("text") or ""
    yield Item(
        external_id=key,
        created_at=created,
        version=micros(max(created, review.iso("updatedAt") or created)),
        text=text if text.startswith(title) else f"{title}\n{text}".strip(),
        author=review.text("consumer.displayName"),
        rating=Rating(value=stars, low=1, high=5),
        language=review.language("language"),
        url=f"https://www.trustpilot.com/reviews/{key}",
        conversation_id=key,
        turn="customer_message",
    )
    if answered := review.iso("companyReply.createdAt"):
        yield Item(
            external_id=f"{key}/reply",
            created_at=answered,
            version=micros(max(answered, review.iso("companyReply.updatedAt") or answered)),
            conversation_id=key,
            turn="agent_reply",
        )
