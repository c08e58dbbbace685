"""SurveyMonkey's rules: bearer token, pages of at most 100, a daily quota in headers, callbacks with ids only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from connectors.connector import Request
from connectors.fakes.fake import Covered, Handshake, Said, Verb, unknown
from connectors.fakes.limit import Limit, told

TOKEN = "surveymonkey-token"
CLIENT = "yourClientId"
SECRET = "surveymonkey-secret"
SURVEY = "123456789"
SCORE, WHY = "84829501", "84829502"
APP = "X-Ratelimit-App-Global"


class FakeSurveyMonkey:
    """See `fake.Fake`."""

    can: frozenset[Verb] = frozenset({"edit", "since"})
    covers: frozenset[Covered] = frozenset({"body"})

    def __init__(self) -> None:
        day = told(f"{APP}-Day-Remaining", f"{APP}-Day-Reset", "seconds", f"{APP}-Day-Limit")
        minute = told(f"{APP}-Minute-Remaining", f"{APP}-Minute-Reset", "seconds", f"{APP}-Minute-Limit")
        self.limits = [Limit(120, 60, _too_many, minute), Limit(500, 86_400, _too_many, day)]
        self._responses: dict[str, dict[str, Any]] = {}

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secrets."""
        return {"SURVEYMONKEY_TOKEN": TOKEN, "SURVEYMONKEY_SECRET": SECRET}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {
            "survey": SURVEY,
            "token": "env:SURVEYMONKEY_TOKEN",
            "client_id": CLIENT,
            "client_secret": "env:SURVEYMONKEY_SECRET",
            "scores": {SCORE: "nps"},
            "base_url": url,
        }

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The responses in bulk, and one."""
        return [
            web.get(f"/v3/surveys/{SURVEY}/responses/bulk", self._bulk),
            web.get(f"/v3/surveys/{SURVEY}/responses/{{id}}/details", self._one),
        ]

    def say(self, said: Said) -> None:
        """A response."""
        self._responses[said.id] = response(said)

    def edit(self, id: str, text: str, at: datetime) -> None:
        """The respondent comes back to it."""
        self._responses[id]["pages"][0]["questions"][1]["answers"][0]["text"] = text
        self._responses[id]["date_modified"] = at.isoformat()

    def delete(self, id: str, at: datetime) -> None:
        """It is listed no more."""
        self._responses.pop(id, None)

    def expire(self) -> None:
        """Listings have no cursors."""

    def deliveries(self, said: Said, url: str, at: datetime) -> Sequence[Request]:
        """See `fake.Hook`."""
        body = {
            "name": "My Webhook",
            "filter_type": "survey",
            "filter_id": SURVEY,
            "event_type": "response_completed",
            "event_id": "10027243880",
            "object_type": "response",
            "object_id": said.id,
            "event_datetime": at.isoformat(),
            "resources": {"respondent_id": said.id, "survey_id": SURVEY, "collector_id": "1", "user_id": "1"},
        }
        return [self.signed(json.dumps(body).encode(), url, at)]

    def signed(self, body: bytes, url: str, at: datetime) -> Request:
        """See `fake.Hook`."""
        mac = hmac.new(f"{CLIENT}&{SECRET}".encode(), body, hashlib.sha1).digest()
        headers = {
            "content-type": "application/json",
            "sm-apikey": CLIENT,
            "sm-signature": base64.b64encode(mac).decode(),
        }
        return Request(method="POST", url=url, headers=headers, query={}, body=body, received_at=at)

    def handshakes(self, url: str, at: datetime) -> Sequence[Handshake]:
        """See `fake.Registering`."""
        head = Request(method="HEAD", url=url, headers={}, query={}, body=b"", received_at=at)
        return [Handshake(request=head)]

    def _refusal(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return refusal(401, "1010", "The authorization token provided was invalid.")
        return None

    async def _bulk(self, request: web.Request) -> web.Response:
        known = "page per_page simple start_created_at end_created_at start_modified_at end_modified_at status"
        if no := self._refusal(request) or unknown(request, known + " sort_by sort_order"):
            return no
        query, page, size = request.query, int(request.query.get("page", 1)), int(request.query.get("per_page", 50))
        if not 1 <= size <= 100 or query.get("sort_by") != "date_modified" or query.get("sort_order") != "ASC":
            return refusal(400, "1002", "Invalid arguments: per_page is at most 100")
        start = datetime.fromisoformat(query["start_modified_at"]).replace(tzinfo=UTC)
        found = [one for one in self._responses.values() if datetime.fromisoformat(one["date_modified"]) > start]
        found.sort(key=lambda one: (one["date_modified"], one["id"]))
        links = {"self": str(request.url)}
        if page * size < len(found):
            links["next"] = str(request.url.update_query(page=page + 1))
        listed = found[(page - 1) * size : page * size]
        answer = {"data": listed, "per_page": size, "page": page, "total": len(found), "links": links}
        return web.json_response(answer)

    async def _one(self, request: web.Request) -> web.Response:
        if no := self._refusal(request) or unknown(request, "simple"):
            return no
        found = self._responses.get(request.match_info["id"])
        return web.json_response(found) if found else refusal(404, "1020", "There was an error retrieving the response")


def _too_many() -> web.Response:
    error = {"id": "1040", "name": "Rate limit reached", "http_status_code": 429}
    return web.json_response({"error": error}, status=429)


def response(said: Said) -> dict[str, Any]:
    """A response with its answers."""
    return {
        "id": said.id,
        "survey_id": SURVEY,
        "collector_id": "446111201",
        "recipient_id": "",
        "response_status": "completed",
        "total_time": 12,
        "custom_value": "",
        "email_address": "",
        "ip_address": "192.0.2.7",
        "custom_variables": {},
        "metadata": {"contact": {}},
        "date_created": said.at.isoformat(),
        "date_modified": said.at.isoformat(),
        "href": f"https://api.surveymonkey.com/v3/surveys/{SURVEY}/responses/{said.id}",
        "pages": [
            {
                "id": "30306028",
                "questions": [
                    {
                        "id": SCORE, "family": "matrix", "subtype": "rating", "heading": "How likely…",
                        "answers": [{"choice_id": "651972985", "row_id": "1", "choice_metadata": {"weight": "7"},
                                     "simple_text": "7"}],
                    },
                    {"id": WHY, "family": "open_ended", "subtype": "essay", "answers": [{"text": said.text}]},
                ],
            }
        ],
    }  # fmt: skip


def refusal(status: int, id: str, message: str) -> web.Response:
    """A refusal in SurveyMonkey's form."""
    error = {"id": id, "name": "Error", "message": message, "http_status_code": status}
    return web.json_response({"error": error}, status=status)
