"""A time in which no intake was open to a webhook is a gap, however the last one ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from connectors.fakes.fake import fake_of
from pipeline.broker import EmbeddedBroker, free_port
from pipeline.settings import Connector
from pipeline.settings_file import toml
from pipeline.store.connectors import Missing, gaps
from pipeline.store.engine import connect
from pipeline.store.read import reading
from tests.e2e.test_drive import metric
from tests.intake import ready, running, until

NAMES = ("slack", "whatsapp", "webhook")
SECRETS = {key: value for name in NAMES for key, value in fake_of(name).environment.items()}


def told(name: str, **own: Any) -> Connector:
    return Connector(use=name, name=name, options=fake_of(name).table(""), **own)


def last_notes(folder: Path) -> dict[str, int]:
    with sqlite3.connect(folder / "ovoz.db") as db:
        try:
            return dict(db.execute("SELECT source, last_success_us FROM connector"))
        except sqlite3.OperationalError:
            return {}


async def noted(folder: Path, *names: str, after_us: int = 0) -> None:
    async def there() -> bool:
        notes = await asyncio.to_thread(last_notes, folder)
        return all((notes.get(name) or 0) > after_us for name in names)

    await until(there)


def time_passes(folder: Path, span: timedelta) -> None:
    """As if everything stored had been stored so long ago."""
    with sqlite3.connect(folder / "ovoz.db") as db:
        db.execute("UPDATE connector SET last_success_us = last_success_us - ?", [span // timedelta(microseconds=1)])


def found(folder: Path) -> list[Missing]:
    engine = connect(f"sqlite:///{folder}/ovoz.db")
    try:
        with reading(engine) as connection:
            now = datetime.now(UTC)
            return gaps(connection, "default", since=now - timedelta(days=30), until=now)
    finally:
        engine.dispose()


async def test_what_a_service_does_not_repeat_for_so_long_is_a_gap_and_the_rest_is_none(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"connectors": tuple(map(told, NAMES)), "environ": SECRETS}
    async with running(tmp_path, broker.bootstrap, **options) as client:
        await ready(client)
        await noted(tmp_path, *NAMES)
        assert found(tmp_path) == []
    time_passes(tmp_path, timedelta(minutes=10))
    began = datetime.now(UTC)
    async with running(tmp_path, broker.bootstrap, **options) as client:
        await noted(tmp_path, *NAMES, after_us=int(began.timestamp() * 1e6))
        assert await metric(client, "feedback_connector_gaps_total", name="slack") == 1
        assert await metric(client, "feedback_connector_gaps_total", name="whatsapp") == 0, "Meta tries for a week"
    assert {one.source for one in found(tmp_path)} == {"slack", "webhook"}
    for gap in found(tmp_path):
        assert timedelta(minutes=9) < gap.until - gap.since < timedelta(minutes=11) and "no webhook" in gap.reason
        assert began - timedelta(minutes=11) < gap.since < began - timedelta(minutes=9)


@pytest.mark.slow
async def test_without_a_broker_a_webhook_is_not_open(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path, f"127.0.0.1:{port}", connectors=(told("slack"),), environ=SECRETS) as client:
        with EmbeddedBroker(port):
            await ready(client)
            await noted(tmp_path, "slack")


        async with client.get("/readyz") as answer:
            assert answer.status == 503
        before = last_notes(tmp_path)
        await asyncio.sleep(6)  # longer than one beat: nothing must be noted in it
        assert last_notes(tmp_path) == before
        time_passes(tmp_path, timedelta(minutes=10))
        with EmbeddedBroker(port):
            await ready(client)
            await noted(tmp_path, "slack", after_us=before["slack"])
    (gap,) = found(tmp_path)
    assert gap.source == "slack" and gap.until - gap.since > timedelta(minutes=10)


@asynccontextmanager
async def ingest(config: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    command = [sys.executable, "-m", "pipeline", "ingest", "--config", str(config)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, **SECRETS, "PYTHONUNBUFFERED": "1"}
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        yield process, line.removeprefix("intake on ").removesuffix("/v1/feedback\n")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
async def test_the_gap_does_not_depend_on_how_the_process_ended(
    ending: signal.Signals, broker: EmbeddedBroker, tmp_path: Path
) -> None:
    own = "".join(f"{key} = {toml(value)}\n" for key, value in fake_of("slack").table("").items())
    config = tmp_path / "ovoz.toml"
    config.write_text(
        f'[kafka]\nbootstrap = "{broker.bootstrap}"\n[store]\nurl = "sqlite:///{tmp_path}/ovoz.db"\n'
        f'[ingest]\nport = 0\ndata_dir = "{tmp_path}"\n[[connector]]\nuse = "slack"\n{own}'
    )
    async with ingest(config) as (process, _):
        await noted(tmp_path, "slack")
        process.send_signal(ending)
        await process.wait()
    time_passes(tmp_path, timedelta(minutes=7))
    began_us = int(datetime.now(UTC).timestamp() * 1e6)
    async with ingest(config) as (_, url), aiohttp.ClientSession(url) as client:
        await noted(tmp_path, "slack", after_us=began_us)
        assert await metric(client, "feedback_connector_gaps_total", name="slack") == 1
    (gap,) = found(tmp_path)
    assert timedelta(minutes=6) < gap.until - gap.since < timedelta(minutes=8)
