"""SurveyMonkey: the responses to one survey, by polling and by webhook."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from connectors import hook, signature
from connectors.connector import Cursor, Delivery, Item, Page, Request, Retryable, Skipped
from connectors.fields import Fields, Unreadable, each, need
from connectors.option import Secret, option
from connectors.pace import Rate
from connectors.recent import Changed, Recent, changes, sift
from connectors.registry import Context, connector
from connectors.surveys.score import HELP, Answered, Scale, read_scales
from connectors.timestamp import micros
from connectors.transport import Limits, quota

PAGE: Final = 100
LAG: Final = timedelta(minutes=5)
LIMITS: Final = Limits(remaining="x-ratelimit-app-global-day-remaining", reset="x-ratelimit-app-global-day-reset")
_TOLD: Final = frozenset({"response_completed", "response_updated"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyMonkey:
    """Settings."""

    survey: str = option("id of the survey", example="123456789")
    token: Secret = option("access token of a SurveyMonkey app", example="env:SURVEYMONKEY_TOKEN")
    client_id: str | None = option(
        "client id of the app; with its secret, for the webhook", example="abcDEF", default=None
    )
    client_secret: Secret | None = option(
        "client secret of the app, with which its webhooks are signed", example="env:SURVEYMONKEY_SECRET", default=None
    )
    scores: Mapping[str, str] | None = option(
        f"{HELP}. A question is named by its id", example={"84829501": "nps"}, default=None
    )
    base_url: str = option("address of the API: https://api.eu.surveymonkey.com in the EU",
                           default="https://api.surveymonkey.com")  # fmt: skip


@connector(
    name="surveymonkey",
    title="SurveyMonkey responses",
    kind="surveys",
    channel="survey",
    modes=("poll", "webhook"),
    cursor="Time of the newest change read and the changes of the five minutes before it, which are asked for again.",
    limits=(
        "Draft and private apps have 500 requests a day, so the poll's pace is five minutes.",
        "Deletions come by webhook only (response_deleted).",
        "The webhook names the response, which is then fetched. Subscribe it to response_completed, response_updated "
        "and response_deleted.",
        "A score is the text of the chosen answer where that is a number, else the weight of the choice. That "
        "SurveyMonkey gives texts with simple=true was read in other people's code only.",
    ),
    source="https://api.surveymonkey.com/v3/docs",
    config=SurveyMonkey,
    at_most=(Rate(120, 60),),
    every_s=300.0,
)
class SurveyMonkeyConnector:
    """See the declaration."""

    def __init__(self, config: SurveyMonkey, context: Context) -> None:
        self._config = config
        self._http = context.http
        self._now = context.now
        self._scales = read_scales(config.scores)
        self._responses = f"{config.base_url}/v3/surveys/{quote(config.survey, safe='')}/responses"

    def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`."""
        return changes(self._list, Recent.of(cursor, self._now()), self._now, LAG, ordered=True)

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`."""
        return Recent.since(moment).cursor()

    async def _list(self, start: datetime, recent: Recent, after: str | None) -> Changed:
        # Each page begins at the last change of the one before: by number, a response that changes meanwhile and
        # moves to the end would make the listing skip another.
        second, _, page = (after or f"{int(start.timestamp())}:1").partition(":")
        begin, number = datetime.fromtimestamp(int(second), UTC), int(page)
        # Whether the service takes the moment itself is not documented: the second before it is asked for too.
        params = {
            "start_modified_at": (begin - timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S"),
            "sort_by": "date_modified", "sort_order": "ASC", "status": "completed", "simple": "true",
            "per_page": PAGE, "page": number,
        }  # fmt: skip
        answer = await self._http.get(f"{self._responses}/bulk", params=params, headers=self._headers, limits=LIMITS)
        listed, more = answer.read(_listed)
        found, fresh = sift(recent, listed, _change)
        items, skipped = self._parse({"data": fresh})
        last = max((version // 1_000_000 for _, version in found), default=0)
        following = f"{last}:1" if last > int(second) else f"{second}:{number + 1}"
        return Changed(
            changes=found,
            items=items,
            skipped=skipped,
            after=following if more else None,
            quota=quota(answer.headers, LIMITS, self._now()),
        )

    def _parse(self, answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
        return parse(answer, scales=self._scales)

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._config.token.reveal()}"}

    async def receive(self, request: Request) -> Delivery:
        """See `Receiver.receive`. At registration SurveyMonkey sends a HEAD request."""
        secret = hook.needed(self._config.client_secret, "client_secret")
        if request.method == "HEAD":
            return Delivery()
        hook.posted(request, "HEAD")
        mac = signature.digest(f"{self._config.client_id}&{secret}", request.body, "sha1", "base64")
        signature.check(request, "sm-signature", mac)
        kind, key, delivery = hook.understood(_told, hook.body(request))
        if kind == "response_deleted":
            return Delivery(items=tuple(self._gone(key, request.received_at)), delivery_id=delivery)
        if kind not in _TOLD:
            return Delivery(delivery_id=delivery)
        answer = await self._http.get(
            f"{self._responses}/{key}/details", params={"simple": "true"}, headers=self._headers, expect=(404,)
        )
        if answer.status == 404:
            # Deleted since, which is told by a call of its own, or not to be seen yet: a deletion that was guessed
            # would hide the response for good.
            raise Retryable(f"{answer.where} does not know the response that the webhook names")
        items, skipped = self._parse({"data": [answer.table()]})
        return Delivery(items=items, skipped=skipped, delivery_id=delivery)

    def _gone(self, key: str, at: datetime) -> Iterator[Item]:
        """Every item that the response can have become."""
        for name in (key, *(f"{key}:{question}" for question in self._scales)):
            yield Item(external_id=name, created_at=at, version=micros(at), deleted=True)


def _told(answer: Any) -> tuple[str, str, str]:
    """Kind, response and event of a callback."""
    told = Fields(answer, "the body")
    key = told.key("object_id")
    if not (key.isascii() and key.isdigit()):
        raise Unreadable("object_id has digits only")
    return told.text("event_type") or "", key, told.key("event_id")


def _change(response: Fields) -> tuple[str, int]:
    return response.key("id"), micros(need(response.iso("date_modified"), "date_modified"))


def _listed(answer: Any) -> tuple[list[Any], bool]:
    """The responses of an answer, and whether there are more."""
    found = Fields(answer, "the answer")
    listed = found.get("data")
    if not isinstance(listed, list):
        raise Unreadable("there is no data in it")
    return listed, found.text("links.next") is not None


def parse(
    answer: Any, *, scales: Mapping[str, Scale] | None = None, scores: Mapping[str, str] | None = None
) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """An answer that lists responses → (items, what could not be read). Raises Unreadable where it does not."""
    known = scales if scales is not None else read_scales(scores)
    return each(_listed(answer)[0], lambda response: _items(response, known), "data")


def _items(response: Fields, scales: Mapping[str, Scale]) -> Iterator[Item]:
    modified = need(response.iso("date_modified"), "date_modified")
    found = Answered(
        key=response.key("id"), created_at=response.iso("date_created") or modified, version=micros(modified)
    )
    found.author = response.text("email_address") or None
    found.customer_id = response.text("custom_value") or None
    for page in response.items("pages"):
        for entry in Fields(page, "page").items("questions"):
            question = Fields(entry, "question")
            key = question.key("id")
            for given in question.items("answers"):
                answer = Fields(given, "answer")
                scale = scales.get(key)
                if scale and (value := _number(answer)) is not None and (rating := scale.rating(value)):
                    found.scores.append((key, rating))
                elif scale is None and answer.get("choice_id") is None:
                    found.texts.append((answer.text("text") or "").strip())
    yield from found.items()


def _number(answer: Fields) -> float | None:
    for value in (answer.get("simple_text"), answer.get("choice_metadata.weight"), answer.get("text")):
        try:
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                return float(value)
        except (ValueError, OverflowError):
            continue
    return None
