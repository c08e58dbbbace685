"""Yelp's rules: an API key, three excerpts of at most 160 characters, a quota a day told in headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from connectors.connector import Clock
from connectors.fakes.fake import Said, Verb, unknown
from connectors.fakes.limit import Limit
from connectors.fakes.oauth import utc_now

KEY, BUSINESS = "yelp-key", "chorsu-osh-markazi-toshkent"
SHOWN, EXCERPT = 3, 160


class FakeYelp:
    """See `fake.Fake`."""

    can: frozenset[Verb] = frozenset()

    def __init__(self) -> None:
        self.now: Clock = utc_now
        self._reviews: dict[str, dict[str, Any]] = {}
        self.limits = [Limit(300, 86_400, _used_up, self._headers, midnight=True)]

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secret."""
        return {"YELP_KEY": KEY}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {"business": BUSINESS, "api_key": "env:YELP_KEY", "base_url": url}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The excerpts."""
        return [web.get(f"/v3/businesses/{BUSINESS}/reviews", self._list)]

    def say(self, said: Said) -> None:
        """A review."""
        self._reviews[said.id] = {
            "id": said.id,
            "url": f"https://www.yelp.com/biz/{BUSINESS}?hrid={said.id}",
            "text": said.text if len(said.text) <= EXCERPT else said.text[: EXCERPT - 3] + "...",
            "rating": said.rating,
            "time_created": said.at.strftime("%Y-%m-%d %H:%M:%S"),
            "user": {"id": "u1", "profile_url": "https://www.yelp.com/u", "image_url": None, "name": said.author},
        }

    def edit(self, id: str, text: str, at: datetime) -> None:
        """Not told."""

    def delete(self, id: str, at: datetime) -> None:
        """It is shown no more."""
        self._reviews.pop(id, None)

    def expire(self) -> None:
        """There are no cursors."""

    async def _list(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            error = {"code": "TOKEN_INVALID", "description": "Invalid access token or authorization header."}
            return web.json_response({"error": error}, status=401)
        if refusal := unknown(request, "locale sort_by limit offset"):
            return refusal
        if request.query.get("sort_by", "yelp_sort") not in ("yelp_sort", "newest"):
            return web.json_response({"error": {"code": "VALIDATION_ERROR"}}, status=400)
        # Yelp's own order is not documented; here it is the newest first.
        order = sorted(self._reviews.values(), key=lambda r: (r["time_created"], r["id"]), reverse=True)
        answer = {"reviews": order[:SHOWN], "total": len(order), "possible_languages": ["en"]}
        return web.json_response(answer)

    def _headers(self, limit: Limit, now: datetime) -> Mapping[str, str]:
        return {
            "RateLimit-DailyLimit": str(limit.requests),
            "RateLimit-Remaining": str(limit.left),
            "RateLimit-ResetTime": limit.ends(now).isoformat(),
        }


def _used_up() -> web.Response:
    error = {"code": "ACCESS_LIMIT_REACHED", "description": "You've reached the access limit for this client."}
    return web.json_response({"error": error}, status=429)
