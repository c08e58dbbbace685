"""A forum's feed: RSS 2.0 with content in HTML, ETag and Last-Modified, 304 for what has not changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.utils import format_datetime
from html import escape
from typing import Any

from aiohttp import web

from connectors.fakes.fake import Said, Verb


class FakeRss:
    """See `fake.Fake`. `shown`: how many entries the feed has."""

    can: frozenset[Verb] = frozenset({"edit", "since"})

    def __init__(self) -> None:
        self.shown = 1_000
        self._entries: dict[str, tuple[Said, datetime]] = {}

    @property
    def environment(self) -> Mapping[str, str]:
        """Anybody may read it."""
        return {}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {"url": f"{url}/posts.rss"}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The feed, and an address from which it has moved."""
        return [web.get("/posts.rss", self._feed), web.get("/old.rss", self._moved), web.get("/away.rss", self._away)]

    def say(self, said: Said) -> None:
        """A post."""
        self._entries[said.id] = (said, said.at)

    def edit(self, id: str, text: str, at: datetime) -> None:
        """The same post at a new time."""
        said, _ = self._entries[id]
        self._entries[id] = (Said(id=id, text=text, at=said.at, author=said.author), at)

    def delete(self, id: str, at: datetime) -> None:
        """It is in the feed no more."""
        self._entries.pop(id, None)

    def expire(self) -> None:
        """There are no cursors."""

    async def _feed(self, request: web.Request) -> web.Response:
        order = sorted(self._entries.values(), key=lambda entry: (entry[1], entry[0].id), reverse=True)
        entries = "".join(_entry(said, at) for said, at in order[: self.shown])
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/">'
            f"<channel><title>Forum</title><link>https://forum.example</link><language>en</language>{entries}"
            "</channel></rss>"
        ).encode()
        etag = f'W/"{hashlib.sha256(body).hexdigest()[:16]}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        return web.Response(body=body, headers={"ETag": etag, "Content-Type": "application/rss+xml; charset=utf-8"})

    async def _moved(self, request: web.Request) -> web.Response:
        return web.Response(status=301, headers={"Location": "/posts.rss"})

    async def _away(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://169.254.169.254/latest/meta-data"})


def _entry(said: Said, at: datetime) -> str:
    html = escape(f"<p>{escape(said.text, quote=False)}</p>")
    return (
        f"<item><title>{escape(said.text[:12])}</title><dc:creator>{escape(said.author)}</dc:creator>"
        f"<description>{html}</description><link>https://forum.example/t/{said.id}</link>"
        f'<pubDate>{format_datetime(at)}</pubDate><guid isPermaLink="false">forum.example-post-{said.id}</guid></item>'
    )
