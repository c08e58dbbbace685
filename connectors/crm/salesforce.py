"""Salesforce: cases, by SOQL on their time of change, and the log of deletions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from connectors import oauth
from connectors.connector import Cursor, Item, Page, Retryable, Skipped
from connectors.crm.ticket import Ticket, check_names, gone
from connectors.fields import Fields, Unreadable, each, need
from connectors.listing import next_link
from connectors.option import Secret, option
from connectors.recent import FIRST, Changed, Recent, changes, sift
from connectors.registry import Context, connector
from connectors.timestamp import micros
from connectors.transport import Answer, verdict

_USED_UP: Final = b"REQUEST_LIMIT_EXCEEDED"
LAG: Final = timedelta(minutes=10)
BATCH: Final = 200
LOG_REACH: Final = timedelta(days=14)
LOG_LAG: Final = timedelta(minutes=5)
FIELDS: Final = {
    "Case": ("Id", "CreatedDate", "SystemModstamp", "IsClosed", "ClosedDate", "Origin", "ContactId", "SuppliedEmail"),
    "EmailMessage": ("Id", "ParentId", "SystemModstamp", "MessageDate", "Incoming", "FromAddress", "TextBody"),
    "CaseComment": (
        "Id", "ParentId", "SystemModstamp", "CreatedDate", "IsPublished", "CommentBody", "CreatedById",
        "CreatedBy.UserType",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Salesforce:
    """Settings."""

    base_url: str = option("address of your Salesforce", example="https://acme.my.salesforce.com")
    client_id: str = option("consumer key of a connected app with the client credentials flow", example="3MVG9…")
    client_secret: Secret = option("consumer secret of that app", example="env:SALESFORCE_SECRET")
    object: str = option(
        "what to read: cases, or the e-mails or comments of cases; a connector for each gives whole conversations",
        default="Case",
        choices=tuple(FIELDS),
    )
    text_fields: tuple[str, ...] = option(
        "fields of a case that hold the customer's words", default=("Subject", "Description")
    )
    version: str = option("version of the API", default="62.0")


@connector(
    name="salesforce",
    title="Salesforce cases, their e-mails and comments",
    kind="crm",
    channel="crm",
    modes=("poll",),
    cursor="SystemModstamp of the newest case read and the cases of the ten minutes before it, which are asked for "
    "again: a long transaction commits after its own time stamp. Deletions: the moment up to which the log was read.",
    limits=(
        "This is polling by SOQL. The Pub/Sub API (gRPC, Avro) would be faster by the poll's pace, but its change "
        "events hold only the changed fields, so each would be fetched by SOQL all the same, and gaps closed so too.",
        "Deletions are told for 15 days and may be purged earlier when there are very many; those of a longer outage "
        "are not seen.",
        "Of a case there are its text and its closing; e-mails need Email-to-Case. A comment of a user of type "
        "Standard counts as a reply, of any other as the customer's.",
        "The user of the connected app sees the cases that the connector sees.",
    ),
    source="https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_query.htm",
    config=Salesforce,
    every_s=120.0,
)
class SalesforceConnector:
    """See the declaration."""

    def __init__(self, config: Salesforce, context: Context) -> None:
        check_names("text_fields", config.text_fields)
        self._config = config
        self._now = context.now
        grant = oauth.client_credentials(
            f"{config.base_url}/services/oauth2/token", config.client_id, config.client_secret
        )
        self._http = oauth.Authorized(context.http, context.now, grant)
        self._data = f"{config.base_url}/services/data/v{config.version}"

    async def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`. Deletions come first: a record that comes back is newer than its deletion."""
        now = self._now()
        recent = Recent.of(cursor, now)
        told = datetime.fromisoformat(cursor["log"]) if cursor and "log" in cursor else now - FIRST
        items, log = await self._deleted(max(told, now - LOG_REACH), now)

        def save(state: Recent) -> Cursor:
            return {**state.cursor(), "log": log.isoformat()}

        if items:
            yield Page(items=items, cursor=save(recent))
        async for page in changes(self._changed, recent, self._now, LAG, ordered=True, save=save):
            yield page

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`."""
        return {**Recent.since(moment).cursor(), "log": moment.isoformat()}

    async def _deleted(self, since: datetime, now: datetime) -> tuple[tuple[Item, ...], datetime]:
        """Cases deleted since then, and up to when the log is known to be whole."""
        # Salesforce wants more than a minute between the two.
        begin = min(since, now - timedelta(minutes=2))
        answer = await self._get(
            f"{self._data}/sobjects/{self._config.object}/deleted/",
            params={"start": _iso(begin), "end": _iso(now)},
        )
        found, covered = answer.read(deleted)
        return tuple(item for item in found if item.version > micros(since - LOG_LAG)), min(covered or now, now)

    async def _changed(self, start: datetime, recent: Recent, after: str | None) -> Changed:
        headers = {"Sforce-Query-Options": f"batchSize={BATCH}"}
        if after is None:
            answer = await self._get(f"{self._data}/query", params={"q": self._query(start)}, headers=headers)
        else:
            link = next_link(self._config.base_url, after) or ""
            answer = await self._get(link, headers=headers, expect=(400, 404))
            if answer.status >= 400:
                raise Retryable(f"{answer.where}: the query's next page has expired; it begins anew")
        listed, following = answer.read(_listed)
        found, fresh = sift(recent, listed, _change)
        items, skipped = parse({"records": fresh}, text_fields=self._config.text_fields)
        return Changed(changes=found, items=items, skipped=skipped, after=following)

    async def _get(self, url: str, *, expect: tuple[int, ...] = (), **named: Any) -> Answer:
        """GET; a day's requests that are used up are a 403 like a missing permission, told by its code."""
        answer = await self._http.get(url, expect=(*expect, 403), **named)
        if answer.status == 403:
            passing = (403,) if _USED_UP in answer.body else ()
            raise verdict(403, answer.headers, answer.body, answer.where, now=self._now(), retryable=passing)
        return answer

    def _query(self, start: datetime) -> str:
        kind = self._config.object
        wanted = dict.fromkeys((*FIELDS[kind], *(self._config.text_fields if kind == "Case" else ())))
        return (
            f"SELECT {', '.join(wanted)} FROM {kind} WHERE SystemModstamp >= {_iso(start)} "
            "ORDER BY SystemModstamp ASC, Id ASC"
        )


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _change(record: Fields) -> tuple[str, int]:
    return record.key("Id"), micros(need(record.iso("SystemModstamp"), "SystemModstamp"))


def _listed(answer: Any) -> tuple[list[Any], str | None]:
    """The records of an answer, and where the next page is."""
    found = Fields(answer, "the answer")
    listed = found.get("records")
    if not isinstance(listed, list):
        raise Unreadable("there are no records in it")
    return listed, None if found.flag("done") else found.text("nextRecordsUrl")


def deleted(answer: Any) -> tuple[tuple[Item, ...], datetime | None]:
    """An answer of the log of deletions → (items, up to when it is whole). Raises Unreadable where it is none."""
    found = Fields(answer, "the answer")
    items: list[Item] = []
    for entry in found.items("deletedRecords"):
        record = Fields(entry, "deleted record")
        items += gone(record.key("id"), need(record.iso("deletedDate"), "deletedDate"))
    return tuple(items), found.iso("latestDateCovered")


def parse(
    answer: Any, *, text_fields: Sequence[str] = ("Subject", "Description")
) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """An answer of a query → (items, what could not be read). Raises Unreadable where it is none."""
    return each(_listed(answer)[0], lambda record: _items(record, text_fields), "records")


def _items(record: Fields, text_fields: Sequence[str]) -> Iterator[Item]:
    kind = record.text("attributes.type")
    if kind in ("EmailMessage", "CaseComment"):
        if record.text("ParentId") is not None:
            yield from _message(record, mail=kind == "EmailMessage")
        return
    ticket = Ticket(
        key=record.key("Id"),
        created_at=need(record.iso("CreatedDate"), "CreatedDate"),
        version=need(record.iso("SystemModstamp"), "SystemModstamp"),
        text="\n".join(words for name in text_fields if (words := (record.text(name) or "").strip())),
        author=record.text("SuppliedEmail"),
        customer_id=record.text("ContactId"),
        touchpoint=record.text("Origin"),
    )
    closed = record.iso("ClosedDate") if record.flag("IsClosed") else None
    yield from (replace(ticket, solved_at=closed) if closed else ticket).items()


def _message(record: Fields, *, mail: bool) -> Iterator[Item]:
    """An e-mail or a comment of a case. What is not shown to the customer is left out."""
    if not mail and not record.flag("IsPublished"):
        return
    said = record.flag("Incoming") if mail else record.text("CreatedBy.UserType") not in (None, "Standard")
    created = need(record.iso("MessageDate" if mail else "CreatedDate"), "the time")
    author = record.text("FromAddress" if mail else "CreatedById")
    yield Item(
        external_id=record.key("Id"),
        created_at=created,
        version=micros(max(created, need(record.iso("SystemModstamp"), "SystemModstamp"))),
        text=(record.text("TextBody" if mail else "CommentBody") or "").strip() if said else "",
        author=author if said else None,
        conversation_id=record.key("ParentId"),
        turn="customer_message" if said else "agent_reply",
    )
