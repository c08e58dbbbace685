"""Typeform's rules: bearer token, newest first, pages by `before`, two requests a second, signed webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from connectors.connector import Request
from connectors.fakes.fake import Covered, Said, Verb, unknown
from connectors.fakes.limit import Limit

TOKEN = "typeform-token"
SECRET = "typeform-hook-secret"
FORM = "lT4Z3j"


class FakeTypeform:
    """See `fake.Fake`."""

    can: frozenset[Verb] = frozenset({"since"})
    covers: frozenset[Covered] = frozenset({"body"})

    def __init__(self) -> None:
        self.limits = [Limit(2, 1, _too_many)]
        self._responses: list[dict[str, Any]] = []

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secrets."""
        return {"TYPEFORM_TOKEN": TOKEN, "TYPEFORM_HOOK": SECRET}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {
            "form": FORM,
            "token": "env:TYPEFORM_TOKEN",
            "hook_secret": "env:TYPEFORM_HOOK",
            "scores": {"satisfaction": "csat"},
            "base_url": url,
        }

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The responses."""
        return [web.get("/forms/{form}/responses", self._list)]

    def say(self, said: Said) -> None:
        """A response."""
        self._responses.append(response(said))

    def edit(self, id: str, text: str, at: datetime) -> None:
        """Nobody can."""

    def delete(self, id: str, at: datetime) -> None:
        """It is listed no more."""
        self._responses = [one for one in self._responses if one["token"] != id]

    def expire(self) -> None:
        """A token stays good."""

    def deliveries(self, said: Said, url: str, at: datetime) -> Sequence[Request]:
        """See `fake.Hook`."""
        told = response(said)
        del told["landing_id"], told["response_id"], told["metadata"]
        body = {
            "event_id": "LtWXD3crgy",
            "event_type": "form_response",
            "form_response": {"form_id": FORM, "definition": {"id": FORM, "title": "How was it?"}, **told},
        }
        return [self.signed(json.dumps(body).encode(), url, at)]

    def signed(self, body: bytes, url: str, at: datetime) -> Request:
        """See `fake.Hook`."""
        mac = base64.b64encode(hmac.new(SECRET.encode(), body, hashlib.sha256).digest()).decode()
        headers = {"content-type": "application/json", "typeform-signature": f"sha256={mac}"}
        return Request(method="POST", url=url, headers=headers, query={}, body=body, received_at=at)

    async def _list(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return refusal(401, "AUTHENTICATION_FAILED", "Authentication credentials not found on the Request Headers")
        if no := unknown(request, "page_size since until after before response_type sort query fields answered_fields"):
            return no
        if request.match_info["form"] != FORM:
            return refusal(404, "FORM_NOT_FOUND", "form not found")
        query, size = request.query, int(request.query.get("page_size", 25))
        if not 1 <= size <= 1_000 or ("sort" in query and {"after", "before"} & set(query)):
            return refusal(400, "VALIDATION_ERROR", "page_size must be from 1 to 1000, and before takes no sort")
        since = int(query.get("since", 0))
        found = [one for one in self._responses if datetime.fromisoformat(one["submitted_at"]).timestamp() >= since]
        found.sort(key=lambda one: (one["submitted_at"], one["token"]), reverse=True)
        if "before" in query:
            tokens = [one["token"] for one in found]
            found = found[tokens.index(query["before"]) + 1 :] if query["before"] in tokens else []
        return web.json_response({"total_items": len(found), "page_count": 1, "items": found[:size]})


def _too_many() -> web.Response:
    return web.json_response({"code": "TOO_MANY_REQUESTS", "description": "Too many requests"}, status=429)


def response(said: Said) -> dict[str, Any]:
    """A response as it is listed."""
    at = said.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "landing_id": said.id,
        "token": said.id,
        "response_id": said.id,
        "landed_at": at,
        "submitted_at": at,
        "metadata": {"user_agent": "Mozilla/5.0", "platform": "mobile", "referer": "https://x", "network_id": "n"},
        "hidden": {},
        "calculated": {"score": 0},
        "answers": [
            {"field": {"id": "DlXFaesGBpoF", "ref": "why", "type": "long_text"}, "type": "text", "text": said.text},
            {
                "field": {"id": "SMEUb7VJz92Q", "ref": "satisfaction", "type": "opinion_scale"},
                "type": "number",
                "number": said.rating,
            },
        ],
    }


def refusal(status: int, code: str, description: str) -> web.Response:
    """A refusal in Typeform's form."""
    return web.json_response({"code": code, "description": description}, status=status)
