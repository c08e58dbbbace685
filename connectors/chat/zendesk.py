"""Zendesk Support: tickets with their comments, status and satisfaction, by incremental export and by webhook."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from connectors import hook, signature
from connectors.connector import Cursor, Delivery, Item, Page, Rating, Request, Retryable, Skipped, Turn, taken_back
from connectors.fields import Fields, Unreadable, each, need, skip
from connectors.listing import next_link
from connectors.option import Secret, option
from connectors.pace import Rate
from connectors.recent import FIRST, Recent
from connectors.registry import Context, connector
from connectors.timestamp import micros

PAGE: Final = 100
MAX_AUDIT_PAGES: Final = 50
# The export withholds the last minute and takes no start within it.
WITHHELD: Final = timedelta(seconds=70)
STRUCK: Final = "CommentRedactionEvent"
_DONE: Final = frozenset({"solved", "closed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Zendesk:
    """Settings."""

    subdomain: str = option("the part before .zendesk.com", example="acme")
    email: str = option("e-mail address of an agent who may read all tickets", example="ovoz@acme.example")
    api_token: Secret = option("API token", example="env:ZENDESK_TOKEN")
    signing_secret: Secret | None = option(
        "signing secret of the webhook", example="env:ZENDESK_SIGNING_SECRET", default=None
    )
    base_url: str | None = option("address of the API, if another than https://SUBDOMAIN.zendesk.com",
                                  example="https://acme.zendesk.com", default=None)  # fmt: skip


@connector(
    name="zendesk",
    title="Zendesk Support tickets",
    kind="chat",
    channel="chat",
    modes=("poll", "webhook"),
    cursor="Zendesk's own cursor of its export; nothing is lost or listed twice.",
    limits=(
        "The export withholds what changed within the last minute, and takes ten requests a minute.",
        "Each ticket that changed is one more request, for its audits; they have the exact times of events.",
        "A public comment of anybody but the requester counts as a reply, also of a customer in copy.",
        "Satisfaction is good or bad, as in Zendesk's classic survey; the newer scales of 1 to 5 are not read.",
        "When a ticket is deleted, everything said in it is taken back. Of a ticket that is restored only what is said "
        "from an hour after its deletion on counts.",
        "A webhook may be an event subscription or a trigger whose JSON body has ticket_id; the ticket is fetched.",
    ),
    source="https://developer.zendesk.com/api-reference/ticketing/ticket-management/incremental_exports/",
    config=Zendesk,
    at_most=(Rate(10, 60, "/incremental/"),),
)
class ZendeskConnector:
    """See the declaration."""

    def __init__(self, config: Zendesk, context: Context) -> None:
        self._config = config
        self._http = context.http
        self._now = context.now
        self._base = config.base_url or f"https://{config.subdomain}.zendesk.com"

    async def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`."""
        place = dict(cursor or self.since(self._now() - FIRST))
        recent = Recent.of(place, self._now())
        while True:
            asked: dict[str, str | int] = {"per_page": PAGE}
            asked |= {"cursor": place["after"]} if place["after"] else {"start_time": self._begin(int(place["start"]))}
            answer = await self._get("/api/v2/incremental/tickets/cursor.json", asked)
            tickets, after, ended = answer.read(_export)
            items: list[Item] = []
            skipped: list[Skipped] = []
            for ticket in tickets:
                got, bad = await self._ticket(ticket)
                key, changed = _changed(ticket)
                items.extend(item for item in got if item.version >= recent.unread(key))
                skipped.extend(bad)
                recent = recent.note([(key, changed)], self._now())
            if not ended and after == place["after"]:
                raise Retryable(f"{answer.where} gave the same cursor again")
            place = {"after": after or place["after"], **recent.cursor()}
            yield Page(items=tuple(items), skipped=tuple(skipped), cursor=place)
            if ended or not after:
                return

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`."""
        return {"after": "", **Recent.since(moment).cursor()}

    def _begin(self, start: int) -> int:
        """The export takes no start within the minute that it withholds."""
        return min(start // 1_000_000, int((self._now() - WITHHELD).timestamp()))

    async def _get(self, path: str, params: dict[str, str | int] | None = None, expect: tuple[int, ...] = ()) -> Any:
        auth = (f"{self._config.email}/token", self._config.api_token.reveal())
        url = path if path.startswith("http") else f"{self._base}{path}"
        return await self._http.get(url, params=params, auth=auth, expect=expect)

    async def _ticket(self, ticket: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
        """The ticket's events: its audits are fetched, and read beside it."""
        try:
            found = Fields(ticket, "ticket")
            key, gone = _id(found.key("id")), found.text("status") == "deleted"
        except Unreadable as error:
            return (), (skip(str(error), "tickets", ticket),)
        audits: list[Any] = []
        link: str | None = None if gone else f"{self._base}/api/v2/tickets/{key}/audits.json?page[size]=100"
        for _ in range(MAX_AUDIT_PAGES):
            if link is None:
                break
            answer = await self._get(link, expect=(404,))
            if answer.status == 404:
                break
            listed, link = answer.read(_audits)
            audits.extend(listed)
            link = next_link(self._base, link)
        return parse({"ticket": ticket, "audits": audits})

    async def receive(self, request: Request) -> Delivery:
        """See `Receiver.receive`. What the body tells is the ticket's number; the ticket itself is fetched."""
        hook.posted(request)
        secret = hook.needed(self._config.signing_secret, "signing_secret")
        sent = request.headers.get("x-zendesk-webhook-signature-timestamp", "")
        mac = signature.digest(secret, signature.octets(sent) + request.body, form="base64")
        signature.check(request, "x-zendesk-webhook-signature", mac)
        signature.check_iso_age(request, sent)
        told = hook.table(request)
        key, delivery = hook.understood(_told, told)
        if key is None:
            return Delivery(delivery_id=delivery)
        if hook.understood(_deletes, told):
            at = hook.understood(lambda body: body.iso("time"), told) or request.received_at
            return Delivery(items=(taken_back(key, at, micros(at)),), delivery_id=delivery)
        answer = await self._get(f"/api/v2/tickets/{key}.json", expect=(404,))
        if answer.status == 404:
            # Deleted since, which is told by another event, or not to be seen yet.
            raise Retryable(f"{answer.where} does not know the ticket that the webhook names")
        items, skipped = await self._ticket(answer.table().get("ticket"))
        return Delivery(items=items, skipped=skipped, delivery_id=delivery)


def _told(told: Fields) -> tuple[str | None, str | None]:
    """The ticket's number, if it is about one, and the id of the event."""
    kind = told.text("type") or ""
    if kind.startswith("zen:event-type:") and not kind.startswith("zen:event-type:ticket."):
        return None, told.text("id")
    path = "detail.id" if kind else "ticket_id"
    return _id(told.key(path)), told.text("id") if kind else None


def _deletes(told: Fields) -> bool:
    verb = (told.text("type") or "").removeprefix("zen:event-type:ticket.")
    return verb in ("deleted", "soft_deleted", "permanently_deleted")


def _id(key: str) -> str:
    if not (key.isascii() and key.isdigit()):
        raise Unreadable("a ticket's id has digits only")
    return key


def _export(answer: Any) -> tuple[list[Any], str | None, bool]:
    found = Fields(answer, "the answer")
    if not isinstance(found.get("tickets"), list):
        raise Unreadable("there are no tickets in it")
    return found.items("tickets"), found.text("after_cursor"), found.flag("end_of_stream")


def _audits(answer: Any) -> tuple[list[Any], str | None]:
    found = Fields(answer, "the answer")
    return found.items("audits"), found.text("links.next") if found.flag("meta.has_more") else None


def _changed(ticket: Any) -> tuple[str, int]:
    """Number of a ticket of the export and when it changed, in microseconds; 0 where that is not known."""
    found = ticket if isinstance(ticket, dict) else {}
    at = found.get("generated_timestamp")
    return str(found.get("id")), at * 1_000_000 if isinstance(at, int) and 0 < at < 2**33 else 0


def parse(answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """`{"ticket": …, "audits": […]}` → (items, what could not be read). Raises Unreadable where it is none."""
    ticket = Fields(Fields(answer, "the answer").get("ticket"), "ticket")
    audits = Fields(answer, "the answer").items("audits")
    key = ticket.key("id")
    if ticket.text("status") == "deleted":
        at = need(ticket.iso("updated_at"), "updated_at")
        return (taken_back(key, at, micros(at)),), ()
    redacted = _redacted(audits)
    first = audits[0] if audits else None
    return each(audits, lambda audit: _items(audit, ticket, key, redacted, audit_is=first), "audits")


def _redacted(audits: list[Any]) -> dict[str, datetime]:
    """By id of a comment: when something was last struck out of it. The audits show what is left."""
    found: dict[str, datetime] = {}
    for audit in audits:
        try:
            fields = Fields(audit)
            struck = [event for event in map(Fields, fields.items("events")) if event.text("type") == STRUCK]
            found |= {event.key("comment_id"): need(fields.iso("created_at"), "created_at") for event in struck}
        except Unreadable:
            continue  # named where the audit itself is read
    return found


def _items(audit: Fields, ticket: Fields, key: str, redacted: dict[str, datetime], audit_is: Any) -> Iterator[Item]:
    at = need(audit.iso("created_at"), "created_at")
    for entry in audit.items("events"):
        event = Fields(entry, "event")
        kind, field, value = event.text("type"), event.text("field_name"), event.get("value")
        if kind == "Comment":
            comment = event.key("id")
            said = event.key("author_id") == ticket.key("requester_id")
            opening = isinstance(audit_is, dict) and audit_is.get("id") == audit.get("id")
            if not event.flag("public") and not (opening and said):
                continue
            body = (event.text("plain_body") or event.text("body") or "").strip()
            yield Item(
                external_id=key if opening else f"{key}:{comment}",
                created_at=at,
                version=micros(max(at, redacted.get(comment, at))),
                text=body if said else "",
                author=event.key("author_id") if said else None,
                customer_id=event.key("author_id") if said else None,
                touchpoint=ticket.text("via.channel"),
                conversation_id=key,
                turn="customer_message" if said else "agent_reply",
            )
        elif kind == "Change" and field == "status":
            before = event.get("previous_value")
            turn: Turn | None = None
            if _done(value) and not _done(before):
                turn = "solved"
            elif _done(before) and not _done(value):
                turn = "reopened"
            if turn:
                yield Item(external_id=f"{key}:{event.key('id')}", created_at=at, version=micros(at),
                           conversation_id=key, turn=turn)  # fmt: skip
        elif kind in ("Change", "Create") and field == "satisfaction_score" and value in ("good", "bad"):
            yield Item(
                external_id=f"{key}:satisfaction",
                created_at=at,
                version=micros(at),
                text=_comment(audit),
                rating=Rating(value=1 if value == "good" else 0, low=0, high=1, survey="csat"),
                customer_id=ticket.key("requester_id"),
                conversation_id=key,
            )


def _done(status: Any) -> bool:
    return isinstance(status, str) and status in _DONE


def _comment(audit: Fields) -> str:
    """What the customer wrote beside the score, in the same audit."""
    for entry in audit.items("events"):
        event = Fields(entry, "event")
        if event.text("field_name") == "satisfaction_comment" and isinstance(said := event.get("value"), str):
            return said
    return ""
