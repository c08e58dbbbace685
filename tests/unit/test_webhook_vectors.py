"""Signatures that vendors publish in their documentation and libraries: ours must be the same."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from connectors.connector import Refused, Request
from connectors.option import Secret
from connectors.registry import Context, declaration
from connectors.signature import digest
from connectors.transport import Http

SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)


async def receive(name: str, request: Request, **secrets: str) -> Refused:
    """What the connector says to a request whose signature is right and whose body is no event of its."""
    found = declaration(name)
    config = found.config(**{key: Secret(value) for key, value in secrets.items()})
    http = Http(session=None, now=lambda: request.received_at)  # type: ignore[arg-type]
    with pytest.raises(Refused) as refused:
        await found.build(config, Context(http=http, now=http.now)).receive(request)  # type: ignore[union-attr]
    return refused.value


async def test_slacks_documented_example_is_believed() -> None:
    """https://docs.slack.dev/authentication/verifying-requests-from-slack: a slash command, which is no event."""
    headers = {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    request = Request(
        method="POST", url="https://x", headers=headers, query={}, body=SLACK_BODY,
        received_at=datetime.fromtimestamp(1_531_420_660, UTC),
    )  # fmt: skip
    refused = await receive("slack", request, signing_secret="8f742231b10e8888abcd99yyyzzz85a5")
    assert (refused.status, refused.reason) == (400, "body")
    refused = await receive("slack", request, signing_secret="8f742231b10e8888abcd99yyyzzz85a6")
    assert (refused.status, refused.reason) == (401, "signature")


async def test_the_example_of_x_hub_signature_256_is_believed() -> None:
    """GitHub's "Validating webhook deliveries" has the scheme's vector; Meta, whose scheme it is too, has none."""
    mac = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    request = Request(
        method="POST", url="https://x", headers={"x-hub-signature-256": f"sha256={mac}"}, query={},
        body=b"Hello, World!", received_at=datetime(2026, 11, 25, tzinfo=UTC),
    )  # fmt: skip
    refused = await receive("whatsapp", request, app_secret="It's a Secret to Everybody", verify_token="t")
    assert (refused.status, refused.reason) == (400, "body")


def test_zendesks_secret_is_a_key_as_it_stands_and_not_the_base64_it_looks_like() -> None:
    """The example of Zendesk's first page about it, which put the time behind the body; later pages put it before."""
    body, sent = b'{"say": "hello"}', b"2021-07-25T10:00:00Z"
    key = "HRkRd4BeOAoUkfZr-mhauJT64rvBASlJRoIyPsd3zeA="
    assert digest(key, body + sent, form="base64") == "tRDSF7URY8BLCDlaBcQ7FHu051Zk+aAB0NKMP53teMw="
