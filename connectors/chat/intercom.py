"""Intercom: conversations with customers and their ratings, by search and by webhook."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from connectors import hook, signature
from connectors.connector import Cursor, Delivery, Item, Page, Quota, Rating, Request, Skipped, Turn, taken_back
from connectors.fields import Fields, Unreadable, each, need, plain, skip
from connectors.option import Secret, option
from connectors.recent import Changed, Recent, changes, sift
from connectors.registry import Context, connector
from connectors.timestamp import micros
from connectors.transport import Limits, quota

PAGE: Final = 150
LAG: Final = timedelta(minutes=10)
VERSION: Final = "2.14"
LIMITS: Final = Limits(remaining="x-ratelimit-remaining", reset="x-ratelimit-reset", form="epoch")
_CUSTOMERS: Final = frozenset({"user", "lead", "contact"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Intercom:
    """Settings."""

    access_token: Secret = option("access token of an Intercom app", example="env:INTERCOM_TOKEN")
    client_secret: Secret | None = option(
        "client secret of the app, with which its webhooks are signed",
        example="env:INTERCOM_CLIENT_SECRET",
        default=None,
    )
    base_url: str = option(
        "address of the API: api.eu.intercom.io or api.au.intercom.io for those regions",
        default="https://api.intercom.io",
    )


@connector(
    name="intercom",
    title="Intercom conversations",
    kind="chat",
    channel="chat",
    modes=("poll", "webhook"),
    cursor="Time of the newest change read and the changes of the ten minutes before it, which are asked for again: "
    "Intercom's search shows new conversations some minutes late.",
    limits=(
        "Each conversation that changed is one more request.",
        "What is said by bots and in internal notes is left out.",
        "Parts that were redacted are deleted. That a conversation was deleted is told by webhook only "
        "(conversation.deleted); everything said in it is then taken back.",
        "That ratings come by webhook (conversation.rating.added) and how the rate limit's headers are named could "
        "not be confirmed in Intercom's documentation; polling does not depend on the first.",
    ),
    source="https://developers.intercom.com/docs/references/rest-api/api.intercom.io/conversations",
    config=Intercom,
)
class IntercomConnector:
    """See the declaration."""

    def __init__(self, config: Intercom, context: Context) -> None:
        self._config = config
        self._http = context.http
        self._now = context.now

    def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`."""
        return changes(self._search, Recent.of(cursor, self._now()), self._now, LAG, ordered=False)

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`."""
        return Recent.since(moment).cursor()

    async def _search(self, start: datetime, recent: Recent, after: str | None) -> Changed:
        paging = {"per_page": PAGE} | ({"starting_after": after} if after else {})
        wanted = {"field": "updated_at", "operator": ">", "value": int(start.timestamp()) - 1}
        answer = await self._http.post(
            f"{self._config.base_url}/conversations/search",
            body={"query": wanted, "pagination": paging},
            headers=self._headers,
            limits=LIMITS,
        )
        listed, following = answer.read(_listed)
        found, fresh = sift(recent, listed, _change)
        items: list[Item] = []
        skipped: list[Skipped] = []
        left = quota(answer.headers, LIMITS, self._now())
        for entry in fresh:
            try:
                key = Fields(entry, "conversation").key("id")
            except Unreadable as error:
                skipped.append(skip(str(error), "conversations", entry))
                continue
            got, unread, told = await self._conversation(key)
            left = told or left
            items.extend(item for item in got if item.version >= recent.unread(key))
            skipped.extend(unread)
        return Changed(
            changes=found,
            items=tuple(items),
            skipped=tuple(skipped),
            after=following,
            quota=left,
        )

    async def _conversation(self, key: str) -> tuple[tuple[Item, ...], tuple[Skipped, ...], Quota | None]:
        url = f"{self._config.base_url}/conversations/{quote(key, safe='', errors='replace')}"
        answer = await self._http.get(url, headers=self._headers, expect=(404,), limits=LIMITS)
        # Deleted between the search and now.
        items, skipped = ((), ()) if answer.status == 404 else answer.read(parse)
        return items, skipped, quota(answer.headers, LIMITS, self._now())

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._config.access_token.reveal()}", "Intercom-Version": VERSION}

    async def receive(self, request: Request) -> Delivery:
        """See `Receiver.receive`. At registration Intercom sends a HEAD request."""
        secret = hook.needed(self._config.client_secret, "client_secret")
        if request.method == "HEAD":
            return Delivery()
        hook.posted(request, "HEAD")
        signature.check(request, "x-hub-signature", f"sha1={signature.digest(secret, request.body, 'sha1')}")
        told = hook.table(request)
        topic, delivery = hook.understood(lambda body: (body.text("topic") or "", body.text("id")), told)
        if topic == "conversation.deleted":
            key = hook.understood(lambda body: body.key("data.item.id"), told)
            at = request.received_at
            return Delivery(items=(taken_back(key, at, micros(at)),), delivery_id=delivery)
        if not topic.startswith("conversation."):
            return Delivery(delivery_id=delivery)
        items, skipped = hook.understood(lambda body: parse(body.get("data.item")), told)
        return Delivery(items=items, skipped=skipped, delivery_id=delivery)


def _change(one: Fields) -> tuple[str, int]:
    return one.key("id"), micros(need(one.epoch("updated_at"), "updated_at"))


def _listed(answer: Any) -> tuple[list[Any], str | None]:
    """The conversations that the search lists, and where the next page begins."""
    found = Fields(answer, "the answer")
    return found.items("conversations"), found.text("pages.next.starting_after")


def parse(answer: Any) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
    """A conversation → (items, what could not be read). Raises Unreadable where it is none."""
    talk = Fields(answer, "the conversation")
    key = talk.key("id")
    first = each([answer], lambda found: _source(found, key), "source")
    parts = each(talk.items("conversation_parts.conversation_parts"), lambda part: _part(part, key), "parts")
    rated = each([answer], lambda found: _rating(found, key), "rating")
    return first[0] + parts[0] + rated[0], first[1] + parts[1] + rated[1]


def _source(talk: Fields, key: str) -> Iterator[Item]:
    source = talk.inside("source")
    if source is None or source.text("author.type") not in _CUSTOMERS:
        return
    created = need(talk.epoch("created_at"), "created_at")
    gone = source.flag("redacted")
    subject, said = plain(source.text("subject") or ""), plain(source.text("body") or "")
    yield Item(
        external_id=f"{key}:source",
        created_at=created,
        version=micros((talk.epoch("updated_at") if gone else None) or created),
        deleted=gone,
        text="" if gone else f"{subject}\n{said}".strip(),
        author=source.text("author.email") or source.text("author.id"),
        customer_id=source.text("author.id"),
        url=url if (url := source.text("url") or "").startswith("https://") else None,
        conversation_id=key,
        turn="customer_message",
    )


_EVENTS: Final[dict[str, Turn]] = {"close": "solved", "open": "reopened"}


def _part(part: Fields, key: str) -> Iterator[Item]:
    kind, by = part.text("part_type") or "", part.text("author.type")
    created = need(part.epoch("created_at"), "created_at")
    gone = part.flag("redacted")
    body = part.text("body")
    turn = _EVENTS.get(kind)
    if turn is None and kind != "note" and (body or gone) and by in _CUSTOMERS | {"admin"}:
        turn = "agent_reply" if by == "admin" else "customer_message"
    if turn is None:
        return
    said = turn == "customer_message"
    yield Item(
        external_id=f"{key}:{part.key('id')}",
        created_at=created,
        version=micros(max(created, part.epoch("updated_at") or created)),
        deleted=gone,
        text=plain(body or "") if said and not gone else "",
        author=part.text("author.email") or part.text("author.id") if said else None,
        customer_id=part.text("author.id") if said else None,
        conversation_id=key,
        turn=turn,
    )


def _rating(talk: Fields, key: str) -> Iterator[Item]:
    rating = talk.inside("conversation_rating")
    value = rating.number("rating") if rating else None
    if rating is None or value is None:
        return
    created = need(rating.epoch("created_at"), "conversation_rating.created_at")
    yield Item(
        external_id=f"{key}:rating",
        created_at=created,
        version=micros(max(created, rating.epoch("updated_at") or created)),
        text=rating.text("remark") or "",
        rating=Rating(value=value, low=1, high=5, survey="csat"),
        customer_id=contact if isinstance(contact := rating.get("contact.id"), str) else None,
        conversation_id=key,
    )
