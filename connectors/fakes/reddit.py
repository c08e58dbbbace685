"""Reddit's rules: OAuth, a User-Agent with a name, at most 100 a page and 1,000 a listing, 100 requests a minute."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from connectors.fakes.fake import Said, Verb, unknown
from connectors.fakes.limit import Limit, told
from connectors.fakes.oauth import TokenEndpoint

CLIENT, SECRET, SUBREDDIT = "p-jcoLKBynTLew", "reddit-secret", "uzbekistan"
AGENT = "server:uz.example.ovoz:1.0 (by /u/example)"
LISTED = 1_000


class FakeReddit:
    """See `fake.Fake`. What is said is a comment; `post` makes a post."""

    can: frozenset[Verb] = frozenset({"edit", "delete", "since"})

    def __init__(self) -> None:
        left = told("x-ratelimit-remaining", "x-ratelimit-reset", "seconds")

        def headers(limit: Limit, now: datetime) -> Mapping[str, str]:
            return {**left(limit, now), "x-ratelimit-used": str(limit.used)}

        self.limits = [Limit(100, 60, _too_many, headers, path="/r/")]
        self._comments: dict[str, dict[str, Any]] = {}
        self._posts: dict[str, dict[str, Any]] = {}
        self.tokens = TokenEndpoint("client_credentials", lambda form, basic: basic == (CLIENT, SECRET))

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secret."""
        return {"REDDIT_SECRET": SECRET}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {
            "client_id": CLIENT,
            "client_secret": "env:REDDIT_SECRET",
            "user_agent": AGENT,
            "subreddits": [SUBREDDIT],
            "token_url": f"{url}/api/v1/access_token",
            "base_url": url,
        }

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Tokens and listings."""
        return [
            web.post("/api/v1/access_token", self.tokens.answer),
            web.get(f"/r/{SUBREDDIT}/new{{end:/?}}", self._new),
            web.get(f"/r/{SUBREDDIT}/search{{end:/?}}", self._search),
            web.get(f"/r/{SUBREDDIT}/comments{{end:/?}}", self._list_comments),
        ]

    def say(self, said: Said) -> None:
        """A comment."""
        self._comments[said.id] = _thing(said, "t1") | {"body": said.text, "link_id": "t3_p1"}

    def post(self, said: Said, title: str) -> None:
        """A post."""
        self._posts[said.id] = _thing(said, "t3") | {"title": title, "selftext": said.text}

    def edit(self, id: str, text: str, at: datetime) -> None:
        """The comment with the time of its change."""
        self._comments[id] |= {"body": text, "edited": at.timestamp()}

    def delete(self, id: str, at: datetime) -> None:
        """The comment stays in the listing, without its words."""
        self._comments[id] |= {"body": "[deleted]", "author": "[deleted]"}

    def vanish(self, id: str) -> None:
        """The comment is in no listing any more."""
        self._comments.pop(id, None)

    def expire(self) -> None:
        """Anchors are names of things."""

    async def _new(self, request: web.Request) -> web.Response:
        return self._answer(request, "t3", list(self._posts.values()), "")

    async def _list_comments(self, request: web.Request) -> web.Response:
        return self._answer(request, "t1", list(self._comments.values()), "")

    async def _search(self, request: web.Request) -> web.Response:
        words = request.query.get("q", "").lower()
        found = [post for post in self._posts.values() if words in f"{post['title']} {post['selftext']}".lower()]
        return self._answer(request, "t3", found, "q sort type restrict_sr")

    def _answer(self, request: web.Request, kind: str, things: list[dict[str, Any]], known: str) -> web.Response:
        if not re.match(r"\S+:\S+:\S+ \(by /u/\w+\)", request.headers.get("User-Agent", "")):
            return _too_many()
        if not self.tokens.knows(request):
            return web.json_response({"message": "Unauthorized", "error": 401}, status=401)
        if refusal := unknown(request, f"limit before after count raw_json show {known}"):
            return refusal
        size = min(100, int(request.query.get("limit", "25")))
        order = sorted(things, key=lambda thing: (thing["created_utc"], thing["name"]), reverse=True)[:LISTED]
        names = [thing["name"] for thing in order]
        anchor = request.query.get("after")
        # An anchor that is gone leads to an empty page, as at the real service.
        start = 0 if not anchor else names.index(anchor) + 1 if anchor in names else len(names)
        shown = order[start : start + size]
        after = shown[-1]["name"] if start + size < len(order) else None
        children = [{"kind": kind, "data": thing} for thing in shown]
        data = {"after": after, "before": None, "dist": len(shown), "modhash": "", "children": children}
        return web.json_response({"kind": "Listing", "data": data})


def _too_many() -> web.Response:
    return web.json_response({"message": "Too Many Requests", "error": 429}, status=429)


def _thing(said: Said, kind: str) -> dict[str, Any]:
    return {
        "id": said.id,
        "name": f"{kind}_{said.id}",
        "author": said.author,
        "created_utc": said.at.timestamp(),
        "edited": False,
        "permalink": f"/r/{SUBREDDIT}/comments/p1/x/{said.id}/",
        "subreddit": SUBREDDIT,
        "score": 1,
    }
