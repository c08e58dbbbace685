"""Intercom's rules: bearer token, an API version, searches of at most 150, webhooks signed with SHA-1."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from connectors.connector import Request
from connectors.fakes.fake import Covered, Handshake, Said, Verb
from connectors.fakes.limit import Limit, told

TOKEN = "intercom-token"
SECRET = "intercom-client-secret"


class FakeIntercom:
    """See `fake.Fake`. `largest`: conversations that a search gives at once."""

    can: frozenset[Verb] = frozenset({"delete", "since"})
    covers: frozenset[Covered] = frozenset({"body"})

    def __init__(self) -> None:
        # Of the 10,000 a minute of an app Intercom gives a sixth every ten seconds.
        headers = told("X-RateLimit-Remaining", "X-RateLimit-Reset", "epoch", "X-RateLimit-Limit")
        self.limits = [Limit(1_666, 10, _too_many, headers)]
        self.conversations: dict[str, dict[str, Any]] = {}
        self.largest = 150

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secrets."""
        return {"INTERCOM_TOKEN": TOKEN, "INTERCOM_CLIENT_SECRET": SECRET}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {
            "access_token": "env:INTERCOM_TOKEN",
            "client_secret": "env:INTERCOM_CLIENT_SECRET",
            "base_url": url,
        }

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The search and the conversations."""
        return [web.post("/conversations/search", self._search), web.get("/conversations/{id}", self._one)]

    def say(self, said: Said) -> None:
        """A customer begins a conversation."""
        self.conversations[said.id] = conversation(said)

    def edit(self, id: str, text: str, at: datetime) -> None:
        """Nobody can."""

    def reply(self, id: str, said: Said) -> None:
        """The customer writes again in the conversation `id`."""
        at, talk = int(said.at.timestamp()), self.conversations[id]
        talk["updated_at"] = at
        talk["conversation_parts"]["conversation_parts"].append(
            {
                "type": "conversation_part", "id": said.id, "part_type": "comment", "body": f"<p>{said.text}</p>",
                "created_at": at, "updated_at": at, "author": talk["source"]["author"], "redacted": False,
            }
        )  # fmt: skip

    def delete(self, id: str, at: datetime) -> None:
        """The message is redacted."""
        self.conversations[id]["source"] |= {"redacted": True, "body": None}
        self.conversations[id]["updated_at"] = int(at.timestamp())

    def expire(self) -> None:
        """Searches start anew each time."""

    def deliveries(self, said: Said, url: str, at: datetime) -> Sequence[Request]:
        """See `fake.Hook`."""
        body = {
            "type": "notification_event",
            "app_id": "a86dr8yl",
            "id": "notif_4e3504a3-ba3f-46dc-ab48-8e4d5bdfdf4e",
            "topic": "conversation.user.created",
            "data": {"type": "notification_event_data", "item": conversation(said)},
            "created_at": int(at.timestamp()),
            "delivery_attempts": 1,
        }
        return [self.signed(json.dumps(body).encode(), url, at)]

    def signed(self, body: bytes, url: str, at: datetime) -> Request:
        """See `fake.Hook`."""
        mac = hmac.new(SECRET.encode(), body, hashlib.sha1).hexdigest()
        headers = {"content-type": "application/json", "x-hub-signature": f"sha1={mac}"}
        return Request(method="POST", url=url, headers=headers, query={}, body=body, received_at=at)

    def handshakes(self, url: str, at: datetime) -> Sequence[Handshake]:
        """See `fake.Registering`: HEAD, then a ping."""
        head = Request(method="HEAD", url=url, headers={}, query={}, body=b"", received_at=at)
        ping = {"type": "notification_event", "topic": "ping", "data": {"item": {"type": "ping", "message": "hi"}}}
        return [Handshake(request=head), Handshake(request=self.signed(json.dumps(ping).encode(), url, at))]

    def _refusal(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return refusal(401, "unauthorized", "Access Token Invalid")
        if not request.headers.get("Intercom-Version"):
            return refusal(400, "intercom_version_invalid", "The requested version could not be found")
        return None

    async def _search(self, request: web.Request) -> web.Response:
        if no := self._refusal(request):
            return no
        asked = await request.json()
        query, paging = asked.get("query", {}), asked.get("pagination", {})
        size = paging.get("per_page", 20)
        if set(asked) - {"query", "pagination"} or set(query) != {"field", "operator", "value"}:
            return refusal(400, "parameter_invalid", "the query is not understood")
        if query["field"] != "updated_at" or query["operator"] != ">" or not 1 <= size <= 150:
            return refusal(400, "parameter_invalid", "per_page must be from 1 to 150")
        size = min(size, self.largest)
        found = [one for one in self.conversations.values() if one["updated_at"] > query["value"]]
        found.sort(key=lambda one: (-one["updated_at"], one["id"]))
        start = int(paging.get("starting_after", 0))
        page = [{k: v for k, v in one.items() if k != "conversation_parts"} for one in found[start : start + size]]
        more = {"page": 2, "starting_after": str(start + size)} if start + size < len(found) else None
        return web.json_response(
            {"type": "conversation.list", "conversations": page, "total_count": len(found),
             "pages": {"type": "pages", "per_page": size, "total_pages": 1, "next": more}}
        )  # fmt: skip

    async def _one(self, request: web.Request) -> web.Response:
        if no := self._refusal(request):
            return no
        found = self.conversations.get(request.match_info["id"])
        return web.json_response(found) if found else refusal(404, "not_found", "Resource Not Found")


def _too_many() -> web.Response:
    return refusal(429, "rate_limit_exceeded", "Exceeded rate limit")


def conversation(said: Said) -> dict[str, Any]:
    """A conversation with its first message."""
    at = int(said.at.timestamp())
    author = {"type": "user", "id": "6329d160f1ca2ff8", "name": said.author, "email": "dilnoza@example.com"}
    return {
        "type": "conversation",
        "id": said.id,
        "created_at": at,
        "updated_at": at,
        "source": {
            "type": "conversation", "id": "403918330", "delivered_as": "customer_initiated", "subject": "",
            "body": f"<p>{said.text}</p>", "author": author, "attachments": [], "url": None, "redacted": False,
        },
        "contacts": {"type": "contact.list", "contacts": [{"type": "contact", "id": "6329d160f1ca2ff8"}]},
        "state": "open",
        "conversation_rating": None,
        "conversation_parts": {"type": "conversation_part.list", "conversation_parts": [], "total_count": 0},
    }  # fmt: skip


def refusal(status: int, code: str, message: str) -> web.Response:
    """A refusal in Intercom's form."""
    return web.json_response({"type": "error.list", "errors": [{"code": code, "message": message}]}, status=status)
