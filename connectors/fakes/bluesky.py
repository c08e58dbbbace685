"""Jetstream's rules, version 2: sequence numbers, cursors of both kinds, replay as far back as it goes, no auth.

Source: bluesky-social/jetstream, docs/README.md and the lexicon of network.bsky.jetstream.subscribeEvents.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from connectors.connector import Clock
from connectors.fakes.fake import Said, Verb
from connectors.fakes.oauth import utc_now

POSTS = "app.bsky.feed.post"
DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
STRANGER = "did:plc:z72i7hdynmk6r22z27h6tvur"
TIMES_FROM = 10**15
"""A cursor of so much or more is a time in microseconds, below it is a sequence number."""
KNOWN = frozenset({"collections", "dids", "kinds", "cursor"})


class FakeBluesky:
    """See `fake.Fake` and `fake.Streaming`. Somebody else posts at every heartbeat, as on the real network."""

    can: frozenset[Verb] = frozenset({"edit", "delete", "expire", "since"})
    tells: frozenset[Verb] = frozenset({"edit", "delete"})
    own_clock = True
    live = True

    def __init__(self) -> None:
        self.now: Clock = utc_now
        self.heartbeat_s = 0.05
        self.heartbeats = 0
        self.mute = False
        self._events: list[dict[str, Any]] = []
        self._oldest = 1
        self._more = asyncio.Event()

    @property
    def environment(self) -> Mapping[str, str]:
        """Jetstream wants no credentials."""
        return {}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        words = ["courier", "came after all", "the app", "спасибо"]
        return {"words": words, "server": f"ws{url.removeprefix('http')}"}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The stream."""
        return [web.get("/xrpc/network.bsky.jetstream.subscribeEvents", self._stream)]

    def say(self, said: Said) -> None:
        """A post."""
        record = {"$type": POSTS, "text": said.text, "createdAt": iso(said.at), "langs": [said.language]}
        self._tell(said.at, DID, "create", said.id, record)

    def edit(self, id: str, text: str, at: datetime) -> None:
        """The record is put again."""
        self._tell(at, DID, "update", id, {"$type": POSTS, "text": text, "createdAt": iso(at), "langs": ["en"]})

    def delete(self, id: str, at: datetime) -> None:
        """The record goes."""
        self._tell(at, DID, "delete", id, None)

    def expire(self) -> None:
        """It no longer goes back to what was told so far."""
        self._oldest = len(self._events) + 2

    def _tell(self, at: datetime, did: str, operation: str, key: str, record: dict[str, Any] | None) -> None:
        payload = {
            "$type": "network.bsky.jetstream.subscribeEvents#commit", "seq": len(self._events) + 1, "did": did,
            "time": iso(at), "rev": f"3l3qo2vuowo{len(self._events)}", "operation": operation, "collection": POSTS,
            "rkey": key,
        }  # fmt: skip
        if record is not None:
            payload |= {"record": record, "cid": "bafyreidwaivazkwu67xztlmuobx35hs2lnfh3kolmgfmucldvhd3sgzcqi"}
        self._events.append({"at": at, "message": {"$type": "message", "payload": payload}})
        self._more.set()

    def _too_old(self, cursor: int) -> bool:
        if cursor < TIMES_FROM:
            return cursor < self._oldest
        return self._oldest > 1 and cursor < self._events[self._oldest - 2]["at"].timestamp() * 1e6

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        asked = request.query
        if strange := set(asked) - KNOWN:
            return web.json_response({"error": "InvalidRequest", "message": f"unknown {sorted(strange)}"}, status=400)
        try:
            cursor = int(asked["cursor"]) if "cursor" in asked else None
        except ValueError:
            return web.json_response({"error": "InvalidRequest", "message": "cursor is no integer"}, status=400)
        if cursor is not None and self._too_old(cursor):
            return web.json_response({"error": "CursorTooOld"}, status=400)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        # Whoever sends anything is hung up on.
        reading = asyncio.ensure_future(socket.receive())
        sent = len(self._events) if cursor is None else 0
        try:
            while not reading.done():
                for number, event in enumerate(self._events[sent:], start=sent + 1):
                    at_us = event["at"].timestamp() * 1e6
                    if cursor is None or (at_us if cursor >= TIMES_FROM else number) >= cursor:
                        await socket.send_str(json.dumps(event["message"]))
                    sent = number
                self._more.clear()
                try:
                    async with asyncio.timeout(self.heartbeat_s):
                        await self._more.wait()
                except TimeoutError:
                    if not self.mute:
                        self.heartbeats += 1
                        post = {"$type": POSTS, "text": "lovely weather", "createdAt": iso(self.now())}
                        self._tell(self.now(), STRANGER, "create", f"w{self.heartbeats}", post)
        except ConnectionError:
            return socket
        finally:
            reading.cancel()
        await socket.close()
        return socket


def iso(at: datetime) -> str:
    """A time as in Jetstream's events."""
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
