"""X's rules: an app's bearer, rules by tag, one connection, keep-alives, search of seven days; signed webhooks."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from connectors.connector import Clock, Request
from connectors.fakes.fake import Covered, Handshake, Said, Verb, unknown
from connectors.fakes.limit import Limit, told
from connectors.fakes.oauth import utc_now

BEARER, SECRET, RULE, TAG = "x-bearer", "x-consumer-secret", "courier -is:retweet", "ovoz"
EPOCH_MS = 1_288_834_974_657
FIELDS = "tweet.fields expansions user.fields"


class FakeX:
    """See `fake.Fake`, `fake.Streaming` and `fake.Hook`. `hidden`: how long the search does not know a post."""

    can: frozenset[Verb] = frozenset({"edit", "since"})
    tells: frozenset[Verb] = frozenset({"edit"})
    covers: frozenset[Covered] = frozenset({"body"})

    own_clock = True
    """An id holds the time at which the service took a post in, never a later one."""

    def __init__(self) -> None:
        self.now: Clock = utc_now
        self.heartbeat_s = 0.05
        self.heartbeats = 0
        self.mute = False
        self.hidden = timedelta(0)
        headers = told("x-rate-limit-remaining", "x-rate-limit-reset", "epoch", "x-rate-limit-limit")
        self.limits = [
            Limit(450, 900, _too_many, headers, path="/search/recent"),
            Limit(50, 900, _too_many, headers, path="/search/stream"),
        ]
        self.rules: dict[str, dict[str, str]] = {}
        self._posts: dict[str, dict[str, Any]] = {}
        self._ids: dict[str, str] = {}
        self._streams: set[asyncio.Queue[bytes]] = set()

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secrets."""
        return {"X_BEARER": BEARER, "X_CONSUMER_SECRET": SECRET}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {
            "bearer_token": "env:X_BEARER",
            "consumer_secret": "env:X_CONSUMER_SECRET",
            "rules": [RULE],
            "base_url": url,
        }

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Rules, stream and search."""
        return [
            web.get("/2/tweets/search/stream/rules", self._list_rules),
            web.post("/2/tweets/search/stream/rules", self._change_rules),
            web.get("/2/tweets/search/stream", self._stream),
            web.get("/2/tweets/search/recent", self._search),
        ]

    def say(self, said: Said) -> None:
        """A post; its id is of the time when it was written."""
        self._add(said.id, said.text, said.at, said.author, [])

    def edit(self, id: str, text: str, at: datetime) -> None:
        """A new post that names the ones before."""
        before = self._posts[self._ids[id]]
        self._add(id, text, at, "Dilnoza", before["edit_history_tweet_ids"])

    def delete(self, id: str, at: datetime) -> None:
        """It is found no more; nobody is told."""
        self._posts.pop(self._ids.pop(id), None)

    def expire(self) -> None:
        """Ids are never forgotten."""

    def deliveries(self, said: Said, url: str, at: datetime) -> Sequence[Request]:
        """See `fake.Hook`."""
        return [self.signed(json.dumps(self._message(_post(said.id, said.text, said.at, []))).encode(), url, at)]

    def signed(self, body: bytes, url: str, at: datetime) -> Request:
        """See `fake.Hook`."""
        headers = {"content-type": "application/json", "x-twitter-webhooks-signature": _mac(body)}
        return Request(method="POST", url=url, headers=headers, query={}, body=body, received_at=at)

    def handshakes(self, url: str, at: datetime) -> Sequence[Handshake]:
        """See `fake.Registering`: the challenge-response check."""
        token = "NTNhZDFkMGQtYjE0NS00"
        query = {"crc_token": token}
        request = Request(
            method="GET", url=f"{url}?crc_token={token}", headers={}, query=query, body=b"", received_at=at
        )  # fmt: skip
        return [Handshake(request=request, answer=json.dumps({"response_token": _mac(token.encode())}).encode())]

    def _add(self, id: str, text: str, at: datetime, author: str, before: list[str]) -> None:
        post = _post(id, text, at, before)
        self._ids[id] = post["id"]
        self._posts[post["id"]] = post
        if before:
            self._posts.pop(before[-1], None)
        for stream in self._streams:
            stream.put_nowait(json.dumps(self._message(post)).encode() + b"\r\n")

    def _message(self, post: dict[str, Any]) -> dict[str, Any]:
        return {"data": post, "includes": _users(), "matching_rules": [{"id": "1", "tag": TAG}]}

    def _refusal(self, request: web.Request, known: str) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {BEARER}":
            return web.json_response({"title": "Unauthorized", "status": 401, "detail": "Unauthorized"}, status=401)
        return unknown(request, known)

    async def _list_rules(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request, "ids"):
            return refusal
        return web.json_response({"data": list(self.rules.values())} if self.rules else {"meta": {}})

    async def _change_rules(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request, "dry_run"):
            return refusal
        body = await request.json()
        for key in body.get("delete", {}).get("ids", []):
            self.rules.pop(key, None)
        errors = []
        for rule in body.get("add", []):
            if len(rule["value"]) > 1_024 or rule["value"].count("(") != rule["value"].count(")"):
                errors.append({"title": "Invalid Rule", "value": rule["value"]})
                continue
            key = str(len(self.rules) + 1_000)
            self.rules[key] = {"id": key, **rule}
        return web.json_response({"meta": {}, **({"errors": errors} if errors else {})}, status=201)

    async def _search(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(
            request, f"query max_results start_time end_time since_id until_id next_token sort_order {FIELDS}"
        ):
            return refusal
        size, begin = int(request.query.get("max_results", "10")), int(request.query.get("next_token", "0"))
        since = datetime.fromisoformat(request.query.get("start_time", "2000-01-01T00:00:00Z"))
        oldest = self.now() - timedelta(days=7)
        if not 10 <= size <= 100 or ("start_time" in request.query and since < oldest):
            error = {"title": "Invalid Request", "detail": "'start_time' must be on or after 7 days ago", "status": 400}
            return web.json_response(error, status=400)
        found = [
            post
            for post in self._posts.values()
            if max(since, oldest) <= _time(post) and (not self.hidden or _time(post) <= self.now() - self.hidden)
        ]
        order = sorted(found, key=lambda post: int(post["id"]), reverse=True)
        shown = order[begin : begin + size]
        answer: dict[str, Any] = {"meta": {"result_count": len(shown)}}
        if shown:
            answer |= {"data": shown, "includes": _users()}
        if begin + size < len(order):
            answer["meta"]["next_token"] = str(begin + size)
        return web.json_response(answer)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if refusal := self._refusal(request, f"backfill_minutes {FIELDS}"):
            return refusal
        if not self.rules:
            return web.json_response({"title": "RuleConfigurationIssue", "status": 409}, status=409)
        if self._streams:
            error = {"title": "ConnectionException", "detail": "maximum allowed connection limit"}
            return web.json_response(error, status=429)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._streams.add(queue)
        try:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            while True:
                try:
                    async with asyncio.timeout(self.heartbeat_s):
                        told = await queue.get()
                except TimeoutError:
                    told = b"\r\n"
                if self.mute:
                    continue
                self.heartbeats += told == b"\r\n"
                await response.write(told)
        except ConnectionError:
            return web.Response()
        finally:
            self._streams.discard(queue)


def _too_many() -> web.Response:
    return web.json_response({"title": "Too Many Requests", "status": 429}, status=429)


def _post(id: str, text: str, at: datetime, before: list[str]) -> dict[str, Any]:
    key = str(((int(at.timestamp() * 1_000) - EPOCH_MS) << 22) + int(id) % 4_194_304)
    return {
        "id": key,
        "text": text,
        "created_at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "author_id": "2244994945",
        "lang": "en",
        "edit_history_tweet_ids": [*before, key],
    }


def _time(post: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(post["created_at"]).astimezone(UTC)


def _users() -> dict[str, Any]:
    return {"users": [{"id": "2244994945", "name": "Dilnoza", "username": "dilnoza"}]}


def _mac(message: bytes) -> str:
    return "sha256=" + base64.b64encode(hmac.new(SECRET.encode(), message, hashlib.sha256).digest()).decode()
