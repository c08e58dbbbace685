"""HubSpot: tickets and survey answers, by search and by webhook."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from connectors import hook, signature
from connectors.connector import Cursor, Delivery, Item, Page, Request, Skipped
from connectors.crm.ticket import Ticket, gone
from connectors.feedback import Fault
from connectors.fields import Fields, Unreadable, each, need
from connectors.option import Misconfigured, Secret, option
from connectors.pace import Rate
from connectors.recent import Changed, Recent, changes, sift
from connectors.registry import Context, connector
from connectors.surveys.score import Scale
from connectors.timestamp import micros

PAGE: Final = 200
BATCH: Final = 100
DEEPEST: Final = 10_000
LAG: Final = timedelta(minutes=5)
TICKETS: Final = (
    "subject", "content", "createdate", "hs_lastmodifieddate", "closed_date", "first_agent_reply_date", "source_type",
)  # fmt: skip
ANSWERS: Final = (
    "hs_survey_type", "hs_value", "hs_content", "hs_submission_timestamp", "hs_lastmodifieddate", "hs_survey_channel",
)  # fmt: skip
_TYPES: Final = {"tickets": "0-5", "feedback_submissions": "0-19"}
# HubSpot signs the address with these characters as themselves, however they came.
_DECODED: Final = re.compile(r"%(3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSpot:
    """Settings."""

    access_token: Secret = option("access token of a private app that may read them", example="env:HUBSPOT_TOKEN")
    object: str = option("what to read", default="tickets", choices=("tickets", "feedback_submissions"))
    client_secret: Secret | None = option(
        "client secret of the app, with which its webhooks are signed", example="env:HUBSPOT_SECRET", default=None
    )
    csat: str = option("scale of the portal's CSAT surveys", default="csat:0-2")
    base_url: str = option("address of the API", default="https://api.hubapi.com")


@connector(
    name="hubspot",
    title="HubSpot tickets and survey answers",
    kind="crm",
    channel="crm",
    modes=("poll", "webhook"),
    cursor="Time of the newest change read and the changes of the five minutes before it, which are asked for again: "
    "HubSpot's search shows changes some moments late.",
    limits=(
        "Deletions and contact.privacyDeletion come by webhook only; the latter deletes the tickets that HubSpot still "
        "shows beside the contact.",
        "Of a conversation a ticket has the first reply's time and the closing; when it was reopened is not told.",
        "The names first_agent_reply_date and closed_date, and that closed_date is emptied on reopening, could not be "
        "confirmed in HubSpot's documentation.",
        "Webhooks need the address as HubSpot calls it: behind a proxy set the public address.",
    ),
    source="https://developers.hubspot.com/docs/api-reference/crm-tickets-v3/guide",
    config=HubSpot,
    at_most=(Rate(4, 1, "/search"),),
    repeats_s=86_400.0,
)
class HubSpotConnector:
    """See the declaration."""

    def __init__(self, config: HubSpot, context: Context) -> None:
        self._config = config
        self._http = context.http
        self._now = context.now
        self._csat = _scale(config.csat)
        self._objects = f"{config.base_url}/crm/v3/objects/{config.object}"
        self._properties = list(TICKETS if config.object == "tickets" else ANSWERS)

    def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`."""
        return changes(self._changed, Recent.of(cursor, self._now()), self._now, LAG, ordered=True)

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`."""
        return Recent.since(moment).cursor()

    async def _changed(self, start: datetime, recent: Recent, after: str | None) -> Changed:
        # Each page begins at the last change of the one before: by offset, a ticket that changes meanwhile and
        # moves to the end would make the listing skip another. Also, a search ends at 10,000 results.
        begin, _, offset = (after or f"{micros(start) // 1_000}:").partition(":")
        wanted = {"propertyName": "hs_lastmodifieddate", "operator": "GTE", "value": begin}
        answer = await self._search([wanted], offset)
        listed, following = answer.read(_listed)
        found, fresh = sift(recent, listed, _change)
        items, skipped = self._parse({"results": fresh})
        if following:
            last = max((version // 1_000 for _, version in found), default=0)
            deep = int(following) + PAGE > DEEPEST
            following = f"{last}:" if last > int(begin) else None if deep else f"{begin}:{following}"
        return Changed(changes=found, items=items, skipped=skipped, after=following)

    async def _search(self, filters: Sequence[Any], after: str) -> Any:
        asked = {
            "filterGroups": [{"filters": list(filters)}],
            "sorts": [{"propertyName": "hs_lastmodifieddate", "direction": "ASCENDING"}],
            "properties": self._properties,
            "limit": PAGE,
        } | ({"after": after} if after else {})
        return await self._http.post(f"{self._objects}/search", body=asked, headers=self._headers)

    def _parse(self, answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
        return parse(answer, csat=self._csat)

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._config.access_token.reveal()}"}

    async def receive(self, request: Request) -> Delivery:
        """See `Receiver.receive`. What the events tell is which records changed; they are then fetched."""
        hook.posted(request)
        secret = hook.needed(self._config.client_secret, "client_secret")
        sent = request.headers.get("x-hubspot-request-timestamp", "")
        signed = signature.octets(f"{request.method}{address(request.url)}") + request.body + signature.octets(sent)
        signature.check(request, "x-hubspot-signature-v3", signature.digest(secret, signed, form="base64"))
        signature.check_age(request, f"{sent[:-3]}.{sent[-3:]}" if sent.isascii() and sent.isdigit() else "")
        changed, deleted, erased = hook.understood(lambda body: _told(body, self._config.object), hook.body(request))
        at = request.received_at
        items = [item for key in deleted for item in gone(key, at)]
        for contact in erased:
            items += [item for key in await self._of(contact) for item in gone(key, at)]
        skipped: list[Skipped] = []
        for first in range(0, len(changed), BATCH):
            asked = {"properties": self._properties, "inputs": [{"id": key} for key in changed[first : first + BATCH]]}
            answer = await self._http.post(f"{self._objects}/batch/read", body=asked, headers=self._headers)
            got, bad = answer.read(self._parse)
            items += got
            skipped += bad
        return Delivery(items=tuple(items), skipped=tuple(skipped))

    async def _of(self, contact: str) -> list[str]:
        """The records that belong to a contact."""
        found: list[str] = []
        after = ""
        while True:
            wanted = {"propertyName": "associations.contact", "operator": "EQ", "value": contact}
            keys, following = (await self._search([wanted], after)).read(_keys)
            found += keys
            if not following or following == after or int(following) + PAGE > DEEPEST:
                return found
            after = following


def _scale(text: str) -> Scale:
    try:
        return Scale.read(text)
    except ValueError as error:
        raise Misconfigured([Fault(field="csat", reason=str(error))]) from None


def address(url: str) -> str:
    """The address as HubSpot signs it (see its page "Validating requests")."""
    return _DECODED.sub(lambda found: chr(int(found[1], 16)), url)


def _told(events: Any, kind: str) -> tuple[list[str], list[str], list[str]]:
    """Ids of the records that changed, of those deleted, and of contacts to be forgotten."""
    if not isinstance(events, list):
        raise Unreadable("the body is no list of events")
    changed: dict[str, None] = {}
    deleted: dict[str, None] = {}
    erased: dict[str, None] = {}
    for entry in events:
        event = Fields(entry, "event")
        name, _, verb = (event.text("subscriptionType") or "").partition(".")
        key = event.key("objectId")
        if not (key.isascii() and key.isdigit()):
            raise Unreadable("an objectId has digits only")
        if name == "contact" and verb == "privacyDeletion":
            erased[key] = None
        elif (name == "ticket" and kind == "tickets") or event.text("objectTypeId") == _TYPES[kind]:
            (deleted if verb == "deletion" else changed)[key] = None
    return [key for key in changed if key not in deleted], list(deleted), list(erased)


def _change(record: Fields) -> tuple[str, int]:
    return record.key("id"), micros(_modified(record))


def _listed(answer: Any) -> tuple[list[Any], str | None]:
    """The records of an answer, and where the next page begins."""
    found = Fields(answer, "the answer")
    listed, after = found.get("results"), found.text("paging.next.after")
    if not isinstance(listed, list):
        raise Unreadable("there are no results in it")
    if after is not None and not (after.isascii() and after.isdigit() and len(after) < 12):
        raise Unreadable("paging.next.after is no number")
    return listed, after


def _keys(answer: Any) -> tuple[list[str], str | None]:
    listed, after = _listed(answer)
    return [Fields(record, "record").key("id") for record in listed], after


def _modified(record: Fields) -> datetime:
    found = record.iso("properties.hs_lastmodifieddate") or record.iso("updatedAt")
    return need(found, "hs_lastmodifieddate")


def parse(answer: Any, *, csat: Scale | None = None) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """An answer that lists records → (items, what could not be read). Raises Unreadable where it does not."""
    return each(_listed(answer)[0], lambda record: _items(record, csat or Scale.read("csat:0-2")), "results")


def _items(record: Fields, csat: Scale) -> Iterator[Item]:
    key, modified = record.key("id"), _modified(record)
    found = need(record.inside("properties"), "properties")
    if record.flag("archived"):
        yield from gone(key, modified)
    elif found.get("hs_survey_type") is not None or found.get("hs_submission_timestamp") is not None:
        yield from _answer(key, modified, found, csat)
    else:
        subject, content = found.text("subject") or "", found.text("content") or ""
        created = need(found.iso("createdate") or record.iso("createdAt"), "createdate")
        yield from Ticket(
            key=key,
            created_at=created,
            version=modified,
            text=content if content.startswith(subject) else f"{subject}\n{content}".strip(),
            touchpoint=found.text("source_type"),
            replied_at=_moment(found, "first_agent_reply_date"),
            solved_at=_moment(found, "closed_date"),
        ).items()


def _moment(found: Fields, name: str) -> datetime | None:
    """An empty property is an empty text."""
    return found.iso(name) if found.get(name) != "" else None


def _answer(key: str, modified: datetime, found: Fields, csat: Scale) -> Iterator[Item]:
    kind = (found.text("hs_survey_type") or "").lower()
    scale = csat if kind == "csat" else Scale.read(kind) if kind in ("nps", "ces") else None
    value = found.text("hs_value")
    try:
        rating = scale.rating(float(value)) if scale and value else None
    except (ValueError, OverflowError):
        raise Unreadable(f"hs_value is {str(value)[:20]!r}, expected a number") from None
    at = _moment(found, "hs_submission_timestamp") or modified
    text = found.text("hs_content") or ""
    if rating or text:
        yield Item(
            external_id=key,
            created_at=at,
            version=micros(max(modified, at)),
            text=text,
            rating=rating,
            touchpoint=found.text("hs_survey_channel"),
        )
