"""Microsoft Dynamics 365: cases or feedback records, by change tracking and by webhook."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from connectors import hook, oauth, signature
from connectors.connector import (
    Cursor,
    CursorExpired,
    Delivery,
    Item,
    Page,
    Permanent,
    Rating,
    Request,
    Retryable,
    Skipped,
)
from connectors.crm.ticket import Ticket, gone
from connectors.fields import Fields, Unreadable, each, need
from connectors.listing import next_link
from connectors.option import Secret, option
from connectors.pace import Rate
from connectors.recent import FIRST
from connectors.registry import Context, connector
from connectors.timestamp import micros

PAGE: Final = 200
LONGEST_LINK: Final = 3_500
COLUMNS: Final = {
    "incidents": "incidentid,title,description,createdon,modifiedon,statecode,caseorigincode,customersatisfactioncode,"
    "_customerid_value",
    "feedback": "feedbackid,title,comments,rating,minrating,maxrating,createdon,modifiedon,_createdbycontact_value",
}
KEYS: Final = {"incidents": "incidentid", "feedback": "feedbackid"}
_ENTITIES: Final = {"incidents": "incident", "feedback": "feedback"}
_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z", re.ASCII)
_SATISFACTION: Final = (1, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamics:
    """Settings."""

    base_url: str = option("address of the environment", example="https://acme.crm.dynamics.com")
    tenant: str = option("id of the Microsoft Entra tenant", example="00000000-0000-0000-0000-000000000000")
    client_id: str = option("application id of an app that is an application user of the environment",
                            example="11111111-1111-1111-1111-111111111111")  # fmt: skip
    client_secret: Secret = option("secret of that app", example="env:DYNAMICS_SECRET")
    table: str = option("what to read", default="incidents", choices=("incidents", "feedback"))
    hook_key: Secret | None = option(
        "key of the webhook registration (WebhookKey), which comes as ?code=", example="env:DYNAMICS_HOOK", default=None
    )
    login_url: str = option("address of Microsoft Entra", default="https://login.microsoftonline.com")


@connector(
    name="dynamics",
    title="Microsoft Dynamics 365 cases",
    kind="crm",
    channel="crm",
    modes=("poll", "webhook"),
    cursor="The delta link of the last pass: Dataverse tells what was created, changed and deleted since.",
    limits=(
        "Change tracking must be on for the table; once on it cannot be switched off.",
        "A delta link expires (after seven days by default, it is said; the page could not be read). Then what is "
        "there is read again from the beginning; deletions of the time between are not seen.",
        "The first pass reads the whole table, because delta links take no filter; only what changed since the start "
        "goes in.",
        "Webhooks carry no signature: the key stands in the address, and the record is fetched again.",
        "A case counts as solved when it was last changed while resolved. Replies are not told.",
    ),
    source="https://learn.microsoft.com/power-apps/developer/data-platform/use-change-tracking-synchronize-data-external-systems",
    config=Dynamics,
    at_most=(Rate(6_000, 300, "/api/data/"),),
)
class DynamicsConnector:
    """See the declaration."""

    def __init__(self, config: Dynamics, context: Context) -> None:
        self._config = config
        self._now = context.now
        grant = oauth.client_credentials(
            f"{config.login_url}/{config.tenant}/oauth2/v2.0/token",
            config.client_id,
            config.client_secret,
            scope=f"{config.base_url}/.default",
        )
        self._http = oauth.Authorized(context.http, context.now, grant)
        self._set = f"{config.base_url}/api/data/v9.2/{'feedback' if config.table == 'feedback' else 'incidents'}"

    async def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`. In the first pass what did not change since the start is left out."""
        place = dict(cursor or self.since(self._now() - FIRST))
        asked: set[str] = set()
        while True:
            link, since = str(place.get("link") or ""), int(place.get("since") or 0)
            answer = await self._get(link)
            items, skipped = answer.read(self._parse)
            following, delta = answer.read(_links)
            fresh = tuple(item for item in items if item.version >= since)
            if delta is not None:
                yield Page(items=fresh, skipped=skipped, cursor={"link": self._short(delta)})
                return
            if following is None:
                # Without change tracking there is nothing to go on from.
                raise Permanent("Dataverse gave no delta link: switch on change tracking for the table")
            place = {"link": self._short(following), "since": since}
            if place["link"] in asked:
                raise Retryable(f"{answer.where} names a next page that was read")
            asked.add(place["link"])
            saved = place if len(place["link"]) <= LONGEST_LINK else dict(cursor or self.since(self._now() - FIRST))
            yield Page(items=fresh, skipped=skipped, cursor=saved)

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`."""
        return {"link": "", "since": max(0, micros(moment))}

    async def _get(self, link: str) -> Any:
        prefer = f"odata.maxpagesize={PAGE}" + ("" if link else ",odata.track-changes")
        headers = {"Prefer": prefer, "OData-Version": "4.0", "Accept": "application/json"}
        if not link:
            return await self._http.get(self._set, params={"$select": COLUMNS[self._config.table]}, headers=headers)
        whole = next_link(self._config.base_url, link) or ""
        answer = await self._http.get(whole, headers=headers, expect=(400, 410))
        if answer.status == 410 or (answer.status == 400 and b"expired" in answer.body.lower()):
            raise CursorExpired(f"{answer.where}: the delta link has expired")
        if answer.status == 400:
            raise CursorExpired(f"{answer.where} does not take the delta link any more")
        return answer

    def _short(self, link: str) -> str:
        """A link without the address, which is in the settings. Raises Permanent where it leads elsewhere."""
        whole = next_link(self._config.base_url, link) or ""
        return whole.removeprefix(self._config.base_url)

    def _parse(self, answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
        return parse(answer, self._now())

    async def receive(self, request: Request) -> Delivery:
        """See `Receiver.receive`. What the body tells is the record's id; the record itself is fetched."""
        hook.posted(request)
        key = hook.needed(self._config.hook_key, "hook_key")
        if not signature.same(request.query.get("code"), key):
            raise hook.stranger("the key in the address (?code=) is missing or wrong")
        entity, record, message = hook.understood(_told, hook.body(request))
        if entity != _ENTITIES[self._config.table]:
            return Delivery()
        at = request.received_at
        if message == "Delete":
            return Delivery(items=tuple(gone(record, at)))
        answer = await self._http.get(
            f"{self._set}({record})", params={"$select": COLUMNS[self._config.table]}, expect=(404,)
        )
        if answer.status == 404:
            # Deleted since, which is told by a call of its own, or not to be seen yet.
            raise Retryable(f"{answer.where} does not know the record that the webhook names")
        items, skipped = self._parse({"value": [answer.table()]})
        return Delivery(items=items, skipped=skipped)


def _told(answer: Any) -> tuple[str, str, str]:
    """Entity, record and message of an execution context."""
    told = Fields(answer, "the body")
    record = told.key("PrimaryEntityId")
    if not _GUID.match(record):
        raise Unreadable("PrimaryEntityId is no GUID")
    return told.text("PrimaryEntityName") or "", record.lower(), told.text("MessageName") or ""


def _links(answer: Any) -> tuple[str | None, str | None]:
    """Where the next page is, and where the next changes will be."""
    if not isinstance(answer, dict):
        raise Unreadable("it is no object")
    found = [answer.get(name) for name in ("@odata.nextLink", "@odata.deltaLink")]
    if any(link is not None and not isinstance(link, str) for link in found):
        raise Unreadable("a link in it is no text")
    return found[0], found[1]


def parse(answer: Any, now: datetime) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """An answer that lists records → (items, what could not be read). Raises Unreadable where it does not.

    `now`: when deletions were told; Dataverse does not date them.
    """
    listed = Fields(answer, "the answer").get("value")
    if not isinstance(listed, list):
        raise Unreadable("there is no value in it")
    return each(listed, lambda record: _items(record, now), "value")


def _items(record: Fields, now: datetime) -> Iterator[Item]:
    if record.text("reason") == "deleted":
        yield from gone(record.key("id").lower(), now)
    elif record.get("feedbackid") is not None:
        yield _feedback(record)
    else:
        yield from _case(record)


def _case(record: Fields) -> Iterator[Item]:
    modified = need(record.iso("modifiedon"), "modifiedon")
    title, said = record.text("title") or "", record.text("description") or ""
    score, (low, high) = record.number("customersatisfactioncode"), _SATISFACTION
    rated = score is not None and low <= score <= high
    yield from Ticket(
        key=record.key("incidentid").lower(),
        created_at=need(record.iso("createdon"), "createdon"),
        version=modified,
        text=said if said.startswith(title) else f"{title}\n{said}".strip(),
        customer_id=record.text("_customerid_value"),
        solved_at=modified if record.number("statecode") == 1 else None,
        rating=Rating(value=score, low=low, high=high, survey="csat") if score is not None and rated else None,
    ).items()


def _feedback(record: Fields) -> Item:
    created = need(record.iso("createdon"), "createdon")
    value, low, high = record.number("rating"), record.number("minrating"), record.number("maxrating")
    title, said = record.text("title") or "", record.text("comments") or ""
    rating = None
    if value is not None and low is not None and high is not None and low <= value <= high and low < high:
        rating = Rating(value=value, low=low, high=high)
    return Item(
        external_id=record.key("feedbackid").lower(),
        created_at=created,
        version=micros(max(created, record.iso("modifiedon") or created)),
        text=said if said.startswith(title) else f"{title}\n{said}".strip(),
        customer_id=record.text("_createdbycontact_value"),
        rating=rating,
    )
