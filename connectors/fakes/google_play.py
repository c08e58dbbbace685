"""Google Play's rules: a service account's signed JWT, seven days, reviews with text, the last change first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from aiohttp import web

from connectors.connector import Clock
from connectors.fakes.fake import Said, Verb, unknown
from connectors.fakes.limit import Limit
from connectors.fakes.oauth import JWT_GRANT, TokenEndpoint, claims_of, in_time, pem_of, utc_now

PACKAGE = "uz.example.app"
ACCOUNT = "reviews@example.iam.gserviceaccount.com"
SCOPE = "https://www.googleapis.com/auth/androidpublisher"


@cache
def _key() -> tuple[str, Any]:
    return pem_of("RS256")


class FakeGooglePlay:
    """See `fake.Fake`."""

    can: frozenset[Verb] = frozenset({"edit", "since"})

    def __init__(self) -> None:
        self.limits = [Limit(200, 3_600, _too_many, path="/reviews")]
        self.now: Clock = utc_now
        self._reviews: dict[str, dict[str, Any]] = {}
        self._url = ""
        self.tokens = TokenEndpoint(JWT_GRANT, self._may)

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secrets."""
        key = {"type": "service_account", "client_email": ACCOUNT, "private_key_id": "k1", "private_key": _key()[0]}
        return {"PLAY_KEY": json.dumps(key)}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        self._url = url
        return {
            "package": PACKAGE,
            "service_account_key": "env:PLAY_KEY",
            "token_url": f"{url}/token",
            "base_url": url,
        }

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Tokens and reviews."""
        path = f"/androidpublisher/v3/applications/{PACKAGE}/reviews"
        return [web.post("/token", self.tokens.answer), web.get(path, self._list)]

    def say(self, said: Said) -> None:
        """A review."""
        comment = {
            "text": said.text,
            "lastModified": _time(said.at),
            "starRating": said.rating,
            "reviewerLanguage": said.language,
            "device": "a51",
            "androidOsVersion": 33,
            "appVersionCode": 42,
            "appVersionName": "4.2.0",
        }
        self._reviews[said.id] = {
            "reviewId": said.id,
            "authorName": said.author,
            "comments": [{"userComment": comment}],
        }

    def edit(self, id: str, text: str, at: datetime) -> None:
        """The same review, changed now."""
        self._reviews[id]["comments"][0]["userComment"] |= {"text": text, "lastModified": _time(at)}

    def delete(self, id: str, at: datetime) -> None:
        """It is listed no more."""
        self._reviews.pop(id, None)

    def expire(self) -> None:
        """Page tokens are not kept."""

    def _may(self, form: Mapping[str, str], basic: tuple[str, str] | None) -> bool:
        claims = claims_of(form.get("assertion", ""), _key()[1], "RS256", f"{self._url}/token")
        return bool(claims and claims["iss"] == ACCOUNT and claims.get("scope") == SCOPE
                    and in_time(claims, self.now(), 3_600))  # fmt: skip

    async def _list(self, request: web.Request) -> web.Response:
        if not self.tokens.knows(request):
            return web.json_response({"error": {"code": 401, "message": "Invalid Credentials"}}, status=401)
        if refusal := unknown(request, "maxResults token startIndex translationLanguage"):
            return refusal
        size, start = int(request.query.get("maxResults", "10")), int(request.query.get("token", "0"))
        if not 1 <= size <= 100:
            return web.json_response({"error": {"code": 400, "message": "Invalid maxResults"}}, status=400)
        edge = (self.now() - timedelta(days=7)).timestamp()
        recent = [review for review in self._reviews.values() if _seconds(review) >= edge]
        order = sorted(recent, key=lambda review: (_seconds(review), review["reviewId"]), reverse=True)
        answer: dict[str, Any] = {"reviews": order[start : start + size]} if order else {}
        if start + size < len(order):
            answer["tokenPagination"] = {"nextPageToken": str(start + size)}
        return web.json_response(answer)


def _too_many() -> web.Response:
    error = {"code": 429, "message": "Quota exceeded for quota metric", "status": "RESOURCE_EXHAUSTED"}
    return web.json_response({"error": error}, status=429)


def _seconds(review: Mapping[str, Any]) -> int:
    return int(review["comments"][0]["userComment"]["lastModified"]["seconds"])


def _time(at: datetime) -> dict[str, Any]:
    return {"seconds": str(int(at.timestamp())), "nanos": at.microsecond * 1_000}
