"""Dataverse's rules: client credentials, pages by `Prefer`, delta links that expire, webhooks with a key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from connectors.connector import Request
from connectors.fakes.fake import Covered, Said, Verb
from connectors.fakes.limit import Limit
from connectors.fakes.oauth import TokenEndpoint

TENANT = "00000000-0000-0000-0000-000000000000"
CLIENT, SECRET = "11111111-1111-1111-1111-111111111111", "dynamics-secret"
HOOK = "dynamics-hook-key"
SET = "/api/data/v9.2/incidents"


class FakeDynamics:
    """See `fake.Fake`."""

    can: frozenset[Verb] = frozenset({"edit", "delete", "expire", "since"})
    covers: frozenset[Covered] = frozenset()

    def __init__(self) -> None:
        self.limits = [Limit(6_000, 300, _too_many, path="/api/data/", told=True)]
        self.tracking = True
        self._cases: dict[str, dict[str, Any]] = {}
        self._changes: list[tuple[str, bool]] = []
        self._epoch = 0
        self._tokens = TokenEndpoint("client_credentials", lambda form, basic: basic == (CLIENT, SECRET))

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secrets."""
        return {"DYNAMICS_SECRET": SECRET, "DYNAMICS_HOOK": HOOK}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {
            "base_url": url,
            "tenant": TENANT,
            "client_id": CLIENT,
            "client_secret": "env:DYNAMICS_SECRET",
            "hook_key": "env:DYNAMICS_HOOK",
            "login_url": url,
        }

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Token, the table, one record."""
        return [
            web.post(f"/{TENANT}/oauth2/v2.0/token", self._tokens.answer),
            web.get(SET, self._list),
            web.get(SET + "({id})", self._one),
        ]

    def say(self, said: Said) -> None:
        """A case."""
        self._cases[guid(said.id)] = case(said)
        self._changes.append((guid(said.id), False))

    def edit(self, id: str, text: str, at: datetime) -> None:
        """Its description changes."""
        self._cases[guid(id)] |= {"description": text, "modifiedon": iso(at)}
        self._changes.append((guid(id), False))

    def delete(self, id: str, at: datetime) -> None:
        """It is deleted."""
        del self._cases[guid(id)]
        self._changes.append((guid(id), True))

    def expire(self) -> None:
        """Delta links given so far are too old."""
        self._epoch += 1

    def deliveries(self, said: Said, url: str, at: datetime) -> Sequence[Request]:
        """See `fake.Hook`: the execution context of a Create."""
        body = {
            "BusinessUnitId": "9ba35c25-b892-ee11-be37-000d3a58ee1e", "Depth": 1, "MessageName": "Create", "Mode": 1,
            "OperationCreatedOn": f"/Date({int(at.timestamp() * 1000)}+0000)/", "PrimaryEntityId": guid(said.id),
            "PrimaryEntityName": "incident", "Stage": 40, "InputParameters": [],
        }  # fmt: skip
        return [self.signed(json.dumps(body).encode(), url, at)]

    def signed(self, body: bytes, url: str, at: datetime) -> Request:
        """See `fake.Hook`: a key in the address, which covers nothing."""
        headers = {"content-type": "application/json", "x-request-id": "r1", "x-ms-dynamics-entity-name": "incident"}
        return Request(
            method="POST", url=f"{url}?code={HOOK}", headers=headers, query={"code": HOOK}, body=body, received_at=at
        )

    async def _list(self, request: web.Request) -> web.Response:
        if not self._tokens.knows(request):
            return refusal(401, "0x80072560", "The user is not a member of the organization.")
        query = request.query
        if set(query) - {"$select", "$skiptoken", "$deltatoken"}:
            return refusal(400, "0x80060888", "query options beside $select are not supported with track-changes")
        prefer = dict(part.strip().partition("=")[::2] for part in request.headers.get("Prefer", "").split(","))
        size = int(prefer.get("odata.maxpagesize", 5_000))
        if "$deltatoken" in query:
            epoch, at, start = map(int, query["$deltatoken"].split("."))
            if epoch != self._epoch:
                return refusal(400, "0x80044352", "The version stamp associated with the client has expired.")
            found = self._since(at)
        else:
            at, start = map(int, query.get("$skiptoken", f"{len(self._changes)}.0").split("."))
            found = [one for _, one in sorted(self._cases.items())]
        page = found[start : start + size]
        answer: dict[str, Any] = {"@odata.context": f"{request.url.origin()}/api/data/v9.2/$metadata#incidents"}
        if "$deltatoken" in query:
            answer["@odata.context"] += "/$delta"
        select = f"$select={query['$select']}&" if "$select" in query else ""
        if start + size < len(found):
            token = f"$deltatoken={self._epoch}.{at}.{start + size}" if "$deltatoken" in query else (
                f"$skiptoken={at}.{start + size}")  # fmt: skip
            answer["@odata.nextLink"] = f"{request.url.origin()}{SET}?{select}{token}"
        elif self.tracking and ("odata.track-changes" in prefer or query.keys() & {"$deltatoken", "$skiptoken"}):
            now = len(self._changes) if "$deltatoken" in query else at
            answer["@odata.deltaLink"] = f"{request.url.origin()}{SET}?{select}$deltatoken={self._epoch}.{now}.0"
        return web.json_response({**answer, "value": page})

    def _since(self, at: int) -> list[dict[str, Any]]:
        newest = dict(self._changes[at:])
        context = "https://acme.crm.dynamics.com/api/data/v9.2/$metadata#incidents/$deletedEntity"
        return [
            {"@odata.context": context, "id": key, "reason": "deleted"} if deleted else self._cases[key]
            for key, deleted in newest.items()
        ]

    async def _one(self, request: web.Request) -> web.Response:
        if not self._tokens.knows(request):
            return refusal(401, "0x80072560", "The user is not a member of the organization.")
        found = self._cases.get(request.match_info["id"])
        return web.json_response(found) if found else refusal(404, "0x80040217", "Entity 'incident' does not exist")


def _too_many() -> web.Response:
    error = {"code": "0x80072322", "message": "Number of requests exceeded the limit of 6000 over 300 seconds."}
    return web.json_response({"error": error}, status=429)


def iso(at: datetime) -> str:
    """A time as Dataverse writes it."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def guid(id: str) -> str:
    """The key of a case."""
    return f"00000000-0000-0000-0001-{id.zfill(12)}"


def case(said: Said) -> dict[str, Any]:
    """A case."""
    return {
        "@odata.etag": 'W/"5030496"', "incidentid": guid(said.id), "title": None, "description": said.text,
        "createdon": iso(said.at), "modifiedon": iso(said.at), "statecode": 0, "caseorigincode": 3,
        "customersatisfactioncode": None, "_customerid_value": "7d577253-3ef0-4a0a-bb7f-8335c2596e70",
    }  # fmt: skip


def refusal(status: int, code: str, message: str) -> web.Response:
    """A refusal in OData's form."""
    return web.json_response({"error": {"code": code, "message": message}}, status=status)
