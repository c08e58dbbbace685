"""Zoho CRM's rules: refresh token, its own scheme, 304 and 204 for nothing, pages of 200, channels that end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from aiohttp import web

from connectors.connector import Request
from connectors.fakes.fake import Covered, Said, Verb, unknown
from connectors.fakes.oauth import TokenEndpoint, utc_now

CLIENT, SECRET, REFRESH = "1000.ABCDEF", "zoho-secret", "1000.refresh"
HOOK = "TOKEN_FOR_VERIFICATION_OF_1000000068001"
CHANNEL = 1_000_000_068_001
TASHKENT = timezone(timedelta(hours=5))


class FakeZoho:
    """See `fake.Fake`. `channels`: number → what was asked for. `refuse_channels`: no more of them."""

    can: frozenset[Verb] = frozenset({"edit", "delete", "since"})
    covers: frozenset[Covered] = frozenset()

    def __init__(self) -> None:
        self.now: Callable[[], datetime] = utc_now
        self.channels: dict[int, dict[str, Any]] = {}
        self.refuse_channels = False
        self._cases: dict[str, dict[str, Any]] = {}
        self._deleted_cases: list[dict[str, Any]] = []
        self._tokens = TokenEndpoint("refresh_token", lambda form, _: (
            form.get("client_id"), form.get("client_secret"), form.get("refresh_token")
        ) == (CLIENT, SECRET, REFRESH))  # fmt: skip

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secrets."""
        return {"ZOHO_SECRET": SECRET, "ZOHO_REFRESH": REFRESH, "ZOHO_HOOK": HOOK}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {
            "client_id": CLIENT,
            "client_secret": "env:ZOHO_SECRET",
            "refresh_token": "env:ZOHO_REFRESH",
            "hook_token": "env:ZOHO_HOOK",
            "channel_id": CHANNEL,
            "base_url": url,
            "accounts_url": url,
        }

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Token, records, deleted records, channels."""
        return [
            web.post("/oauth/v2/token", self._tokens.answer),
            web.get("/crm/v8/Cases", self._list),
            web.get("/crm/v8/Cases/deleted", self._gone),
            web.post("/crm/v8/actions/watch", self._watch),
        ]

    def say(self, said: Said) -> None:
        """A case."""
        self._cases[said.id] = case(said)

    def edit(self, id: str, text: str, at: datetime) -> None:
        """Its description changes."""
        self._cases[id] |= {"Description": text, "Modified_Time": iso(at)}

    def delete(self, id: str, at: datetime) -> None:
        """It goes to the recycle bin."""
        key = self._cases.pop(id)["id"]
        self._deleted_cases.append({"id": key, "deleted_time": iso(at), "type": "recycle", "display_name": None})

    def expire(self) -> None:
        """Listings start anew each time."""

    def deliveries(self, said: Said, url: str, at: datetime) -> Sequence[Request]:
        """See `fake.Hook`."""
        body = {
            "server_time": int(at.timestamp() * 1000),
            "query_params": {"secret": HOOK},
            "module": "Cases",
            "resource_uri": "https://www.zohoapis.com/crm/v8/Cases",
            "ids": [case(said)["id"]],
            "affected_fields": [],
            "operation": "insert",
            "channel_id": str(CHANNEL),
            "token": HOOK,
        }
        return [self.signed(json.dumps(body).encode(), url, at)]

    def signed(self, body: bytes, url: str, at: datetime) -> Request:
        """See `fake.Hook`: the secret stands in the address, and the token in the body."""
        return Request(
            method="POST", url=f"{url}?secret={HOOK}", headers={"content-type": "application/json"},
            query={"secret": HOOK}, body=body, received_at=at,
        )  # fmt: skip

    def _refusal(self, request: web.Request) -> web.Response | None:
        if not self._tokens.knows(request, "zoho-oauthtoken"):
            return refusal(401, "INVALID_TOKEN", "invalid oauth token")
        return None

    async def _list(self, request: web.Request) -> web.Response:
        known = "fields ids per_page page page_token sort_by sort_order cvid"
        if no := self._refusal(request) or unknown(request, known):
            return no
        query, page = request.query, int(request.query.get("page", 1))
        if "fields" not in query or len(query["fields"].split(",")) > 50:
            return refusal(400, "REQUIRED_PARAM_MISSING", "fields")
        found = sorted(self._cases.values(), key=lambda one: (one["Modified_Time"], one["id"]))
        if "ids" in query:
            found = [one for one in found if one["id"] in query["ids"].split(",")]
        return self._page(request, found, "Modified_Time", page, query["fields"].split(","))

    async def _gone(self, request: web.Request) -> web.Response:
        if no := self._refusal(request) or unknown(request, "type per_page page"):
            return no
        return self._page(request, self._deleted_cases, "deleted_time", int(request.query.get("page", 1)), None)

    def _page(
        self, request: web.Request, found: list[dict[str, Any]], time: str, page: int, names: Sequence[str] | None
    ) -> web.Response:
        size = int(request.query.get("per_page", 200))
        if not 1 <= size <= 200 or page > 10:
            return refusal(400, "INVALID_DATA", "per_page is at most 200, page at most 10")
        if since := request.headers.get("If-Modified-Since"):
            found = [one for one in found if datetime.fromisoformat(one[time]) >= datetime.fromisoformat(since)]
            if not found:
                return web.Response(status=304)
        if not found:
            return web.Response(status=204)
        listed = found[(page - 1) * size : page * size]
        shown = [{k: v for k, v in one.items() if names is None or k == "id" or k in names} for one in listed]
        info = {"per_page": size, "count": len(shown), "page": page, "more_records": page * size < len(found)}
        return web.json_response({"data": shown, "info": info})

    async def _watch(self, request: web.Request) -> web.Response:
        if no := self._refusal(request):
            return no
        if self.refuse_channels:
            return refusal(400, "INVALID_DATA", "the limit of channels is exceeded")
        made = []
        for watch in (await request.json())["watch"]:
            if len(watch["token"]) > 50 or datetime.fromisoformat(watch["channel_expiry"]) <= self.now():
                return refusal(400, "INVALID_DATA", "token has at most 50 characters, channel_expiry is to come")
            self.channels[watch["channel_id"]] = watch
            made.append({"code": "SUCCESS", "details": {"events": []}, "message": "subscribed", "status": "success"})
        return web.json_response({"watch": made}, status=201)


def iso(at: datetime) -> str:
    """A time as Zoho writes it: in the zone of the organisation."""
    return at.astimezone(TASHKENT).isoformat(timespec="seconds")


def case(said: Said) -> dict[str, Any]:
    """A case."""
    return {
        "id": f"4150868000000{said.id}", "Subject": None, "Description": said.text, "Status": "New",
        "Created_Time": iso(said.at), "Modified_Time": iso(said.at), "Email": "dilnoza@example.com",
        "Case_Origin": "Web", "Account_Name": {"name": "Acme", "id": "4150868000000111001"},
    }  # fmt: skip


def refusal(status: int, code: str, message: str) -> web.Response:
    """A refusal in Zoho's form."""
    return web.json_response({"code": code, "details": {}, "message": message, "status": "error"}, status=status)
