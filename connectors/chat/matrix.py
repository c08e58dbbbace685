"""Matrix rooms over the client-server API: messages, edits and redactions, gaps closed by /messages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from connectors.connector import Cursor, CursorExpired, Item, Page, Retryable, Skipped
from connectors.fields import Fields, Unreadable, need, skip
from connectors.option import Secret, option
from connectors.registry import Context, connector
from connectors.timestamp import micros
from connectors.transport import Answer

WAIT_MS: Final = 25_000
PAGE: Final = 100
KINDS: Final = ("m.room.message", "m.room.redaction")
_LATEST: Final = datetime.max.replace(tzinfo=UTC)
_WORDS: Final = ("m.text", "m.emote")


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Settings."""

    homeserver: str = option("address of the account's homeserver", example="https://matrix.example.com")
    token: Secret = option("access token of an account that is in the rooms", example="env:MATRIX_TOKEN")
    rooms: tuple[str, ...] = option("ids of the rooms to read; all that the account is in without", default=())
    agents: tuple[str, ...] = option(
        "user ids that answer customers: their messages are replies", example=("@support:example.com",), default=()
    )


@connector(
    name="matrix",
    title="Matrix rooms",
    kind="chat",
    channel="chat",
    modes=("stream",),
    cursor="The server's sync token. Where a sync was cut short, the missing messages are fetched one page at a time.",
    limits=(
        "Encrypted rooms are not read: that takes a client with keys.",
        "History before the account joined depends on the room's settings.",
    ),
    source="https://spec.matrix.org/latest/client-server-api/",
    config=Matrix,
)
class MatrixConnector:
    """See the declaration."""

    def __init__(self, config: Matrix, context: Context) -> None:
        self._config = config
        self._http = context.http
        self._now = context.now
        self._api = f"{config.homeserver.rstrip('/')}/_matrix/client/v3"

    async def pages(self, cursor: Cursor | None, *, follow: bool) -> AsyncIterator[Page]:
        """See `Reader.pages`. Pages that close a gap keep the cursor before it, and may come again."""
        try:
            async with aclosing(self._pages(cursor, follow)) as pages:
                async for page in pages:
                    yield page
        except Unreadable as error:
            raise Retryable(f"{self._api} answered in another form than documented: {error}") from None

    async def _pages(self, cursor: Cursor | None, follow: bool) -> AsyncGenerator[Page, None]:
        if cursor is None or "history" in cursor:
            answer = await self._sync(None, 0)
            token = need(answer.text("next_batch"), "next_batch")
            if cursor is not None:
                async for page in self._history(answer, _moment(int(cursor["history"])), cursor):
                    yield page
            yield Page(cursor={"since": token})
        else:
            token = str(cursor["since"])
        while True:
            answer = await self._sync(token, WAIT_MS if follow else 0)
            following = need(answer.text("next_batch"), "next_batch")
            items: list[Item] = []
            skipped: list[Skipped] = []
            for room, timeline in self._timelines(answer):
                if timeline.flag("limited"):
                    start = timeline.text("prev_batch")
                    async for found, bad in self._before(room, start, token, None):
                        yield Page(items=found, skipped=bad, cursor={"since": token})
                found, bad = await self._read(room, timeline.items("events"))
                items.extend(found)
                skipped.extend(bad)
            quiet = following == token or not (items or skipped)
            token = following
            yield Page(items=tuple(items), skipped=tuple(skipped), cursor={"since": token})
            if quiet and not follow:
                return

    def since(self, moment: datetime) -> Cursor:
        """See `Reader.since`: what the rooms let the account see."""
        return {"history": micros(moment)}

    async def _history(self, answer: Fields, moment: datetime, cursor: Cursor) -> AsyncIterator[Page]:
        for room, timeline in self._timelines(answer):
            events = [e for e in timeline.items("events") if _sent(e) >= moment]
            found, bad = await self._read(room, events)
            yield Page(items=found, skipped=bad, cursor=cursor)
            async for found, bad in self._before(room, timeline.text("prev_batch"), None, moment):
                yield Page(items=found, skipped=bad, cursor=cursor)

    async def _before(
        self, room: str, start: str | None, end: str | None, moment: datetime | None
    ) -> AsyncIterator[tuple[tuple[Item, ...], tuple[Skipped, ...]]]:
        """What a room said before the token `start`, back to the token `end` or to a moment."""
        while start:
            asked: dict[str, str | int] = {"dir": "b", "from": start, "limit": PAGE}
            if end is not None:
                asked["to"] = end
            answer = await self._ask(f"rooms/{quote(room, safe='')}/messages", asked)
            events = answer.items("chunk")
            wanted = [e for e in events if moment is None or _sent(e) >= moment]
            yield await self._read(room, wanted)
            following = answer.text("end")
            start = following if following != start and len(wanted) == len(events) and events else None

    async def _read(self, room: str, events: list[Any]) -> tuple[tuple[Item, ...], tuple[Skipped, ...]]:
        items: list[Item] = []
        skipped: list[Skipped] = []
        for event in events:
            try:
                items.extend(await self._items(room, Fields(event, "event")))
            except Unreadable as error:
                where = str(event.get("event_id")) if isinstance(event, Mapping) else room
                skipped.append(skip(str(error), where, event))
        return tuple(items), tuple(skipped)

    async def _items(self, room: str, event: Fields) -> list[Item]:
        original = _replaced(event)
        if event.text("type") == "m.room.message" and original is not None:
            return await self._edit(room, event, original)
        item = parse(event, room, self._config.agents, self._now())
        return [] if item is None else [item]

    async def _edit(self, room: str, event: Fields, original: str) -> list[Item]:
        """An edit counts as the newer version of what it replaces, when the same person said both."""
        path = f"rooms/{quote(room, safe='')}/event/{quote(original, safe='')}"
        first = await self._ask(path, {}, expect=(403, 404))
        if first.text("event_id") is None or first.text("sender") != event.text("sender"):
            return []
        # The name has a dot in it, which paths take for a step.
        new = Fields(event.get("content").get("m.new_content"), "m.new_content")
        at = need(event.epoch("origin_server_ts", 0.001), "origin_server_ts")
        item = parse(first, room, self._config.agents, self._now())
        if item is None or item.deleted or item.turn != "customer_message":
            return []
        return [replace(item, version=micros(at), text=new.text("body") or "")]

    def _timelines(self, answer: Fields) -> list[tuple[str, Fields]]:
        joined = answer.get("rooms.join") or {}
        if not isinstance(joined, Mapping):
            raise Unreadable("rooms.join is no object")
        wanted = set(self._config.rooms)
        return [
            (room, Fields(found.get("timeline") or {}, "timeline"))
            for room, found in sorted(joined.items())
            if isinstance(found, Mapping) and (not wanted or room in wanted)
        ]

    async def _sync(self, since: str | None, wait_ms: int) -> Fields:
        asked: dict[str, str | int] = {"timeout": wait_ms, "set_presence": "offline", "filter": _FILTER}
        if since is not None:
            asked["since"] = since
        return await self._ask("sync", asked, timeout_s=wait_ms / 1_000 + self._http.timeout_s, expect=(400,))

    async def _ask(
        self, path: str, asked: Mapping[str, str | int], *, expect: tuple[int, ...] = (), timeout_s: float | None = None
    ) -> Fields:
        answer: Answer = await self._http.get(
            f"{self._api}/{path}",
            params=asked,
            headers={"Authorization": f"Bearer {self._config.token.reveal()}"},
            expect=expect,
            timeout_s=timeout_s,
        )
        if answer.status == 400:
            raise CursorExpired(f"{answer.where}: the server does not take the sync token any more")
        return Fields(answer.table(), "answer")


_FILTER: Final = (
    '{"presence":{"types":[]},"account_data":{"types":[]},"room":{"state":{"types":[]},"ephemeral":{"types":[]},'
    '"account_data":{"types":[]},"timeline":{"limit":100,"types":["m.room.message","m.room.redaction"]}}}'
)


def parse(event: Fields, room: str, agents: tuple[str, ...], now: datetime) -> Item | None:
    """An item from one event that is no edit; None for what no person said. Raises Unreadable."""
    kind, sender = event.text("type"), event.text("sender")
    at = need(event.epoch("origin_server_ts", 0.001), "origin_server_ts")
    if kind == "m.room.redaction":
        target = event.text("redacts") or event.text("content.redacts")
        return None if target is None else _erased(target, at, now)
    if kind != "m.room.message":
        return None
    own = event.key("event_id")
    if not (event.inside("content") or Fields({})).text("msgtype"):
        return _erased(own, at, now)  # what was redacted keeps its place and loses its content
    if event.text("content.msgtype") not in _WORDS:
        return None
    replies = sender in agents
    return Item(
        external_id=own,
        created_at=at,
        version=micros(at),
        text="" if replies else _own_words(event.text("content.body") or ""),
        author=None if replies else sender,
        conversation_id=room,
        turn="agent_reply" if replies else "customer_message",
    )


def _erased(event_id: str, at: datetime, now: datetime) -> Item:
    return Item(external_id=event_id, created_at=at, version=micros(max(at, now)), deleted=True)


def _own_words(body: str) -> str:
    """A reply's body without the fallback that quotes what it answers (`> <@user> …`, then an empty line)."""
    if not body.startswith("> <"):
        return body
    lines = body.split("\n")
    while lines and lines[0].startswith(">"):
        lines.pop(0)
    return "\n".join(lines).strip()


def _replaced(event: Fields) -> str | None:
    """The id of the event that this one replaces, or None."""
    content = event.get("content")
    relation = content.get("m.relates_to") if isinstance(content, Mapping) else None
    if not isinstance(relation, Mapping) or relation.get("rel_type") != "m.replace":
        return None
    original = relation.get("event_id")
    return original if isinstance(original, str) else None


def _sent(event: object) -> datetime:
    """When an event was sent; what does not say is taken as new, and will be refused when it is read."""
    try:
        return Fields(event).epoch("origin_server_ts", 0.001) or _LATEST
    except Unreadable:
        return _LATEST


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)
