"""Slack's rules: events signed with `v0`, a challenge at registration, ids and time stamps in its form."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from connectors.connector import Request
from connectors.fakes.fake import Covered, Handshake, Said, Verb

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
CHANNEL = "C024BE91L"


class FakeSlack:
    """See `fake.Fake`. Slack only calls; nothing is asked of it."""

    can: frozenset[Verb] = frozenset()
    covers: frozenset[Covered] = frozenset({"body", "time"})

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secret."""
        return {"SLACK_SIGNING_SECRET": SECRET}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {"signing_secret": "env:SLACK_SIGNING_SECRET", "channels": [CHANNEL], "staff": ["USTAFF"]}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """None."""
        return []

    def say(self, said: Said) -> None:
        """What is said is only told."""

    def edit(self, id: str, text: str, at: datetime) -> None:
        """See `message`."""

    def delete(self, id: str, at: datetime) -> None:
        """See `message`."""

    def expire(self) -> None:
        """There are no cursors."""

    def deliveries(self, said: Said, url: str, at: datetime) -> Sequence[Request]:
        """See `fake.Hook`: once, and once more as a retry."""
        body = json.dumps(envelope(message(said), f"Ev{said.id}", at)).encode()
        first = self.signed(body, url, at)
        retry = {"x-slack-retry-num": "1", "x-slack-retry-reason": "http_timeout"}
        again = self.signed(body, url, at)
        return [first, Request(
            method="POST", url=url, headers={**again.headers, **retry}, query={}, body=body, received_at=at
        )]  # fmt: skip

    def signed(self, body: bytes, url: str, at: datetime) -> Request:
        """See `fake.Hook`."""
        sent = str(int(at.timestamp()))
        mac = hmac.new(SECRET.encode(), f"v0:{sent}:".encode() + body, hashlib.sha256).hexdigest()
        headers = {
            "content-type": "application/json",
            "x-slack-request-timestamp": sent,
            "x-slack-signature": f"v0={mac}",
        }
        return Request(method="POST", url=url, headers=headers, query={}, body=body, received_at=at)

    def handshakes(self, url: str, at: datetime) -> Sequence[Handshake]:
        """See `fake.Registering`."""
        body = {"token": "Jhj5dZrVaK7ZwHHjRyZWjbDl", "challenge": "3eZbrw1aBm2rZ", "type": "url_verification"}
        return [
            Handshake(request=self.signed(json.dumps(body).encode(), url, at), answer=b'{"challenge": "3eZbrw1aBm2rZ"}')
        ]


def message(said: Said) -> dict[str, Any]:
    """The event of a message."""
    return {
        "type": "message",
        "channel": CHANNEL,
        "user": "U2147483697",
        "text": said.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
        "ts": f"{int(said.at.timestamp())}.{int(said.id):06d}",
        "team": "T061EG9R6",
        "channel_type": "channel",
    }


def envelope(event: dict[str, Any], id: str, at: datetime) -> dict[str, Any]:
    """An event as it is posted."""
    return {
        "token": "XXYYZZ",
        "team_id": "T061EG9R6",
        "api_app_id": "A0MDYCDME",
        "event": event,
        "type": "event_callback",
        "event_id": id,
        "event_time": int(at.timestamp()),
    }
