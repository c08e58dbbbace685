"""Google Play: the reviews of one app, of the last seven days."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from connectors.connector import Cursor, Item, Page, Rating, Skipped
from connectors.fields import Fields, Unreadable, each, need
from connectors.google import TOKEN_URL, asked
from connectors.listing import Listed, Seen, newest_first
from connectors.oauth import Authorized, service_account
from connectors.option import Secret, option
from connectors.pace import Rate
from connectors.registry import Context, connector
from connectors.timestamp import micros

PAGE: Final = 100
REACH: Final = timedelta(days=7)
SCOPE: Final = "https://www.googleapis.com/auth/androidpublisher"


@dataclass(frozen=True, slots=True, kw_only=True)
class GooglePlay:
    """Settings."""

    package: str = option("name of the app's package", example="uz.example.app", pattern=r"[\w.]+")
    service_account_key: Secret = option(
        "JSON key of a service account that may reply to reviews", example="file:/run/secrets/play.json"
    )
    token_url: str = option("where access tokens are given", default=TOKEN_URL)
    base_url: str = option("address of the API", default="https://androidpublisher.googleapis.com")


@connector(
    name="google_play",
    title="Google Play reviews",
    kind="reviews",
    channel="review",
    modes=("poll",),
    cursor="The latest reviews read. After more than seven days without a poll, what lies between is a gap.",
    limits=(
        "Google lists reviews written or edited in the last seven days, with text only; ratings without text never.",
        "A review's time is that of its last change: Google does not tell when it was first written.",
        "Deleted reviews are not told. 200 requests an hour for each app.",
        "Google tells the language of the device, not of the text: the text's is detected here.",
    ),
    source="https://developers.google.com/android-publisher/reply-to-reviews",
    config=GooglePlay,
    at_most=(Rate(200, 3_600, "/reviews"),),
    every_s=120.0,
)
class GooglePlayConnector:
    """See the declaration."""

    def __init__(self, config: GooglePlay, context: Context) -> None:
        self._url = f"{config.base_url}/androidpublisher/v3/applications/{config.package}/reviews"
        self._now = context.now
        grant = service_account(config.token_url, config.service_account_key, SCOPE)
        self._http = Authorized(context.http, context.now, grant)

    def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`."""
        return newest_first(self._list, Seen.of(cursor), self._now, first=cursor is None, reach=REACH)

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`: at most seven days; what lies before is told as a gap."""
        return Seen.since(moment).cursor()

    async def _list(self, after: str | None) -> Listed:
        params: dict[str, str | int] = {"maxResults": PAGE}
        if after:
            params["token"] = after
        answer = await asked(self._http.get(self._url, params=params, expect=(403,)), self._now())
        items, skipped = answer.read(parse)
        token = answer.read(lambda found: Fields(found).text("tokenPagination.nextPageToken"))
        return Listed(items=items, skipped=skipped, after=token)


def parse(answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """A list of reviews → (items, what could not be read). Raises Unreadable where it is none."""
    return each(Fields(answer, "the answer").items("reviews"), _items, "reviews")


def _items(review: Fields) -> Iterator[Item]:
    key = review.key("reviewId")
    comments = [Fields(comment, "a comment") for comment in review.items("comments")]
    user = next((found for comment in comments if (found := comment.inside("userComment"))), None)
    if user is None:
        raise Unreadable("comments has no userComment")
    said = _at(user)
    stars = user.number("starRating")
    # Reviews written before 2015 may have a title: it stands before a tab.
    text = (user.text("originalText") or user.text("text") or "").replace("\t", "\n").strip()
    yield Item(
        external_id=key,
        created_at=said,
        version=micros(said),
        text=text,
        author=review.text("authorName") or None,
        rating=Rating(value=stars, low=1, high=5) if stars is not None else None,
        conversation_id=key,
        turn="customer_message",
    )
    for comment in comments:
        if developer := comment.inside("developerComment"):
            answered = _at(developer)
            yield Item(
                external_id=f"{key}/reply",
                created_at=answered,
                version=micros(answered),
                conversation_id=key,
                turn="agent_reply",
            )


def _at(comment: Fields) -> datetime:
    seconds = need(comment.epoch("lastModified.seconds"), "lastModified.seconds").astimezone(UTC)
    nanos = comment.number("lastModified.nanos") or 0
    if not 0 <= nanos < 1e9:
        raise Unreadable("lastModified.nanos is not from 0 to 999999999")
    return seconds.replace(microsecond=0) + timedelta(microseconds=nanos // 1_000)
