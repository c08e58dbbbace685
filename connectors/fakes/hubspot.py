"""HubSpot's rules: bearer token, searches of at most 200 that end at 10,000, batches of 100, the v3 signature."""

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
from connectors.fakes.fake import Covered, Said, Verb
from connectors.fakes.limit import Limit

TOKEN = "pat-na1-hubspot-token"
SECRET = "hubspot-client-secret"


class FakeHubSpot:
    """See `fake.Fake`. `deepest`: results that a search shows."""

    can: frozenset[Verb] = frozenset({"edit", "since"})
    covers: frozenset[Covered] = frozenset({"body", "time"})

    def __init__(self) -> None:
        self.limits = [Limit(5, 1, _too_many, path="/search")]
        self.deepest = 10_000
        self.contacts: dict[str, str] = {}
        self._tickets: dict[str, dict[str, Any]] = {}

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secrets."""
        return {"HUBSPOT_TOKEN": TOKEN, "HUBSPOT_SECRET": SECRET}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {"access_token": "env:HUBSPOT_TOKEN", "client_secret": "env:HUBSPOT_SECRET", "base_url": url}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The search and the batch."""
        return [
            web.post("/crm/v3/objects/tickets/search", self._search),
            web.post("/crm/v3/objects/tickets/batch/read", self._batch),
        ]

    def say(self, said: Said) -> None:
        """A ticket."""
        self._tickets[str(int(said.id))] = ticket(said)

    def edit(self, id: str, text: str, at: datetime) -> None:
        """Its description changes."""
        self._tickets[str(int(id))]["properties"] |= {"content": text, "hs_lastmodifieddate": iso(at)}
        self._tickets[str(int(id))]["updatedAt"] = iso(at)

    def delete(self, id: str, at: datetime) -> None:
        """It is found no more."""
        self._tickets.pop(str(int(id)), None)

    def expire(self) -> None:
        """Searches start anew each time."""

    def deliveries(self, said: Said, url: str, at: datetime) -> Sequence[Request]:
        """See `fake.Hook`: a batch, not in order of time."""
        events = [
            event("ticket.propertyChange", said.id, at, propertyName="subject", propertyValue=said.text),
            event("ticket.creation", said.id, at, changeFlag="CREATED"),
        ]
        return [self.signed(json.dumps(events).encode(), url, at)]

    def signed(self, body: bytes, url: str, at: datetime) -> Request:
        """See `fake.Hook`."""
        sent = str(int(at.timestamp() * 1000))
        mac = hmac.new(SECRET.encode(), f"POST{url}".encode() + body + sent.encode(), hashlib.sha256).digest()
        headers = {
            "content-type": "application/json",
            "x-hubspot-request-timestamp": sent,
            "x-hubspot-signature-v3": base64.b64encode(mac).decode(),
        }
        return Request(method="POST", url=url, headers=headers, query={}, body=body, received_at=at)

    def _refusal(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return refusal(401, "INVALID_AUTHENTICATION", "Authentication credentials not found.")
        return None

    async def _search(self, request: web.Request) -> web.Response:
        if no := self._refusal(request):
            return no
        asked = await request.json()
        size, start = asked.get("limit", 10), int(asked.get("after", 0))
        if set(asked) - {"filterGroups", "sorts", "query", "properties", "limit", "after"} or not 1 <= size <= 200:
            return refusal(400, "VALIDATION_ERROR", "limit must be at most 200")
        if start + size > self.deepest:
            return refusal(400, "VALIDATION_ERROR", "paging beyond 10,000 results")
        (wanted,) = asked["filterGroups"][0]["filters"]
        found = sorted(self._tickets.values(), key=lambda one: (one["updatedAt"], int(one["id"])))
        if wanted["propertyName"] == "associations.contact":
            found = [one for one in found if self.contacts.get(one["id"]) == wanted["value"]]
        else:
            least = int(wanted["value"])
            found = [one for one in found if datetime.fromisoformat(one["updatedAt"]).timestamp() * 1000 >= least]
        page = [shown(one, asked["properties"]) for one in found[start : start + size]]
        answer: dict[str, Any] = {"total": len(found), "results": page}
        if start + size < len(found):
            answer["paging"] = {"next": {"after": str(start + size)}}
        return web.json_response(answer)

    async def _batch(self, request: web.Request) -> web.Response:
        if no := self._refusal(request):
            return no
        asked = await request.json()
        wanted = [one["id"] for one in asked["inputs"]]
        if len(wanted) > 100 or set(asked) - {"inputs", "properties", "idProperty", "propertiesWithHistory"}:
            return refusal(400, "VALIDATION_ERROR", "at most 100 inputs")
        found = [shown(self._tickets[key], asked["properties"]) for key in wanted if key in self._tickets]
        status = 200 if len(found) == len(wanted) else 207
        return web.json_response({"status": "COMPLETE", "results": found}, status=status)


def _too_many() -> web.Response:
    return refusal(429, "RATE_LIMIT", "You have reached your secondly limit.")


def iso(at: datetime) -> str:
    """A time as HubSpot writes it."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def shown(record: dict[str, Any], properties: Sequence[str]) -> dict[str, Any]:
    """A record with the properties that were asked for."""
    always = {"createdate", "hs_lastmodifieddate", "hs_object_id"}
    found = {key: value for key, value in record["properties"].items() if key in always | set(properties)}
    return {**record, "properties": found}


def ticket(said: Said) -> dict[str, Any]:
    """A ticket."""
    return {
        "id": str(int(said.id)),
        "properties": {
            "subject": "", "content": said.text, "createdate": iso(said.at), "hs_lastmodifieddate": iso(said.at),
            "hs_object_id": str(int(said.id)), "closed_date": "", "first_agent_reply_date": None,
            "source_type": "EMAIL", "hs_pipeline_stage": "1",
        },
        "createdAt": iso(said.at),
        "updatedAt": iso(said.at),
        "archived": False,
    }  # fmt: skip


def event(kind: str, id: str, at: datetime, **more: Any) -> dict[str, Any]:
    """An event of a webhook."""
    return {
        "eventId": 100, "subscriptionId": 12345, "portalId": 62515, "appId": 54321,
        "occurredAt": int(at.timestamp() * 1000), "subscriptionType": kind, "attemptNumber": 0, "objectId": int(id),
        "changeSource": "CRM", **more,
    }  # fmt: skip


def refusal(status: int, category: str, message: str) -> web.Response:
    """A refusal in HubSpot's form."""
    error = {"status": "error", "message": message, "category": category, "correlationId": "aeb5f871"}
    return web.json_response(error, status=status)
