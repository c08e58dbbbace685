"""Tripadvisor's rules: a key in the query, the five newest reviews in a language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from connectors.fakes.fake import Said, Verb, unknown
from connectors.fakes.limit import Limit

KEY, LOCATION, SHOWN = "tripadvisor-key", "89575", 5


class FakeTripadvisor:
    """See `fake.Fake`."""

    can: frozenset[Verb] = frozenset()

    def __init__(self) -> None:
        self.limits = [Limit(50, 1, _too_many)]
        self._reviews: dict[str, dict[str, Any]] = {}

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secret."""
        return {"TRIPADVISOR_KEY": KEY}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {"location": LOCATION, "api_key": "env:TRIPADVISOR_KEY", "base_url": url}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The reviews."""
        return [web.get(f"/api/v1/location/{LOCATION}/reviews", self._list)]

    def say(self, said: Said) -> None:
        """A review."""
        self._reviews[said.id] = {
            "id": int(said.id),
            "lang": said.language,
            "location_id": int(LOCATION),
            "published_date": said.at.isoformat().replace("+00:00", "Z"),
            "rating": said.rating,
            "helpful_votes": 0,
            "rating_image_url": "https://static.tacdn.com/s2.0.svg",
            "url": f"https://www.tripadvisor.com/ShowUserReviews-g1-d{LOCATION}-r{said.id}",
            "text": said.text,
            "title": said.text[:10],
            "trip_type": "Couples",
            "travel_date": "2026-11-30",
            "user": {"username": said.author, "user_location": {"id": "null"}, "avatar": {}},
            "subratings": {},
        }

    def edit(self, id: str, text: str, at: datetime) -> None:
        """Not told."""

    def delete(self, id: str, at: datetime) -> None:
        """It is shown no more."""
        self._reviews.pop(id, None)

    def expire(self) -> None:
        """There are no cursors."""

    async def _list(self, request: web.Request) -> web.Response:
        if request.query.get("key") != KEY:
            return web.json_response({"Message": "User is not authorized to access this resource"}, status=403)
        if refusal := unknown(request, "key language limit offset"):
            return refusal
        language = request.query.get("language", "en")
        order = sorted(
            (review for review in self._reviews.values() if review["lang"] == language),
            key=lambda review: (review["published_date"], review["id"]), reverse=True,
        )  # fmt: skip
        return web.json_response({"data": order[:SHOWN]})


def _too_many() -> web.Response:
    return web.json_response({"message": "Too Many Requests"}, status=429)
