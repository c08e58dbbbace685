"""Connectors driven by a running intake: real HTTP services (fakes that keep their rules), a real broker."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from connectors.fakes.fake import Fault, Running, Said, fake_of
from connectors.fakes.trustpilot import HOOK, FakeTrustpilot
from pipeline.broker import EmbeddedBroker
from pipeline.bus import BrokerAway
from pipeline.settings import Connector
from pipeline.store.connectors import Progress, progress
from pipeline.store.engine import connect
from pipeline.store.read import reading
from tests.intake import published, ready, running, until

SECRETS = FakeTrustpilot().environment


def table(service: Running, name: str = "shop", **own: Any) -> Connector:
    options = service.table | {key: own.pop(key) for key in tuple(own) if key in service.table}
    return Connector(use="trustpilot", name=name, **{"every_s": 1.0, "options": options, **own})


@asynccontextmanager
async def service() -> AsyncIterator[Running]:
    async with Running(FakeTrustpilot()) as made:
        yield made


def say(at: Running, *names: str, text: str = "The courier never came") -> None:
    for name in names:
        at.fake.say(Said(id=name, text=f"{text} {name}", at=datetime.now(UTC) - timedelta(minutes=1)))


async def taken(broker: EmbeddedBroker, *texts: str) -> list[Any]:
    """Everything published, once these texts are."""
    found: list[Any] = []

    async def there() -> bool:
        nonlocal found
        try:
            found = [feedback for _, feedback in await asyncio.to_thread(published, broker.bootstrap)]
        except BrokerAway:  # the topics are not made yet
            return False
        return set(texts) <= {one.text for one in found}

    await until(there)
    return found


async def metric(client: aiohttp.ClientSession, series: str, /, **labels: str) -> float:
    async with client.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    for line in lines:
        if line.startswith(f"{series}{{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            return float(line.rpartition(" ")[2])
    return 0.0


async def state(client: aiohttp.ClientSession, instance: str, name: str) -> None:
    async def reached() -> bool:
        return await metric(client, "feedback_connector_state", name=instance, state=name) == 1.0

    await until(reached)


def saved(folder: Path) -> dict[str, Progress]:
    engine = connect(f"sqlite:///{folder}/ovoz.db")
    try:
        with reading(engine) as connection:
            return {one.run.instance: one for one in progress(connection)}
    finally:
        engine.dispose()


async def test_what_customers_say_is_published_and_the_cursor_saved(broker: EmbeddedBroker, tmp_path: Path) -> None:
    async with service() as shop:
        say(shop, "a1", text="call me on +998 90 123 45 67:")
        async with running(tmp_path, broker.bootstrap, connectors=(table(shop),), environ=SECRETS) as client:
            found = await taken(broker, "call me on [phone]: a1")
            say(shop, "a2")
            found = await taken(broker, "The courier never came a2")
            await state(client, "shop", "running")
            assert await metric(client, "feedback_connector_requests_total", name="shop", outcome="2xx") >= 2
    assert {(one.source, one.instance, one.channel, one.workspace) for one in found} == {
        ("trustpilot", "shop", "review", "default")
    }
    assert all(one.author_hash and "Dilnoza" not in repr(one) and not one.backfill for one in found)
    cursor = saved(tmp_path)["shop"].cursor
    assert cursor


async def test_a_restart_goes_on_where_the_broker_had_everything(broker: EmbeddedBroker, tmp_path: Path) -> None:
    async with service() as shop:
        say(shop, "a1")
        async with running(tmp_path, broker.bootstrap, connectors=(table(shop),), environ=SECRETS):
            await taken(broker, "The courier never came a1")

            async def kept() -> bool:
                return bool(saved(tmp_path)["shop"].cursor)

            await until(kept)
        say(shop, "a2")
        async with running(tmp_path, broker.bootstrap, connectors=(table(shop),), environ=SECRETS):
            found = await taken(broker, "The courier never came a2")
    assert sorted(one.external_id for one in found) == ["a1", "a2"], "nothing twice, nothing missing"


async def test_a_refused_connector_stops_with_one_message_and_the_others_go_on(
    broker: EmbeddedBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with service() as shop, service() as bank:
        say(bank, "b1")
        wrong = dict(SECRETS) | {"WRONG": "not-the-key"}
        tables = (table(shop, api_key="env:WRONG"), table(bank, "bank"))
        async with running(tmp_path, broker.bootstrap, connectors=tables, environ=wrong) as client:
            await state(client, "shop", "stopped")
            await taken(broker, "The courier never came b1")
            asked = len(shop.seen)
            say(bank, "b2")
            await taken(broker, "The courier never came b2")
            assert len(shop.seen) == asked, "it is not asked again"
    stopped = [record.getMessage() for record in caplog.records if "stopped" in record.getMessage()]
    assert len(stopped) == 1 and "401" in stopped[0] and "not-the-key" not in caplog.text
    assert saved(tmp_path)["shop"].state == "stopped"


async def test_failures_are_waited_out_and_nothing_is_lost(broker: EmbeddedBroker, tmp_path: Path) -> None:
    async with service() as shop:
        say(shop, "a1")
        shop.faults.extend([
            Fault(kind="cut"), Fault(status=429, headers={"Retry-After": "1"}),
        ])  # fmt: skip
        async with running(tmp_path, broker.bootstrap, connectors=(table(shop),), environ=SECRETS) as client:
            await taken(broker, "The courier never came a1")
            await state(client, "shop", "running")
            assert await metric(client, "feedback_connector_throttled_total", name="shop") == 1
            assert await metric(client, "feedback_connector_verdicts_total", name="shop", verdict="retryable") == 2


async def test_of_two_processes_one_drives_a_connector(broker: EmbeddedBroker, tmp_path: Path) -> None:
    async with service() as shop:
        say(shop, "a1")
        options: dict[str, Any] = {"connectors": (table(shop),), "environ": SECRETS, "lease_s": 1.0}
        async with running(tmp_path, broker.bootstrap, **options) as first:
            await state(first, "shop", "running")
            async with running(tmp_path, broker.bootstrap, **options) as second:
                await taken(broker, "The courier never came a1")

                async def shared() -> bool:
                    running = [await metric(c, "feedback_connector_state", state="running") for c in (first, second)]
                    assert sum(running) <= 1
                    return max([await metric(c, "feedback_connector_requests_total") for c in (first, second)]) >= 5

                await until(shared)
                assert 0.0 in [await metric(c, "feedback_connector_requests_total") for c in (first, second)]


async def test_a_broken_entry_is_a_dead_letter_without_a_name(broker: EmbeddedBroker, tmp_path: Path) -> None:
    async with service() as shop:
        say(shop, "a1", "a2")
        shop.fake._reviews["a2"]["stars"] = "five"  # type: ignore[attr-defined]
        async with running(tmp_path, broker.bootstrap, connectors=(table(shop),), environ=SECRETS) as client:
            await taken(broker, "The courier never came a1")

            async def buried() -> bool:
                return await metric(client, "feedback_connector_skipped_total", name="shop") >= 1

            await until(buried)
    assert "Dilnoza" not in json.dumps(await asyncio.to_thread(dead, broker))


def dead(broker: EmbeddedBroker) -> list[str]:
    from pipeline.bus import admin, read_offsets
    from pipeline.codec import decode_dead
    from pipeline.settings import Kafka
    from pipeline.topics import Topics

    kafka = Kafka(bootstrap=broker.bootstrap)
    topic = Topics.of(kafka).dead.name
    with admin(kafka) as client:
        ends = client.ends(topic)
    letters = [
        decode_dead(value)
        for partition, (first, last) in ends.items()
        if last > first
        for _, _, value in read_offsets(kafka, topic, partition, [(first, last)])
    ]
    assert letters and {letter.stage for letter in letters} == {"connector"}
    return [letter.payload.decode() for letter in letters]


async def test_a_webhook_is_answered_once_the_broker_has_it(broker: EmbeddedBroker, tmp_path: Path) -> None:
    async with service() as shop:
        tables = (table(shop, modes=("webhook",)),)
        async with running(tmp_path, broker.bootstrap, connectors=tables, environ=SECRETS) as client:
            await ready(client)
            say(shop, "a1")
            (request,) = shop.fake.deliveries(  # type: ignore[attr-defined]
                Said(id="a1", text="", at=datetime.now(UTC)), "http://x/v1/hooks/shop", datetime.now(UTC)
            )
            async with client.post("/v1/hooks/shop", params={"secret": HOOK}, data=request.body) as answer:
                assert answer.status == 200
            found = await asyncio.to_thread(published, broker.bootstrap)
            assert [feedback.external_id for _, feedback in found] == ["a1"]
            for params in ({}, {"secret": "wrong"}):
                async with client.post("/v1/hooks/shop", params=params, data=request.body) as answer:
                    assert answer.status == 401
            assert await metric(client, "feedback_connector_signature_failures_total", name="shop") == 2
            assert await metric(client, "feedback_connector_deliveries_total", outcome="stored") == 1
            assert len(await asyncio.to_thread(published, broker.bootstrap)) == 1
            assert not shop.seen or all("reviews?" not in path for path in shop.seen), "it was told not to poll"


async def test_a_backfill_takes_history_in_once_and_marks_it(broker: EmbeddedBroker, tmp_path: Path) -> None:
    async with service() as shop:
        for number in range(230):
            at = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(hours=number)
            shop.fake.say(Said(id=f"h{number}", text=f"History {number}", at=at))
        config = tmp_path / "ovoz.toml"
        own = "\n".join(f"{key} = {json.dumps(value)}" for key, value in shop.table.items())
        config.write_text(
            f'[kafka]\nbootstrap = "{broker.bootstrap}"\n[store]\nurl = "sqlite:///{tmp_path}/ovoz.db"\n'
            f'[ingest]\ndata_dir = "{tmp_path}"\n[[connector]]\nuse = "trustpilot"\nname = "shop"\n{own}\n'
        )
        first = await backfill(config)
        assert first[0] == 0 and "230 items" in first[1], first
        asked = len(shop.seen)
        again = await backfill(config)
        assert again[0] == 0 and len(shop.seen) == asked, "what is done is not fetched again"
    found = [feedback for _, feedback in await asyncio.to_thread(published, broker.bootstrap)]
    assert len({one.feedback_id for one in found}) == len(found) == 230
    assert all(one.backfill for one in found)
    assert min(one.created_at for one in found) == datetime(2026, 1, 2, tzinfo=UTC)
    assert saved(tmp_path)["shop"].state == "done"


async def backfill(config: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "pipeline", "backfill", "shop", "--since", "2026-01-01", "--config", str(config)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={**os.environ, **SECRETS}
    )
    out, _ = await process.communicate()
    assert SECRETS["TRUSTPILOT_KEY"] not in out.decode()
    return process.returncode or 0, out.decode()


@pytest.mark.parametrize("name", ["mastodon", "telegram", "x"])
async def test_a_stream_brings_what_is_said_while_it_is_open(
    name: str, broker: EmbeddedBroker, tmp_path: Path
) -> None:
    fake = fake_of(name)
    async with Running(fake) as at:
        own = Connector(use=name, name="open", options=at.table, modes=("stream",))
        secrets = {"connectors": (own,), "environ": fake.environment}
        async with running(tmp_path, broker.bootstrap, **secrets) as client:  # type: ignore[arg-type]
            await state(client, "open", "running")
            await until(lambda: open_now(at))
            said = [Said(id=f"{n:06d}", text=f"The app is slow {n}", at=datetime.now(UTC)) for n in range(1, 31)]
            for one in said:
                fake.say(one)
            found = await taken(broker, *(one.text for one in said))
    assert len({one.feedback_id for one in found}) == 30


async def open_now(service: Running) -> bool:
    return service._under_way > 0
