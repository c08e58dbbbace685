"""Zendesk's rules: API token, an export that withholds the last minute, ten requests a minute, signed hooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from connectors.connector import Request
from connectors.fakes.fake import Covered, Said, Verb, unknown
from connectors.fakes.limit import Limit
from connectors.fakes.oauth import utc_now

EMAIL = "ovoz@acme.example"
TOKEN = "zendesk-token"
SECRET = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ=="
BASIC = base64.b64encode(f"{EMAIL}/token:{TOKEN}".encode()).decode()
CUSTOMER, AGENT = 20978392, 235323


class FakeZendesk:
    """See `fake.Fake`. `largest`: tickets it gives at once.
    `own_clock`: it dates all changes itself."""

    can: frozenset[Verb] = frozenset({"edit", "delete", "since"})
    covers: frozenset[Covered] = frozenset({"body", "time"})
    own_clock = True

    def __init__(self) -> None:
        self.now: Callable[[], datetime] = utc_now
        self.limits = [Limit(10, 60, _too_many, path="/incremental/", told=True)]
        self.largest = 80
        self._tickets: dict[str, dict[str, Any]] = {}
        self._audits: dict[str, list[dict[str, Any]]] = {}

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secrets."""
        return {"ZENDESK_TOKEN": TOKEN, "ZENDESK_SIGNING_SECRET": SECRET}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {
            "subdomain": "acme",
            "email": EMAIL,
            "api_token": "env:ZENDESK_TOKEN",
            "signing_secret": "env:ZENDESK_SIGNING_SECRET",
            "base_url": url,
        }

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The export, a ticket, its audits."""
        return [
            web.get("/api/v2/incremental/tickets/cursor.json", self._export),
            web.get("/api/v2/tickets/{id:\\d+}.json", self._one),
            web.get("/api/v2/tickets/{id:\\d+}/audits.json", self._history),
        ]

    def say(self, said: Said) -> None:
        """A customer's ticket."""
        key = str(int(said.id))
        self._tickets[key] = ticket(said)
        self._audits[key] = [audit(said)]

    def edit(self, id: str, text: str, at: datetime) -> None:
        """Part of the first comment is redacted."""
        key = str(int(id))
        comment = self._audits[key][0]["events"][0]
        comment |= {"body": text, "plain_body": text}
        event = {"id": 9_000_000 + int(id), "type": "CommentRedactionEvent", "comment_id": comment["id"]}
        self._audits[key].append({"id": 8_000_000 + int(id), "created_at": iso(at), "events": [event]})
        self._touch(key, at)

    def reply(self, id: str, said: Said) -> None:
        """The customer writes again in the ticket `id`."""
        key = str(int(id))
        again = audit(said)
        self._audits[key].append({**again, "events": again["events"][:1]})
        self._touch(key, said.at)

    def delete(self, id: str, at: datetime) -> None:
        """A deleted ticket is exported as such."""
        self._tickets[str(int(id))] |= {"status": "deleted", "subject": "SCRUBBED", "description": "SCRUBBED"}
        self._touch(str(int(id)), at)

    def expire(self) -> None:
        """Its cursors stay good."""

    def deliveries(self, said: Said, url: str, at: datetime) -> Sequence[Request]:
        """See `fake.Hook`: an event subscription, and a trigger."""
        event = {
            "account_id": 22129848,
            "detail": {"id": str(int(said.id)), "requester_id": str(CUSTOMER), "status": "NEW"},
            "event": {},
            "id": "cbe4028c-7239-495d-b020-f22348516046",
            "subject": f"zen:ticket:{int(said.id)}",
            "time": iso(at),
            "type": "zen:event-type:ticket.created",
            "zendesk_event_version": "2022-11-06",
        }
        trigger = {"ticket_id": str(int(said.id))}
        return [self.signed(json.dumps(body).encode(), url, at) for body in (event, trigger)]

    def signed(self, body: bytes, url: str, at: datetime) -> Request:
        """See `fake.Hook`."""
        mac = hmac.new(SECRET.encode(), iso(at).encode() + body, hashlib.sha256).digest()
        headers = {
            "content-type": "application/json",
            "x-zendesk-webhook-signature": base64.b64encode(mac).decode(),
            "x-zendesk-webhook-signature-timestamp": iso(at),
            "x-zendesk-webhook-id": "01F1KRFQ6BG29CNWFR60NK5FNY",
        }
        return Request(method="POST", url=url, headers=headers, query={}, body=body, received_at=at)

    def _touch(self, key: str, at: datetime) -> None:
        self._tickets[key] |= {"updated_at": iso(at), "generated_timestamp": int(at.timestamp())}

    def _refusal(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != f"Basic {BASIC}":
            return web.json_response({"error": "Couldn't authenticate you"}, status=401)
        return None

    async def _export(self, request: web.Request) -> web.Response:
        now = self.now()
        if no := self._refusal(request) or unknown(request, "start_time cursor per_page include exclude_deleted"):
            return no
        size = min(int(request.query.get("per_page", 1_000)), self.largest)
        if "cursor" in request.query:
            after = tuple(map(int, base64.b64decode(request.query["cursor"]).decode().split("||")))
        else:
            start = int(request.query["start_time"])
            if start > now.timestamp() - 60:
                return web.json_response({"error": "StartTimeTooRecent"}, status=422)
            after = (start - 1, 2**62)
        told = sorted(
            ((one["generated_timestamp"], one["id"]), one)
            for one in self._tickets.values()
            if one["generated_timestamp"] <= now.timestamp() - 60
        )  # fmt: skip
        rest = [(place, one) for place, one in told if place > after]
        page = rest[:size]
        last = page[-1][0] if page else after
        return web.json_response(
            {
                "tickets": [one for _, one in page],
                "after_cursor": base64.b64encode("||".join(map(str, last)).encode()).decode(),
                "after_url": None,
                "before_cursor": None,
                "end_of_stream": len(rest) <= size,
            }
        )

    async def _one(self, request: web.Request) -> web.Response:
        if no := self._refusal(request):
            return no
        found = self._tickets.get(request.match_info["id"])
        if found is None or found["status"] == "deleted":
            return web.json_response({"error": "RecordNotFound", "description": "Not found"}, status=404)
        return web.json_response({"ticket": found})

    async def _history(self, request: web.Request) -> web.Response:
        if no := self._refusal(request) or unknown(request, "page[size] page[after]"):
            return no
        found = self._audits.get(request.match_info["id"], [])
        size, start = int(request.query.get("page[size]", 100)), int(request.query.get("page[after]", 0))
        if size > 100:
            return web.json_response({"error": "page size must be at most 100"}, status=400)
        more = start + size < len(found)
        following = f"{request.path}?page[size]={size}&page[after]={start + size}"
        return web.json_response(
            {
                "audits": found[start : start + size],
                "meta": {"has_more": more},
                "links": {"next": str(request.url.origin()) + following if more else None},
            }
        )


def _too_many() -> web.Response:
    return web.json_response({"error": "TooManyRequests"}, status=429)


def iso(at: datetime) -> str:
    """A time as Zendesk writes it."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def ticket(said: Said) -> dict[str, Any]:
    """A ticket of the export."""
    return {
        "id": int(said.id),
        "url": f"https://acme.zendesk.com/api/v2/tickets/{int(said.id)}.json",
        "created_at": iso(said.at),
        "updated_at": iso(said.at),
        "generated_timestamp": int(said.at.timestamp()),
        "subject": said.text[:20],
        "description": said.text,
        "status": "new",
        "requester_id": CUSTOMER,
        "submitter_id": CUSTOMER,
        "via": {"channel": "web"},
        "satisfaction_rating": {"score": "unoffered"},
        "tags": [],
    }


def audit(said: Said) -> dict[str, Any]:
    """The audit with which a ticket begins."""
    comment = {
        "id": 1_000_000 + int(said.id), "type": "Comment", "author_id": CUSTOMER, "body": said.text,
        "html_body": f"<p>{said.text}</p>", "plain_body": said.text, "public": True, "attachments": [],
    }  # fmt: skip
    opened = {"id": 2_000_000 + int(said.id), "type": "Create", "field_name": "status", "value": "new"}
    return {
        "id": 3_000_000 + int(said.id), "ticket_id": int(said.id), "created_at": iso(said.at), "author_id": CUSTOMER,
        "events": [comment, opened],
    }  # fmt: skip
