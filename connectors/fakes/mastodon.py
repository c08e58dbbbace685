"""A Mastodon server's rules: a user's token, at most 40 a page, `min_id`, a stream that cannot resume."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

from aiohttp import web

from connectors.connector import Clock
from connectors.fakes.fake import Said, Verb, unknown
from connectors.fakes.limit import Limit, told
from connectors.fakes.oauth import utc_now

TOKEN, TAG = "user-token", "ovoz"


class FakeMastodon:
    """See `fake.Fake` and `fake.Streaming`."""

    can: frozenset[Verb] = frozenset({"since"})
    tells: frozenset[Verb] = frozenset({"edit", "delete"})

    own_clock = True
    """An id holds the time at which the service took a post in, never a later one."""

    def __init__(self) -> None:
        self.now: Clock = utc_now
        self.heartbeat_s = 0.05
        self.heartbeats = 0
        self.mute = False
        names = ("X-RateLimit-Remaining", "X-RateLimit-Reset", "iso", "X-RateLimit-Limit")
        self.limits = [Limit(300, 300, _refusal, told(*names), path="/api/v1/timelines")]
        self._statuses: dict[str, dict[str, Any]] = {}
        self._ids: dict[str, str] = {}
        self._streams: set[asyncio.Queue[bytes]] = set()

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secret."""
        return {"MASTODON_TOKEN": TOKEN}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {"base_url": url, "token": "env:MASTODON_TOKEN", "tag": TAG}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The timeline and the stream."""
        return [
            web.get(f"/api/v1/timelines/tag/{TAG}", self._timeline),
            web.get("/api/v1/streaming/hashtag", self._stream),
        ]

    def say(self, said: Said) -> None:
        """A post with the hashtag: its id is of the time when it was written."""
        key = str((int(said.at.timestamp() * 1_000) << 16) + int(said.id) % 65_536)
        self._ids[said.id] = key
        self._statuses[key] = {
            "id": key,
            "uri": f"https://mastodon.example/users/{said.author}/statuses/{key}",
            "url": f"https://mastodon.example/@{said.author}/{key}",
            "created_at": _iso(said.at),
            "edited_at": None,
            "language": said.language,
            "visibility": "public",
            "spoiler_text": "",
            "content": f"<p>{escape(said.text, quote=False)}</p>",
            "reblog": None,
            "account": {"id": "1", "acct": f"{said.author}@mastodon.example"},
            "tags": [{"name": TAG}],
        }
        self._tell("update", json.dumps(self._statuses[key]))

    def edit(self, id: str, text: str, at: datetime) -> None:
        """Told to streams only."""
        status = self._statuses[self._ids[id]]
        status |= {"content": f"<p>{escape(text, quote=False)}</p>", "edited_at": _iso(at)}
        self._tell("status.update", json.dumps(status))

    def delete(self, id: str, at: datetime) -> None:
        """Told to streams only."""
        key = self._ids.pop(id)
        del self._statuses[key]
        self._tell("delete", key)

    def expire(self) -> None:
        """Ids are never forgotten."""

    def _tell(self, event: str, data: str) -> None:
        for stream in self._streams:
            stream.put_nowait(f"event: {event}\ndata: {data}\n\n".encode())

    def _refusal(self, request: web.Request, known: str) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"error": "The access token is invalid"}, status=401)
        return unknown(request, known)

    async def _timeline(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request, "limit min_id max_id since_id local remote only_media any all none"):
            return refusal
        size = min(40, int(request.query.get("limit", "20")))
        order = sorted(self._statuses.values(), key=lambda status: int(status["id"]))
        if "min_id" in request.query:
            shown = [status for status in order if int(status["id"]) > int(request.query["min_id"])][:size]
        else:
            shown = order[-size:]
        return web.json_response(shown[::-1])

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._refusal(request, "tag"):
            return refusal
        if request.query.get("tag") != TAG:
            return web.json_response({"error": "Missing tag name parameter"}, status=400)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b":)\n")
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._streams.add(queue)
        try:
            while True:
                try:
                    async with asyncio.timeout(self.heartbeat_s):
                        told = await queue.get()
                except TimeoutError:
                    told = b":thump\n"
                if self.mute:
                    continue
                self.heartbeats += told == b":thump\n"
                await response.write(told)
        except ConnectionError:
            return response
        finally:
            self._streams.discard(queue)


def _refusal() -> web.Response:
    return web.json_response({"error": "Too many requests"}, status=429)


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
