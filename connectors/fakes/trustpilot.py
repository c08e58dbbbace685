"""Trustpilot's rules: API key, pages of at most 100, newest first, a secret in the webhook's address."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from connectors.connector import Request
from connectors.fakes.fake import Covered, Said, Verb, unknown
from connectors.fakes.limit import Limit

KEY = "trustpilot-key"
HOOK = "hook-secret"
UNIT = "46d6a890000064000500e0c3"


class FakeTrustpilot:
    """See `fake.Fake`."""

    can: frozenset[Verb] = frozenset({"edit", "since"})
    covers: frozenset[Covered] = frozenset()

    def __init__(self) -> None:
        self.limits = [Limit(833, 300, _too_many)]
        self._reviews: dict[str, dict[str, Any]] = {}

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secrets."""
        return {"TRUSTPILOT_KEY": KEY, "TRUSTPILOT_HOOK": HOOK}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {
            "business_unit": UNIT,
            "api_key": "env:TRUSTPILOT_KEY",
            "hook_secret": "env:TRUSTPILOT_HOOK",
            "base_url": url,
        }

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The two addresses that the connector asks."""
        return [
            web.get(f"/v1/business-units/{UNIT}/reviews", self._list),
            web.get("/v1/reviews/{id}", self._one),
        ]

    def say(self, said: Said) -> None:
        """A review."""
        self._reviews[said.id] = {
            "id": said.id,
            "stars": said.rating,
            "title": said.text[:20],
            "text": said.text,
            "language": said.language,
            "createdAt": said.at.isoformat().replace("+00:00", "Z"),
            "updatedAt": None,
            "consumer": {"id": "c1", "displayName": said.author},
        }

    def edit(self, id: str, text: str, at: datetime) -> None:
        """An edited review is listed as new."""
        self._reviews[id] |= {"title": text[:20], "text": text, "updatedAt": at.isoformat().replace("+00:00", "Z")}

    def delete(self, id: str, at: datetime) -> None:
        """It is listed no more."""
        self._reviews.pop(id, None)

    def expire(self) -> None:
        """Listings have no cursors."""

    def deliveries(self, said: Said, url: str, at: datetime) -> Sequence[Request]:
        """See `fake.Hook`."""
        body = {"events": [{"eventName": "service-review-created", "version": "1", "eventData": {"id": said.id}}]}
        return [self.signed(json.dumps(body).encode(), url, at)]

    def signed(self, body: bytes, url: str, at: datetime) -> Request:
        """See `fake.Hook`: the secret stands in the address."""
        return Request(
            method="POST",
            url=f"{url}?secret={HOOK}",
            headers={"content-type": "application/json"},
            query={"secret": HOOK},
            body=body,
            received_at=at,
        )

    def _refusal(self, request: web.Request) -> web.Response | None:
        if request.headers.get("apikey") != KEY:
            return web.json_response({"message": "Invalid ApiKey"}, status=401)
        return None

    async def _list(self, request: web.Request) -> web.Response:
        page, size = int(request.query.get("page", "1")), int(request.query.get("perPage", "20"))
        if refusal := self._refusal(request) or unknown(request, "page perPage orderBy stars language"):
            return refusal
        if request.query.get("orderBy") != "createdat.desc":
            return web.json_response({"message": "this fake lists the newest first only"}, status=400)
        if not 1 <= size <= 100 or page < 1:
            return web.json_response({"message": "perPage must be from 1 to 100"}, status=400)
        newest = sorted(self._reviews.values(), key=lambda r: (r["updatedAt"] or r["createdAt"], r["id"]), reverse=True)
        return web.json_response({"reviews": newest[(page - 1) * size : page * size], "links": []})

    async def _one(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request):
            return refusal
        found = self._reviews.get(request.match_info["id"])
        return web.json_response(found if found else {"message": "Not found"}, status=200 if found else 404)


def _too_many() -> web.Response:
    return web.json_response({"message": "Too many requests", "errorCode": 429}, status=429)
