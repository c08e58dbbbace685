"""Typeform: the responses to one form, by polling and by webhook."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from connectors import hook, signature
from connectors.connector import Cursor, Delivery, Item, Page, Refused, Request, Skipped
from connectors.fields import Fields, Unreadable, each, need
from connectors.option import Secret, option
from connectors.pace import Rate
from connectors.recent import Changed, Recent, changes, sift
from connectors.registry import Context, connector
from connectors.surveys.score import HELP, Answered, Scale, read_scales
from connectors.timestamp import micros

PAGE: Final = 200
LAG: Final = timedelta(minutes=40)


@dataclass(frozen=True, slots=True, kw_only=True)
class Typeform:
    """Settings."""

    form: str = option("id of the form, the last part of its address", example="lT4Z3j")
    token: Secret = option("personal access token that may read responses", example="env:TYPEFORM_TOKEN")
    hook_secret: Secret | None = option("secret of the webhook", example="env:TYPEFORM_HOOK", default=None)
    scores: Mapping[str, str] | None = option(
        f"{HELP}. A question is named by its reference or id; those of type nps need no entry",
        example={"satisfaction": "csat"},
        default=None,
    )
    customer_field: str | None = option("hidden field that holds the customer's id", example="user_id", default=None)
    base_url: str = option(
        "address of the API: https://api.eu.typeform.com in the EU", default="https://api.typeform.com"
    )


@connector(
    name="typeform",
    title="Typeform responses",
    kind="surveys",
    channel="survey",
    modes=("poll", "webhook"),
    cursor="Time of the newest response read and those of the 40 minutes before it, which are asked for again: "
    "Typeform is said to list responses up to half an hour late.",
    limits=(
        "Only completed responses. What is deleted at Typeform is not told.",
        "The webhook is the fast way: a poll can be half an hour behind (so other people's pages say).",
        "Typeform repeats a call that was not taken every two to three minutes for ten hours, and switches the webhook "
        "off when it is answered 404 or 410: polling beside it closes what is missed.",
        "Two requests a second for the whole account.",
        "Choices, dates, files and payments are not feedback; texts and scores are.",
    ),
    source="https://www.typeform.com/developers/responses/",
    config=Typeform,
    at_most=(Rate(2, 1),),
    every_s=120.0,
    repeats_s=36_000.0,
)
class TypeformConnector:
    """See the declaration."""

    def __init__(self, config: Typeform, context: Context) -> None:
        self._config = config
        self._http = context.http
        self._now = context.now
        self._scales = read_scales(config.scores)

    def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`. Responses are listed newest first."""
        return changes(self._list, Recent.of(cursor, self._now()), self._now, LAG, ordered=False)

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`."""
        return Recent.since(moment).cursor()

    async def _list(self, start: datetime, recent: Recent, after: str | None) -> Changed:
        params: dict[str, str | int] = {"page_size": PAGE, "since": int(start.timestamp())}
        answer = await self._http.get(
            f"{self._config.base_url}/forms/{quote(self._config.form, safe='')}/responses",
            params=params | ({"before": after} if after else {}),
            headers={"Authorization": f"Bearer {self._config.token.reveal()}"},
        )
        listed = answer.read(_listed)
        found, fresh = sift(recent, listed, _change)
        items, skipped = self._parse({"items": fresh})
        return Changed(
            changes=found, items=items, skipped=skipped, after=_last(listed) if len(listed) >= PAGE else None
        )

    def _parse(self, answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
        return parse(answer, scales=self._scales, customer_field=self._config.customer_field)

    async def receive(self, request: Request) -> Delivery:
        """See `Receiver.receive`."""
        hook.posted(request)
        secret = hook.needed(self._config.hook_secret, "hook_secret")
        mac = signature.digest(secret, request.body, form="base64")
        signature.check(request, "typeform-signature", f"sha256={mac}")
        told = hook.table(request)
        kind, delivery = hook.understood(lambda body: (body.text("event_type"), body.text("event_id")), told)
        if kind != "form_response":
            return Delivery(delivery_id=delivery)
        form = hook.understood(lambda body: body.key("form_response.form_id"), told)
        if form != self._config.form:
            raise Refused(400, "form", "the response is to another form than the one in the settings")
        items, skipped = hook.understood(lambda body: self._parse({"items": [body.get("form_response")]}), told)
        return Delivery(items=items, skipped=skipped, delivery_id=delivery)


def _change(response: Fields) -> tuple[str, int]:
    return response.key("token"), micros(need(response.iso("submitted_at"), "submitted_at"))


def _listed(answer: Any) -> list[Any]:
    listed = Fields(answer, "the answer").get("items")
    if not isinstance(listed, list):
        raise Unreadable("there are no items in it")
    return listed


def _last(listed: list[Any]) -> str | None:
    """The token of the last response that has one."""
    tokens = [one.get("token") for one in listed if isinstance(one, dict)]
    return next((token for token in reversed(tokens) if isinstance(token, str) and token), None)


def parse(
    answer: Any,
    *,
    scales: Mapping[str, Scale] | None = None,
    scores: Mapping[str, str] | None = None,
    customer_field: str | None = None,
) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """An answer that lists responses → (items, what could not be read). Raises Unreadable where it does not."""
    known = scales if scales is not None else read_scales(scores)
    return each(_listed(answer), lambda response: _items(response, known, customer_field), "items")


def _items(response: Fields, scales: Mapping[str, Scale], customer_field: str | None) -> Iterator[Item]:
    at = need(response.iso("submitted_at"), "submitted_at")
    found = Answered(key=response.key("token"), created_at=at, version=micros(at))
    hidden = response.inside("hidden")
    if hidden and customer_field and hidden.get(customer_field) is not None:
        found.customer_id = hidden.key(customer_field)
    for entry in response.items("answers"):
        answer = Fields(entry, "answer")
        kind, question = answer.text("type"), answer.inside("field")
        if question is None:
            continue
        if kind == "text":
            found.texts.append((answer.text("text") or "").strip())
        elif kind == "email":
            found.author = answer.text("email")
        elif kind == "number" and (value := answer.number("number")) is not None:
            key = question.key("id")
            scale = scales.get(question.text("ref") or key) or scales.get(key)
            if scale is None and question.text("type") == "nps":
                scale = Scale.read("nps")
            if scale and (rating := scale.rating(value)):
                found.scores.append((key, rating))
    yield from found.items()
