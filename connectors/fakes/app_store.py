"""App Store Connect's rules: an ES256 token of at most 20 minutes, pages of at most 200, links to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from aiohttp import web

from connectors.connector import Clock
from connectors.fakes.fake import Said, Verb, unknown
from connectors.fakes.limit import Limit
from connectors.fakes.oauth import claims_of, in_time, pem_of, utc_now

APP, ISSUER, KEY_ID = "682658836", "57246542-96fe-1a63-e053-0824d011072a", "2X9R4HXF34"


@cache
def _key() -> tuple[str, Any]:
    return pem_of("ES256")


class FakeAppStore:
    """See `fake.Fake`."""

    can: frozenset[Verb] = frozenset({"since"})

    def __init__(self) -> None:
        self.now: Clock = utc_now
        self._reviews: dict[str, dict[str, Any]] = {}
        self.limits = [Limit(3_500, 3_600, _too_many, _hour)]

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secrets."""
        return {"APP_STORE_P8": _key()[0]}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {
            "app_id": APP, "issuer_id": ISSUER, "key_id": KEY_ID, "private_key": "env:APP_STORE_P8", "base_url": url,
        }  # fmt: skip

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The list of reviews."""
        return [web.get(f"/v1/apps/{APP}/customerReviews", self._list)]

    def say(self, said: Said) -> None:
        """A review; Apple writes times with the offset of California."""
        at = said.at.replace(tzinfo=None).isoformat() + "-00:00"
        self._reviews[said.id] = {
            "type": "customerReviews",
            "id": said.id,
            "attributes": {
                "rating": said.rating,
                "title": said.text[:10],
                "body": said.text,
                "reviewerNickname": said.author,
                "createdDate": at,
                "territory": "UZB",
            },
            "relationships": {"response": {"links": {"related": "https://api.appstoreconnect.apple.com/x"}}},
        }

    def edit(self, id: str, text: str, at: datetime) -> None:
        """Not told."""

    def delete(self, id: str, at: datetime) -> None:
        """It is listed no more."""
        self._reviews.pop(id, None)

    def expire(self) -> None:
        """Links are not kept."""

    async def _list(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        claims = claims_of(token, _key()[1], "ES256", "appstoreconnect-v1")
        if not claims or claims["iss"] != ISSUER or not in_time(claims, self.now(), 1_200):
            return _error(401, "NOT_AUTHORIZED", "Provide a properly configured and signed bearer token.")
        if refusal := unknown(request, "limit sort include cursor filter[rating] filter[territory]"):
            return refusal
        size, start = int(request.query.get("limit", "50")), int(request.query.get("cursor", "0"))
        if not 1 <= size <= 200 or request.query.get("sort") != "-createdDate":
            return _error(400, "PARAMETER_ERROR.INVALID", "A parameter has an invalid value")
        order = sorted(self._reviews.values(), key=lambda r: (r["attributes"]["createdDate"], r["id"]), reverse=True)
        answer: dict[str, Any] = {
            "data": order[start : start + size],
            "links": {"self": str(request.url)},
            "meta": {"paging": {"total": len(order), "limit": size}},
        }
        if start + size < len(order):
            answer["links"]["next"] = str(request.url.update_query(cursor=str(start + size)))
        return web.json_response(answer)


def _hour(limit: Limit, now: datetime) -> Mapping[str, str]:
    return {"X-Rate-Limit": f"user-hour-lim:{limit.requests};user-hour-rem:{limit.left};"}


def _too_many() -> web.Response:
    return _error(429, "RATE_LIMIT_EXCEEDED", "We've received too many requests for this API.")


def _error(status: int, code: str, detail: str) -> web.Response:
    error = {"status": str(status), "code": code, "title": code, "detail": detail}
    return web.json_response({"errors": [error]}, status=status)
