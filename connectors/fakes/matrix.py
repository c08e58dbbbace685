"""A Matrix homeserver's rules: a token, syncs that are cut short, pages of what came before, edits and redactions.

Source: the client-server API of the Matrix specification (matrix-org/matrix-spec).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from connectors.fakes.fake import Said, Verb

TOKEN, ROOM = "syt_b3ZveA_token", "!oNKqYjCyQmqjwMgFbB:acme.example"
SYNC = frozenset({"filter", "since", "full_state", "set_presence", "timeout"})
MESSAGES = frozenset({"dir", "from", "to", "limit", "filter"})


class FakeMatrix:
    """See `fake.Fake` and `fake.Streaming`. `largest`: events that a sync shows of a room, whatever is asked."""

    can: frozenset[Verb] = frozenset({"edit", "delete", "expire", "since"})
    tells: frozenset[Verb] = frozenset({"edit", "delete"})
    live = True

    def __init__(self) -> None:
        self.heartbeat_s = 0.05
        self.heartbeats = 0
        self.mute = False
        self.largest = 20
        self._life = 1
        self._events: list[dict[str, Any]] = []
        self._more = asyncio.Event()

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secret."""
        return {"MATRIX_TOKEN": TOKEN}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {"homeserver": url, "token": "env:MATRIX_TOKEN"}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Sync, what came before, one event."""
        api = "/_matrix/client/v3"
        return [
            web.get(f"{api}/sync", self._sync),
            web.get(f"{api}/rooms/{{room}}/messages", self._messages),
            web.get(f"{api}/rooms/{{room}}/event/{{event}}", self._event),
        ]

    def say(self, said: Said) -> None:
        """A message."""
        self._add("m.room.message", f"${said.id}", said.at, {"msgtype": "m.text", "body": said.text})

    def edit(self, id: str, text: str, at: datetime) -> None:
        """An event that replaces it."""
        new = {"msgtype": "m.text", "body": text}
        relation = {"rel_type": "m.replace", "event_id": f"${id}"}
        content = {"msgtype": "m.text", "body": f"* {text}", "m.new_content": new, "m.relates_to": relation}
        self._add("m.room.message", f"${id}-{len(self._events)}", at, content)

    def delete(self, id: str, at: datetime) -> None:
        """It is redacted: it keeps its place and loses its content."""
        for event in self._events:
            if event["event_id"] == f"${id}":
                event["content"] = {}
        self._add("m.room.redaction", f"${id}-{len(self._events)}", at, {"redacts": f"${id}"})

    def expire(self) -> None:
        """Tokens of before are those of another database."""
        self._life += 1

    def _add(self, kind: str, event_id: str, at: datetime, content: dict[str, Any]) -> None:
        self._events.append({
            "type": kind, "event_id": event_id, "sender": "@dilnoza:customer.example", "content": content,
            "origin_server_ts": int(at.timestamp() * 1_000), "unsigned": {"age": 1},
        })  # fmt: skip
        self._more.set()

    def _refusal(self, request: web.Request, known: frozenset[str]) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"errcode": "M_UNKNOWN_TOKEN", "error": "Invalid access token"}, status=401)
        if set(request.query) - known:
            return web.json_response({"errcode": "M_UNRECOGNIZED", "error": "Unknown parameter"}, status=400)
        if request.match_info.get("room", ROOM) != ROOM:
            return web.json_response({"errcode": "M_FORBIDDEN", "error": "You are not in this room"}, status=403)
        return None

    def _token(self, place: int) -> str:
        return f"s{self._life}_{place}"

    def _place(self, token: str) -> int | None:
        """How many events lie before a token; None for one that this server did not give."""
        life, _, place = token.removeprefix("s").partition("_")
        return int(place) if token.startswith("s") and life == str(self._life) and place.isdigit() else None

    async def _sync(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request, SYNC):
            return refusal
        since = 0
        if "since" in request.query:
            known = self._place(request.query["since"])
            if known is None:
                return web.json_response({"errcode": "M_UNKNOWN", "error": "Invalid stream token"}, status=400)
            since = known
            await self._wait(since, int(request.query.get("timeout", "0")) / 1_000)
        limit = min(self.largest, json.loads(request.query["filter"])["room"]["timeline"]["limit"])
        new = self._events[since:]
        shown = new[-limit:]
        timeline = {
            "events": shown, "limited": len(shown) < len(new),
            "prev_batch": self._token(len(self._events) - len(shown)),
        }  # fmt: skip
        joined = {ROOM: {"timeline": timeline}} if new or "since" not in request.query else {}
        return web.json_response({"next_batch": self._token(len(self._events)), "rooms": {"join": joined}})

    async def _wait(self, since: int, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while len(self._events) == since and loop.time() < until:
            self._more.clear()
            try:
                async with asyncio.timeout(min(self.heartbeat_s, until - loop.time())):
                    await self._more.wait()
            except TimeoutError:
                self.heartbeats += not self.mute

    async def _messages(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request, MESSAGES):
            return refusal
        start, end = (self._place(request.query.get(name, self._token(0))) for name in ("from", "to"))
        if start is None or end is None or request.query.get("dir") != "b":
            return web.json_response({"errcode": "M_INVALID_PARAM", "error": "from, to or dir is invalid"}, status=400)
        first = max(end, start - min(100, int(request.query.get("limit", "10"))))
        answer: dict[str, Any] = {"chunk": self._events[first:start][::-1], "start": request.query["from"]}
        if first > end:
            answer["end"] = self._token(first)
        return web.json_response(answer)

    async def _event(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request, frozenset()):
            return refusal
        for event in self._events:
            if event["event_id"] == request.match_info["event"]:
                return web.json_response(event)
        return web.json_response({"errcode": "M_NOT_FOUND", "error": "Event not found"}, status=404)
