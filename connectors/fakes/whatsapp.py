"""WhatsApp Cloud API's rules: a challenge at registration, notifications signed with the app secret."""

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

SECRET = "whatsapp-app-secret"
VERIFY = "whatsapp-verify-token"
NUMBER = "106540352242922"


class FakeWhatsApp:
    """See `fake.Fake`. Nothing can be asked of it."""

    can: frozenset[Verb] = frozenset()
    covers: frozenset[Covered] = frozenset({"body"})

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secrets."""
        return {"WHATSAPP_APP_SECRET": SECRET, "WHATSAPP_VERIFY_TOKEN": VERIFY}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {"app_secret": "env:WHATSAPP_APP_SECRET", "verify_token": "env:WHATSAPP_VERIFY_TOKEN"}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """None."""
        return []

    def say(self, said: Said) -> None:
        """What is said is only told."""

    def edit(self, id: str, text: str, at: datetime) -> None:
        """Never told."""

    def delete(self, id: str, at: datetime) -> None:
        """Never told."""

    def expire(self) -> None:
        """There are no cursors."""

    def deliveries(self, said: Said, url: str, at: datetime) -> Sequence[Request]:
        """See `fake.Hook`. Meta escapes what is not ASCII: the signature covers the bytes as they came."""
        message = {
            "from": "16505551234",
            "id": f"wamid.HBgLMTY1MDU1NTEyMzQVAgASGBQ{said.id}",
            "timestamp": str(int(said.at.timestamp())),
            "type": "text",
            "text": {"body": said.text},
        }
        return [self.signed(json.dumps(notification([message], said.author), indent=1).encode(), url, at)]

    def signed(self, body: bytes, url: str, at: datetime) -> Request:
        """See `fake.Hook`."""
        mac = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {"content-type": "application/json", "x-hub-signature-256": f"sha256={mac}"}
        return Request(method="POST", url=url, headers=headers, query={}, body=body, received_at=at)

    def handshakes(self, url: str, at: datetime) -> Sequence[Handshake]:
        """See `fake.Registering`."""
        query = {"hub.mode": "subscribe", "hub.verify_token": VERIFY, "hub.challenge": "1158201444"}
        request = Request(method="GET", url=url, headers={}, query=query, body=b"", received_at=at)
        return [Handshake(request=request, answer=b"1158201444")]


def notification(messages: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """A notification as it is posted."""
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": NUMBER},
        "contacts": [{"profile": {"name": name}, "wa_id": "16505551234"}],
        "messages": messages,
    }
    entry = {"id": "102290129340398", "changes": [{"value": value, "field": "messages"}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}
