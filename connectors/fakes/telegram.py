"""Telegram's rules: updates are kept until the next are asked for, a hundred at a time, never beside a webhook."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from connectors.connector import Request
from connectors.fakes.fake import Covered, Said, Verb

TOKEN = "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11"
HOOK = "telegram-hook-secret"
CUSTOMER = 1_111_111


class FakeTelegram:
    """See `fake.Fake`. `webhook`: whether one is set, which forbids getUpdates. `heartbeats`: requests that waited."""

    can: frozenset[Verb] = frozenset({"edit"})
    tells: frozenset[Verb] = frozenset({"edit"})
    covers: frozenset[Covered] = frozenset()

    def __init__(self) -> None:
        self.webhook = False
        self.heartbeats = 0
        self.mute = False
        self._news = asyncio.Event()
        self._updates: list[dict[str, Any]] = []
        self._next = 10_000
        self._messages: dict[str, dict[str, Any]] = {}

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secrets."""
        return {"TELEGRAM_TOKEN": TOKEN, "TELEGRAM_HOOK": HOOK}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {"token": "env:TELEGRAM_TOKEN", "hook_secret": "env:TELEGRAM_HOOK", "base_url": url}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """The one method that is asked."""
        return [web.post("/bot{token}/getUpdates", self._get)]

    def say(self, said: Said) -> None:
        """A message to the bot."""
        self._messages[said.id] = message(said)
        self._add({"message": self._messages[said.id]})

    def edit(self, id: str, text: str, at: datetime) -> None:
        """An edited message."""
        self._add({"edited_message": {**self._messages[id], "text": text, "edit_date": int(at.timestamp())}})

    def delete(self, id: str, at: datetime) -> None:
        """Never told outside business chats."""

    def expire(self) -> None:
        """Updates have no cursors but their numbers."""

    def deliveries(self, said: Said, url: str, at: datetime) -> Sequence[Request]:
        """See `fake.Hook`."""
        return [self.signed(json.dumps({"update_id": 77, "message": message(said)}).encode(), url, at)]

    def signed(self, body: bytes, url: str, at: datetime) -> Request:
        """See `fake.Hook`: a secret header, which covers nothing."""
        headers = {"content-type": "application/json", "x-telegram-bot-api-secret-token": HOOK}
        return Request(method="POST", url=url, headers=headers, query={}, body=body, received_at=at)

    def _add(self, update: dict[str, Any]) -> None:
        self._updates.append({"update_id": self._next, **update})
        self._next += 1
        self._news.set()

    async def _get(self, request: web.Request) -> web.Response:
        if request.match_info["token"] != TOKEN:
            return refusal(401, "Unauthorized")
        if self.webhook:
            return refusal(409, "Conflict: can't use getUpdates method while webhook is active")
        asked = await request.json()
        limit = asked.get("limit", 100)
        if set(asked) - {"offset", "limit", "timeout", "allowed_updates"} or not 1 <= limit <= 100:
            return refusal(400, "Bad Request: limit must be from 1 to 100")
        offset, allowed = asked.get("offset"), asked.get("allowed_updates", [])
        if offset is not None:
            self._updates = [update for update in self._updates if update["update_id"] >= offset]
        if not self._updates and asked.get("timeout"):
            self.heartbeats += 1
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(asked["timeout"]):
                    await self._news.wait()
        found = [update for update in self._updates if set(update) & set(allowed)]
        return web.json_response({"ok": True, "result": found[:limit]})


def message(said: Said) -> dict[str, Any]:
    """A message of a private chat."""
    return {
        "message_id": int(said.id),
        "from": {"id": CUSTOMER, "is_bot": False, "first_name": said.author, "language_code": said.language},
        "chat": {"id": CUSTOMER, "first_name": said.author, "type": "private"},
        "date": int(said.at.timestamp()),
        "text": said.text,
    }


def refusal(status: int, description: str) -> web.Response:
    """A refusal in the form of the Bot API."""
    return web.json_response({"ok": False, "error_code": status, "description": description}, status=status)
