"""Webhooks as the world calls them: signed, repeated, forged, slow and in floods; nothing false is stored."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from connectors.connector import Request
from connectors.fakes.fake import Running, Said
from connectors.fakes.slack import SECRET, FakeSlack
from connectors.fakes.trustpilot import FakeTrustpilot
from pipeline.broker import EmbeddedBroker, free_port
from pipeline.hooks import ANSWER_WITHIN_S, MAX_UNDER_WAY
from pipeline.settings import Connector
from tests.e2e.test_drive import metric, say, table, taken
from tests.intake import published, ready, running

SLACK = FakeSlack()
SECRETS = {**SLACK.environment, **FakeTrustpilot().environment}
HOOK = "/v1/hooks/team"


def team(**own: Any) -> Connector:
    return Connector(use="slack", name="team", options=SLACK.table(""), **own)


def told(number: int, text: str = "The courier never came") -> Sequence[Request]:
    now = datetime.now(UTC)
    return SLACK.deliveries(Said(id=f"{number:06d}", text=text, at=now - timedelta(minutes=1)), HOOK, now)


async def send(client: aiohttp.ClientSession, request: Request, path: str = HOOK) -> tuple[int, str]:
    async with client.post(path, data=request.body, headers=dict(request.headers)) as answer:
        return answer.status, await answer.text()


async def stored(broker: EmbeddedBroker) -> list[str]:
    return [feedback.text for _, feedback in await asyncio.to_thread(published, broker.bootstrap)]


async def test_a_delivery_is_stored_once_however_often_it_is_repeated(broker: EmbeddedBroker, tmp_path: Path) -> None:
    async with running(tmp_path, broker.bootstrap, connectors=(team(),), environ=SECRETS) as client:
        await ready(client)
        (challenge,) = SLACK.handshakes(HOOK, datetime.now(UTC))
        assert await send(client, challenge.request) == (200, challenge.answer.decode())
        for request in told(1) * 3:
            assert (await send(client, request))[0] == 200
        assert await stored(broker) == ["The courier never came"]
        assert await metric(client, "feedback_connector_deliveries_total", outcome="repeated") == 5
        assert await metric(client, "feedback_connector_deliveries_total", outcome="handshake") == 1


async def test_without_a_broker_the_service_is_asked_to_repeat_and_the_repetition_is_stored(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path, f"127.0.0.1:{port}", connectors=(team(),), environ=SECRETS) as client:
        began = time.monotonic()
        first, again = told(1)
        async with client.post(HOOK, data=first.body, headers=dict(first.headers)) as answer:
            assert answer.status == 503 and answer.headers["Retry-After"]
        assert time.monotonic() - began < 3, "Slack waits no longer"
        with EmbeddedBroker(port) as broker:
            await ready(client)
            assert (await send(client, again))[0] == 200
            assert await stored(broker) == ["The courier never came"]


async def test_what_is_forged_is_refused_counted_and_logged_once(
    broker: EmbeddedBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(tmp_path, broker.bootstrap, connectors=(team(),), environ=SECRETS) as client:
        await ready(client)
        request = told(1)[0]
        stale = SLACK.signed(request.body, HOOK, datetime.now(UTC) - timedelta(minutes=6))
        for headers in (
            {}, {**request.headers, "x-slack-signature": "v0=" + "0" * 64},
            {**request.headers, "x-slack-signature": ""}, dict(stale.headers),
            {**request.headers, "x-slack-request-timestamp": "9" * 5_000},
            {**request.headers, "x-slack-request-timestamp": "x"},
        ):  # fmt: skip
            async with client.post(HOOK, data=request.body, headers=headers) as answer:
                assert answer.status == 401, headers
        changed = Request(method="POST", url="", headers=request.headers, query={}, body=request.body + b" ",
                          received_at=request.received_at)  # fmt: skip
        assert (await send(client, changed))[0] == 401
        assert await metric(client, "feedback_connector_signature_failures_total", name="team") == 7
        with suppress(AssertionError):
            assert await stored(broker) == []
    refusals = [record.getMessage() for record in caplog.records if "refused a request" in record.getMessage()]
    assert len(refusals) == len({line.split(":")[2] for line in refusals}) <= 3, "each reason once"
    assert SECRET not in caplog.text


async def test_too_large_and_strange_requests_are_refused(broker: EmbeddedBroker, tmp_path: Path) -> None:
    connectors = (team(max_body_bytes=2_000),)
    async with running(tmp_path, broker.bootstrap, connectors=connectors, environ=SECRETS) as client:
        await ready(client)

        async def chunks() -> Any:
            for _ in range(10):
                yield b"x" * 500

        async with client.post(HOOK, data=b"x" * 2_001) as answer:
            assert answer.status == 413
        async with client.post(HOOK, data=chunks()) as answer:
            assert answer.status == 413
        for body, content in ((b"\xff\x00", "application/json"), (b"a=b", "application/x-www-form-urlencoded"),
                              (b"", "text/html"), (b"[" * 1_900, "application/json")):  # fmt: skip
            signed = SLACK.signed(body, HOOK, datetime.now(UTC))
            async with client.post(HOOK, data=body, headers={**signed.headers, "content-type": content}) as answer:
                assert answer.status in (400, 415), (body[:10], answer.status)
        for path in ("/v1/hooks/", "/v1/hooks", "/v1/hooks/none", "/v1/hooks/team/x", "/v1/hooks/TEAM",
                     "/v1/hooks/team/../../metrics", "/v1/hooks/%2e%2e%2fmetrics", "/v1/hooks/..%2Fteam",
                     "/v1/hooks/team%00", "/v1/hooks/%ff"):  # fmt: skip
            target = URL(str(client._base_url).rstrip("/") + path, encoded=True)
            async with client.post(target, data=told(1)[0].body, headers=dict(told(1)[0].headers)) as answer:
                assert answer.status in (400, 404, 405), (path, answer.status)
        for method in ("GET", "PUT", "DELETE", "HEAD", "PATCH"):
            async with client.request(method, HOOK) as answer:
                assert 400 <= answer.status < 500, method
        assert await metric(client, "feedback_connector_deliveries_total", outcome="stored") == 0


async def test_floods_and_slow_senders_starve_neither_pollers_nor_other_senders(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    async with Running(FakeTrustpilot()) as shop:
        tables = (team(), table(shop))
        async with running(tmp_path, broker.bootstrap, connectors=tables, environ=SECRETS) as client:
            await ready(client)
            url = URL(str(client._base_url))

            async def drip() -> None:
                with suppress(OSError, asyncio.IncompleteReadError):
                    reader, writer = await asyncio.open_connection(url.host, url.port)
                    writer.write(b"POST /v1/hooks/team HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
                    try:
                        while not reader.at_eof():
                            writer.write(b"x")
                            await writer.drain()
                            await asyncio.sleep(0.2)
                    finally:
                        writer.transport.abort()

            forged = told(9)[0].body
            slow = [asyncio.create_task(drip()) for _ in range(MAX_UNDER_WAY * 3)]

            async def forge() -> None:
                for _ in range(20):
                    async with client.post(HOOK, data=forged, headers={"x-slack-signature": "v0=0"}) as answer:
                        assert answer.status in (401, 503)

            flood = [asyncio.create_task(forge()) for _ in range(20)]
            say(shop, "a1")
            began = time.monotonic()
            statuses = [(await send(client, request))[0] for number in range(1, 6) for request in told(number)[:1]]
            assert statuses == [200] * 5
            assert time.monotonic() - began < ANSWER_WITHIN_S * 5
            await taken(broker, "The courier never came a1")
            await asyncio.gather(*flood)
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
