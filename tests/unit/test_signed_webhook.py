"""The webhook whose signature its settings describe: the schemes of known vendors, and settings that make no sense."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.connector import Delivery, Refused, Request
from connectors.option import Misconfigured, read
from connectors.registry import Context, declaration
from connectors.signature import digest
from connectors.transport import Http

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
BODY = json.dumps({"text": "{timestamp}{url} never came"}).encode()
STAMP = str(int(NOW.timestamp()))


def hook(**table: Any) -> Any:
    found = declaration("webhook")
    config = read(found.config, {"secret": "env:HOOK", "fields": {}, **table}, {"HOOK": "s3cret"})
    http = Http(session=None, now=lambda: NOW)  # type: ignore[arg-type]
    return found.build(config, Context(http=http, now=http.now))


def post(headers: dict[str, str], body: bytes = BODY, url: str = "https://hooks.example/x?a=1") -> Request:
    return Request(method="POST", url=url, headers=headers, query={}, body=body, received_at=NOW)


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({}, {"x-signature": digest("s3cret", BODY)}),
        (
            {"header": "X-Hub-Signature", "algorithm": "sha1", "prefix": "sha1="},
            {"x-hub-signature": "sha1=" + digest("s3cret", BODY, "sha1")},
        ),
        (
            {"header": "X-Slack-Signature", "prefix": "v0=", "signed": "v0:{timestamp}:{body}",
             "timestamp_header": "X-Slack-Request-Timestamp"},
            {"x-slack-signature": "v0=" + digest("s3cret", b"v0:" + STAMP.encode() + b":" + BODY),
             "x-slack-request-timestamp": STAMP},
        ),
        (
            {"header": "X-HubSpot-Signature-v3", "encoding": "base64", "signed": "{method}{url}{body}{timestamp}",
             "timestamp_header": "X-HubSpot-Request-Timestamp"},
            {"x-hubspot-signature-v3": digest("s3cret", b"POSThttps://hooks.example/x?a=1" + BODY + STAMP.encode()
                                              + b"000", form="base64"),
             "x-hubspot-request-timestamp": STAMP + "000"},
        ),
        (
            {"header": "X-Zendesk", "encoding": "base64", "signed": "{timestamp}{body}", "timestamp_header": "X-T"},
            {"x-zendesk": digest("s3cret", b"2026-11-25T12:00:30Z" + BODY, form="base64"),
             "x-t": "2026-11-25T12:00:30Z"},
        ),
        ({"proof": "token", "header": "Authorization", "prefix": "Bearer "}, {"authorization": "Bearer s3cret"}),
    ],
    ids=["plain", "x-hub", "slack", "hubspot", "zendesk", "token"],
)  # fmt: skip
async def test_a_scheme_of_any_of_these_kinds_is_believed_and_its_forgeries_are_not(
    settings: dict[str, Any], headers: dict[str, str]
) -> None:
    connector = hook(**settings)
    delivery = await connector.receive(post(headers))
    assert isinstance(delivery, Delivery)
    assert [item.text for item in delivery.items] == ["{timestamp}{url} never came"]
    for name, value in headers.items():
        for wrong in (None, "", value[:-1], value.swapcase() + "0", "é"):
            changed = {**headers, name: wrong} if wrong is not None else {k: v for k, v in headers.items() if k != name}
            with pytest.raises(Refused) as refused:
                await connector.receive(post(changed))  # type: ignore[arg-type]
            assert refused.value.status == 401


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"signed": "{timestamp}"}, "signed"),
        ({"signed": "{timestamp}.{body}"}, "timestamp_header"),
        ({"timestamp_header": "X-T"}, "signed"),
        ({"fields": {"comment": "text"}}, "fields.comment"),
        ({"score": "nps:10-0"}, "score"),
        ({"score": "stars"}, "score"),
        ({"proof": "none"}, "proof"),
        ({"algorithm": "md5"}, "algorithm"),
    ],
)
def test_settings_that_would_believe_anybody_or_read_nothing_are_faults(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(Misconfigured) as wrong:
        hook(**settings)
    assert field in {fault.field for fault in wrong.value.faults}
