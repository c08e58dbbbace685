"""Google Business Profile's rules: refresh token, pages of at most 50, in order of the last change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from connectors.fakes.fake import Said, Verb, unknown
from connectors.fakes.limit import Limit
from connectors.fakes.oauth import TokenEndpoint

LOCATION = "accounts/1234/locations/5678"
CLIENT, SECRET, REFRESH = "1234.apps.googleusercontent.com", "client-secret", "refresh-token"
STARS = ("ONE", "TWO", "THREE", "FOUR", "FIVE")


class FakeGoogleBusiness:
    """See `fake.Fake`."""

    can: frozenset[Verb] = frozenset({"edit", "since"})

    def __init__(self) -> None:
        self.limits = [Limit(300, 60, _too_many, path="/reviews")]
        self._reviews: dict[str, dict[str, Any]] = {}
        self.tokens = TokenEndpoint("refresh_token", self._may)

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secrets."""
        return {"GOOGLE_CLIENT_SECRET": SECRET, "GOOGLE_REFRESH_TOKEN": REFRESH}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {
            "location": LOCATION,
            "client_id": CLIENT,
            "client_secret": "env:GOOGLE_CLIENT_SECRET",
            "refresh_token": "env:GOOGLE_REFRESH_TOKEN",
            "token_url": f"{url}/token",
            "base_url": url,
        }

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Tokens and reviews."""
        return [web.post("/token", self.tokens.answer), web.get(f"/v4/{LOCATION}/reviews", self._list)]

    def say(self, said: Said) -> None:
        """A review."""
        at = _iso(said.at)
        self._reviews[said.id] = {
            "name": f"{LOCATION}/reviews/{said.id}",
            "reviewId": said.id,
            "reviewer": {"displayName": said.author, "profilePhotoUrl": "https://lh3.example/p"},
            "starRating": STARS[said.rating - 1],
            "comment": said.text,
            "createTime": at,
            "updateTime": at,
        }

    def edit(self, id: str, text: str, at: datetime) -> None:
        """An edited review goes to the top."""
        self._reviews[id] |= {"comment": text, "updateTime": _iso(at)}

    def delete(self, id: str, at: datetime) -> None:
        """It is listed no more."""
        self._reviews.pop(id, None)

    def expire(self) -> None:
        """Page tokens are not kept."""

    def _may(self, form: Mapping[str, str], basic: tuple[str, str] | None) -> bool:
        given = (form.get("client_id"), form.get("client_secret"), form.get("refresh_token"))
        return given == (CLIENT, SECRET, REFRESH)

    async def _list(self, request: web.Request) -> web.Response:
        if not self.tokens.knows(request):
            error = {"code": 401, "message": "invalid authentication credentials", "status": "UNAUTHENTICATED"}
            return web.json_response({"error": error}, status=401)
        if refusal := unknown(request, "pageSize pageToken orderBy"):
            return refusal
        size, start = int(request.query.get("pageSize", "50")), int(request.query.get("pageToken", "0"))
        if not 1 <= size <= 50 or request.query.get("orderBy", "updateTime desc") != "updateTime desc":
            error = {"code": 400, "message": "Request contains an invalid argument.", "status": "INVALID_ARGUMENT"}
            return web.json_response({"error": error}, status=400)
        order = sorted(self._reviews.values(), key=lambda r: (r["updateTime"], r["reviewId"]), reverse=True)
        answer: dict[str, Any] = {}
        if order:
            answer = {"reviews": order[start : start + size], "averageRating": 3.5, "totalReviewCount": len(order)}
        if start + size < len(order):
            answer["nextPageToken"] = str(start + size)
        return web.json_response(answer)


def _too_many() -> web.Response:
    error = {"code": 429, "message": "Quota exceeded for quota metric", "status": "RESOURCE_EXHAUSTED"}
    return web.json_response({"error": error}, status=429)


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "123Z" if at.microsecond else ".000000000Z")
