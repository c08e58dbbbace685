"""YouTube's rules: an API key, at most 100 threads a page, units of quota, replies shown in part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from connectors.fakes.fake import Said, Verb, unknown

KEY, CHANNEL, VIDEO, OWNER = "youtube-key", "UCchannel", "dQw4w9WgXcQ", "UCchannel"
UNITS, SHOWN = 10_000, 5


class FakeYoutube:
    """See `fake.Fake`."""

    can: frozenset[Verb] = frozenset({"since"})

    def __init__(self) -> None:
        self.units = UNITS
        self._threads: dict[str, dict[str, Any]] = {}
        self._replies: dict[str, list[dict[str, Any]]] = {}

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secret."""
        return {"YOUTUBE_KEY": KEY}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {"api_key": "env:YOUTUBE_KEY", "target": f"channel/{CHANNEL}", "base_url": url}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Threads and replies."""
        return [web.get("/youtube/v3/commentThreads", self._list), web.get("/youtube/v3/comments", self._list_replies)]

    def say(self, said: Said) -> None:
        """A top-level comment."""
        self._threads[said.id] = _comment(said, None)
        self._replies.setdefault(said.id, [])

    def reply(self, thread: str, said: Said) -> None:
        """A reply to it."""
        self._replies[thread].append(_comment(said, thread))

    def edit(self, id: str, text: str, at: datetime) -> None:
        """Edits do not move a thread."""
        self._threads[id]["snippet"] |= {"textDisplay": text, "updatedAt": _iso(at)}

    def delete(self, id: str, at: datetime) -> None:
        """It is listed no more."""
        self._threads.pop(id, None)

    def expire(self) -> None:
        """Page tokens are not kept."""

    def _refusal(self, request: web.Request, known: str) -> web.Response | None:
        if request.query.get("key") != KEY:
            return _error(400, "API key not valid. Please pass a valid API key.", "badRequest")
        self.units -= 1
        if self.units < 0:
            return _error(403, "The request cannot be completed because you have exceeded your quota.", "quotaExceeded")
        size = int(request.query.get("maxResults", "20"))
        if not 1 <= size <= 100:
            return _error(400, "Invalid maxResults", "invalidParameter")
        return unknown(request, f"key part maxResults pageToken textFormat {known}")

    async def _list(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request, "allThreadsRelatedToChannelId videoId order"):
            return refusal
        if request.query.get("allThreadsRelatedToChannelId") != CHANNEL and request.query.get("videoId") != VIDEO:
            return _error(404, "The channel identified by the parameter could not be found.", "channelNotFound")
        order = sorted(self._threads.values(), key=lambda c: (c["snippet"]["publishedAt"], c["id"]), reverse=True)
        return web.json_response(_page(request, [self._thread(comment) for comment in order]))

    async def _list_replies(self, request: web.Request) -> web.Response:
        if refusal := self._refusal(request, "parentId"):
            return refusal
        return web.json_response(_page(request, self._replies.get(request.query.get("parentId", ""), [])))

    def _thread(self, comment: dict[str, Any]) -> dict[str, Any]:
        replies = self._replies[comment["id"]]
        snippet = {"videoId": VIDEO, "topLevelComment": comment, "totalReplyCount": len(replies), "isPublic": True}
        thread = {"kind": "youtube#commentThread", "id": comment["id"], "snippet": snippet}
        return thread | ({"replies": {"comments": replies[-SHOWN:]}} if replies else {})


def _page(request: web.Request, entries: list[dict[str, Any]]) -> dict[str, Any]:
    size, start = int(request.query.get("maxResults", "20")), int(request.query.get("pageToken", "0"))
    answer: dict[str, Any] = {"items": entries[start : start + size], "pageInfo": {"resultsPerPage": size}}
    return answer | ({"nextPageToken": str(start + size)} if start + size < len(entries) else {})


def _comment(said: Said, parent: str | None) -> dict[str, Any]:
    snippet: dict[str, Any] = {
        "channelId": CHANNEL,
        "videoId": VIDEO,
        "textDisplay": said.text,
        "authorDisplayName": f"@{said.author}",
        "authorChannelId": {"value": OWNER if said.author == "owner" else "UCsomebody"},
        "likeCount": 0,
        "publishedAt": _iso(said.at),
        "updatedAt": _iso(said.at),
    }
    return {"kind": "youtube#comment", "id": said.id, "snippet": snippet | ({"parentId": parent} if parent else {})}


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _error(status: int, message: str, reason: str) -> web.Response:
    error = {"code": status, "message": message, "errors": [{"message": message, "reason": reason}]}
    return web.json_response({"error": error}, status=status)
