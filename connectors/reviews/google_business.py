"""Google Business Profile: the reviews of one verified location."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from connectors.connector import Cursor, Item, Page, Rating, Skipped
from connectors.fields import Fields, Unreadable, each, need
from connectors.google import TOKEN_URL, asked
from connectors.listing import Listed, Seen, newest_first
from connectors.oauth import Authorized, refresh_token
from connectors.option import Secret, option
from connectors.pace import Rate
from connectors.registry import Context, connector
from connectors.timestamp import micros

PAGE: Final = 50
STARS: Final = {"ONE": 1, "TWO": 2, "THREE": 3, "FOUR": 4, "FIVE": 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleBusiness:
    """Settings."""

    location: str = option(
        "name of the location", example="accounts/1234/locations/5678", pattern=r"accounts/[\w-]+/locations/[\w-]+"
    )
    client_id: str = option("id of an OAuth client", example="1234.apps.googleusercontent.com")
    client_secret: Secret = option("secret of that client", example="env:GOOGLE_CLIENT_SECRET")
    refresh_token: Secret = option(
        "refresh token of an owner or manager, for the scope business.manage", example="env:GOOGLE_REFRESH_TOKEN"
    )
    token_url: str = option("where access tokens are given", default=TOKEN_URL)
    base_url: str = option("address of the API", default="https://mybusiness.googleapis.com")


@connector(
    name="google_business",
    title="Google Business Profile reviews",
    kind="reviews",
    channel="review",
    modes=("poll",),
    cursor="The latest reviews read. Listings are in order of their last change, newest first.",
    limits=(
        "Only verified locations; Google grants access to this API on application, with a quota of 0 before that.",
        "Deleted reviews are not told: they vanish from the listing.",
        "One connector a location. Google's Pub/Sub notifications are not used.",
    ),
    source="https://developers.google.com/my-business/reference/rest/v4/accounts.locations.reviews/list",
    config=GoogleBusiness,
    at_most=(Rate(300, 60, "/reviews"),),
    every_s=300.0,
)
class GoogleBusinessConnector:
    """See the declaration."""

    def __init__(self, config: GoogleBusiness, context: Context) -> None:
        self._url = f"{config.base_url}/v4/{config.location}/reviews"
        self._now = context.now
        grant = refresh_token(config.token_url, config.client_id, config.client_secret, config.refresh_token)
        self._http = Authorized(context.http, context.now, grant)

    def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`."""
        return newest_first(self._list, Seen.of(cursor), self._now, first=cursor is None)

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`: Google lists every review there is."""
        return Seen.since(moment).cursor()

    async def _list(self, after: str | None) -> Listed:
        params: dict[str, str | int] = {"pageSize": PAGE, "orderBy": "updateTime desc"}
        if after:
            params["pageToken"] = after
        answer = await asked(self._http.get(self._url, params=params, expect=(403,)), self._now())
        items, skipped = answer.read(parse)
        token = answer.read(lambda found: Fields(found).text("nextPageToken"))
        return Listed(items=items, skipped=skipped, after=token)


def parse(answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """A list of reviews → (items, what could not be read). Raises Unreadable where it is none."""
    return each(Fields(answer, "the answer").items("reviews"), _items, "reviews")


def original(comment: str) -> str:
    """What the customer wrote, without the translation that Google puts before or after it."""
    before, marked, after = comment.partition("(Original)")
    if marked and "(Translated by Google)" in before:
        return after.strip()
    return comment.partition("(Translated by Google)")[0].strip() or comment.strip()


def _items(review: Fields) -> Iterator[Item]:
    key = review.key("reviewId")
    created = need(review.iso("createTime"), "createTime")
    stars = review.text("starRating") or "STAR_RATING_UNSPECIFIED"
    if stars not in STARS and stars != "STAR_RATING_UNSPECIFIED":
        raise Unreadable(f"starRating is {stars[:40]!r}, expected ONE to FIVE")
    anonymous = review.flag("reviewer.isAnonymous")
    yield Item(
        external_id=key,
        created_at=created,
        version=micros(max(created, review.iso("updateTime") or created)),
        text=original(review.text("comment") or ""),
        author=None if anonymous else review.text("reviewer.displayName"),
        rating=Rating(value=STARS[stars], low=1, high=5) if stars in STARS else None,
        conversation_id=key,
        turn="customer_message",
    )
    answered = review.iso("reviewReply.updateTime")
    if answered and review.text("reviewReply.reviewReplyState") != "REJECTED":  # Nobody sees a refused one.
        yield Item(
            external_id=f"{key}/reply",
            created_at=answered,
            version=micros(answered),
            conversation_id=key,
            turn="agent_reply",
        )
