"""The HTTP intake against a real broker: what each status promises."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from pipeline.broker import EmbeddedBroker, free_port
from pipeline.intake_access import IntakeError
from pipeline.settings import Token
from tests.hostile import BODIES, GOOD, GZIP, ITEMS
from tests.intake import post, published, ready, running, until

ITEM = {"source": "shop", "id": "1", "text": "late again"}


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running_broker:
        yield running_broker


async def test_202_names_what_was_sent_and_the_broker_has_it(broker: EmbeddedBroker, tmp_path: Path) -> None:
    items = [{**ITEM, "id": f"{n}", "author": "aziza@example.com"} for n in range(5)]
    async with running(tmp_path, broker.bootstrap) as client:
        await ready(client)
        status, answer, _ = await post(client, items)
        assert (status, answer["rejected"]) == (202, [])
        assert answer["accepted"] == [{"source": "shop", "id": f"{n}"} for n in range(5)]
        got = await asyncio.to_thread(published, broker.bootstrap)
    assert sorted(str(key, "ascii") for key, _ in got if key) == [f"shop::{n}" for n in range(5)]
    assert all(len(feedback.author_hash) == 64 and "aziza" not in repr(feedback) for _, feedback in got)
    assert stat.S_IMODE((tmp_path / "author.key").stat().st_mode) == 0o600


async def test_the_same_item_twice_has_the_same_key_and_version(broker: EmbeddedBroker, tmp_path: Path) -> None:
    async with running(tmp_path, broker.bootstrap) as client:
        await ready(client)
        for _ in range(2):
            assert (await post(client, {**ITEM, "version": 7}))[0] == 202
        got = await asyncio.to_thread(published, broker.bootstrap)
    assert [(key, feedback.version) for key, feedback in got] == [(b"shop::1", 7)] * 2


async def test_ndjson_keeps_good_lines_beside_a_broken_one(broker: EmbeddedBroker, tmp_path: Path) -> None:
    body = b'{"source":"a","id":"1"}\r\n\r\n{"source":\n{"source":"a","id":"2"}\n'
    async with running(tmp_path, broker.bootstrap) as client:
        await ready(client)
        status, answer, _ = await post(client, body, "application/x-ndjson; charset=utf-8")
        assert status == 400
        assert [item["id"] for item in answer["accepted"]] == ["1", "2"]
        assert [item["index"] for item in answer["rejected"]] == [1]
        assert len(await asyncio.to_thread(published, broker.bootstrap)) == 2


async def test_hostile_bodies_get_a_clear_answer_and_harm_no_neighbour(broker: EmbeddedBroker, tmp_path: Path) -> None:
    good = json.dumps(GOOD).encode()
    async with running(tmp_path, broker.bootstrap) as client:
        await ready(client)
        for name, body in BODIES.items():
            status, answer, _ = await post(client, body)
            assert status in (202, 400, 413), (name, answer)
            assert status == 202 or {"cause", "remedy"} <= set(answer["error"]), name
        for name, item in ITEMS.items():
            status, answer, _ = await post(client, b"[" + good + b"," + item + b"," + good + b"]")
            assert status in (202, 400), (name, answer)
            kept = [one for one in answer["accepted"] if one["id"] == "neighbour"]
            assert len(kept) == 2, (name, answer)
            assert {one["index"] for one in answer["rejected"]} <= {1}, name
        for name, (body, expected) in GZIP.items():
            status, answer, _ = await post(client, body, Content_Encoding="gzip")
            assert status == expected, (name, answer)


async def test_tokens_are_asked_for(broker: EmbeddedBroker, tmp_path: Path) -> None:
    tokens = tuple(Token(name=n, sha256=hashlib.sha256(n.encode()).hexdigest()) for n in ("first", "second"))
    async with running(tmp_path, broker.bootstrap, tokens=tokens) as client:
        await ready(client)
        for wrong in ({}, {"Authorization": "Bearer third"}, {"Authorization": "Basic first"}):
            status, answer, headers = await post(client, ITEM, **wrong)
            assert status == 401 and headers["WWW-Authenticate"].startswith("Bearer"), answer
        for secret in ("first", "second"):
            assert (await post(client, ITEM, Authorization=f"Bearer {secret}"))[0] == 202


async def test_without_tokens_only_this_machine_may_write(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with pytest.raises(IntakeError, match=r"ingest\.tokens"):
        async with running(tmp_path, broker.bootstrap, host="0.0.0.0"):
            pass
    async with running(tmp_path, broker.bootstrap) as client:
        await ready(client)
        assert (await post(client, ITEM, Host="rebound.example.com"))[0] == 421
        assert (await post(client, ITEM, Host="localhost:80"))[0] == 202


async def test_other_refusals_are_json_with_cause_and_remedy(broker: EmbeddedBroker, tmp_path: Path) -> None:
    async with running(tmp_path, broker.bootstrap, max_body_bytes=2000) as client:
        await ready(client)
        for kind, headers, expected in (
            ("text/plain", {}, 415),
            ("application/json; charset=utf-16", {}, 415),
            ("application/json", {"Content_Encoding": "br"}, 415),
            ("application/json", {"Expect": "a miracle"}, 417),
        ):
            status, answer, _ = await post(client, json.dumps(ITEM).encode(), kind, **headers)
            assert status == expected and answer["error"]["remedy"], answer
        assert (await post(client, {**ITEM, "text": "x" * 2000}))[0] == 413
        async with client.get("/v1/feedback") as got:
            assert got.status == 405 and got.headers["Allow"] == "POST" and (await got.json())["error"]
        async with client.get("/nowhere") as got:
            assert got.status == 404 and (await got.json())["error"]
        async with client.get("/metrics") as got:
            text = await got.text()
        assert 'feedback_intake_requests_total{status="415"} 3.0' in text
        assert all(line.startswith(("#", "feedback_intake_")) for line in text.splitlines())


async def test_what_is_not_http_is_answered_and_closed(broker: EmbeddedBroker, tmp_path: Path) -> None:
    async with running(tmp_path, broker.bootstrap) as client:
        url = client._base_url
        assert url is not None
        for sent in (b"\x16\x03\x01\x00\xff\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + b"x" * 20_000 + b"\r\n\r\n"):
            reader, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(sent)
            answer = await asyncio.wait_for(reader.read(), 10)
            assert answer.startswith(b"HTTP/1.") and b'{"error":' in answer, answer
            writer.close()
            await writer.wait_closed()


async def test_a_slow_body_is_cut_off(broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ingest.READ_TIMEOUT_S", 0.3)
    async with running(tmp_path, broker.bootstrap) as client:
        await ready(client)
        url = client._base_url
        assert url is not None
        reader, writer = await asyncio.open_connection(url.host, url.port)
        head = "POST /v1/feedback HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: 100\r\n\r\n[".encode())
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 408") and b"slow_body" in answer
        writer.close()
        await writer.wait_closed()


async def test_it_starts_without_a_broker_and_recovers_by_itself(tmp_path: Path) -> None:
    broker = EmbeddedBroker(free_port())
    async with running(tmp_path, broker.bootstrap) as client:
        status, answer, headers = await post(client, ITEM)
        assert status == 503 and int(headers["Retry-After"]) > 0 and answer["error"]["remedy"]
        async with client.get("/healthz") as got:
            assert got.status == 200
        async with client.get("/readyz") as got:
            assert got.status == 503
        with broker:
            await ready(client)
            assert (await post(client, ITEM))[0] == 202


# kafka-python leaves the sockets of a producer open that is closed while its broker is dead.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_no_202_without_the_broker_and_recovery_after_its_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.ingest.DELIVERY_TIMEOUT_S", 3.0)
    port = free_port()
    broker = EmbeddedBroker(port)
    broker.start()
    async with running(tmp_path, broker.bootstrap) as client:
        await ready(client)
        assert (await post(client, ITEM))[0] == 202
        broker.kill()
        began = time.monotonic()
        statuses = {status for status, _, _ in await asyncio.gather(*(post(client, ITEM) for _ in range(20)))}
        assert statuses == {503}
        assert time.monotonic() - began < 10
        with EmbeddedBroker(port) as again:
            await ready(client)
            assert (await post(client, ITEM))[0] == 202
            assert len(await asyncio.to_thread(published, again.bootstrap)) == 1
    gc.collect()


async def test_overload_is_429_and_memory_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.ingest.DELIVERY_TIMEOUT_S", 6.0)
    body = json.dumps([{**ITEM, "id": f"{n}", "text": "x" * 1000} for n in range(100)]).encode()
    with EmbeddedBroker() as broker:
        async with running(tmp_path, broker.bootstrap, max_in_flight_items=500) as client:
            await ready(client)
            assert (await post(client, body))[0] == 202
            process = psutil.Process(broker.pid)
            before = psutil.Process().memory_info().rss
            process.suspend()
            answers = [asyncio.create_task(post(client, body)) for _ in range(60)]

            async def refused() -> bool:
                return sum(task.done() for task in answers) >= 55

            await until(refused)
            assert psutil.Process().memory_info().rss - before < 60_000_000
            done = [task.result() for task in answers if task.done()]
            assert {status for status, _, _ in done} == {429}
            assert all(int(headers["Retry-After"]) > 0 for _, _, headers in done)
            process.resume()
            assert [status for status, _, _ in await asyncio.gather(*answers)].count(202) == 5


async def test_shutdown_lets_requests_under_way_finish(broker: EmbeddedBroker, tmp_path: Path) -> None:
    process = psutil.Process(broker.pid)
    async with running(tmp_path, broker.bootstrap) as client:
        await ready(client)
        session = aiohttp.ClientSession(client._base_url)
        process.suspend()
        answer = asyncio.create_task(post(session, ITEM))

        async def waits() -> bool:
            async with client.get("/metrics") as got:
                return "feedback_intake_in_flight_items 1.0" in await got.text()

        await until(waits)
        asyncio.get_running_loop().call_later(0.5, process.resume)
    assert (await answer)[0] == 202
    await session.close()
