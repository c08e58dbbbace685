"""A service as many are: a listing in JSON behind a key, newest first, page by page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from aiohttp import web

from connectors.fakes.fake import Said, Verb

KEY: Final = "listing-key"


class Listing:
    """See `fake.Fake`. `GET path?page=1&limit=100` answers `{items: [entries]}`, the last changed first.

    `entry` makes an entry of one thing said and the moment of its last change. `table`: settings of the connector,
    with `{url}` where its address goes and `env:LISTING_KEY` where the key goes.
    """

    can: frozenset[Verb] = frozenset({"edit", "since"})

    def __init__(
        self, path: str, entry: Callable[[Said, datetime], Mapping[str, Any]], table: Mapping[str, str], items: str
    ) -> None:
        self._path = path
        self._entry = entry
        self._table = table
        self._items = items
        self._said: dict[str, tuple[Said, datetime]] = {}

    @property
    def environment(self) -> Mapping[str, str]:
        """Its key."""
        return {"LISTING_KEY": KEY}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {name: value.replace("{url}", url) for name, value in self._table.items()}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The listing."""
        return [web.get(self._path, self._list)]

    def say(self, said: Said) -> None:
        """A customer says something."""
        self._said[said.id] = (said, said.at)

    def edit(self, id: str, text: str, at: datetime) -> None:
        """It is listed again, as changed at that moment."""
        said = self._said[id][0]
        changed = Said(id=id, text=text, at=said.at, author=said.author, rating=said.rating, language=said.language)
        self._said[id] = (changed, at)

    def delete(self, id: str, at: datetime) -> None:
        """It is listed no more."""
        self._said.pop(id, None)

    def expire(self) -> None:
        """Moments do not expire."""

    async def _list(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"message": "unknown key"}, status=401)
        page, limit = int(request.query.get("page", "1")), int(request.query.get("limit", "50"))
        if not 1 <= limit <= 100 or page < 1:
            return web.json_response({"message": "limit must be from 1 to 100"}, status=400)
        found = sorted(self._said.values(), key=lambda pair: (pair[1], pair[0].id), reverse=True)
        entries = [dict(self._entry(*pair)) for pair in found[(page - 1) * limit : page * limit]]
        return web.json_response({self._items: entries})
