"""A service of its own making: a list of records, signed with a time in front and SHA-512."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from connectors.connector import Request
from connectors.fakes.fake import Covered, Said, Verb

SECRET = "webhook-secret"


class FakeWebhook:
    """See `fake.Fake`."""

    can: frozenset[Verb] = frozenset()
    covers: frozenset[Covered] = frozenset({"body", "time"})

    @property
    def environment(self) -> Mapping[str, str]:
        """Its secret."""
        return {"WEBHOOK_SECRET": SECRET}

    def table(self, url: str) -> dict[str, Any]:
        """Settings for this fake."""
        return {
            "secret": "env:WEBHOOK_SECRET",
            "fields": {"id": "key", "text": "answers.0.comment", "created_at": "when", "rating": "answers.0.score"},
            "records": "data.responses",
            "score": "nps",
            "header": "X-Acme-Signature",
            "algorithm": "sha512",
            "encoding": "base64",
            "prefix": "v1,",
            "signed": "{timestamp}.{method}.{body}",
            "timestamp_header": "X-Acme-Timestamp",
            "delivery_header": "X-Acme-Delivery",
        }

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """None."""
        return []

    def say(self, said: Said) -> None:
        """What is said is only told."""

    def edit(self, id: str, text: str, at: datetime) -> None:
        """Told as a newer version."""

    def delete(self, id: str, at: datetime) -> None:
        """Told as a deleted version."""

    def expire(self) -> None:
        """There are no cursors."""

    def deliveries(self, said: Said, url: str, at: datetime) -> Sequence[Request]:
        """See `fake.Hook`."""
        answers = [{"comment": said.text, "score": said.rating}]
        record = {"key": said.id, "when": said.at.isoformat(), "answers": answers}
        return [self.signed(json.dumps({"data": {"responses": [record]}}).encode(), url, at)]

    def signed(self, body: bytes, url: str, at: datetime) -> Request:
        """See `fake.Hook`."""
        sent = str(int(at.timestamp() * 1000))
        mac = hmac.new(SECRET.encode(), f"{sent}.POST.".encode() + body, hashlib.sha512).digest()
        headers = {
            "content-type": "application/json",
            "x-acme-timestamp": sent,
            "x-acme-signature": f"v1,{base64.b64encode(mac).decode()}",
            "x-acme-delivery": "d-1",
        }
        return Request(method="POST", url=url, headers=headers, query={}, body=body, received_at=at)
