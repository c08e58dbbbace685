"""A running intake for tests: a real server on a free port, a real broker if one is given."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from pipeline.bus import admin, read_offsets
from pipeline.codec import decode_feedback
from pipeline.ingest import serve
from pipeline.settings import Connector, Ingest, Kafka, Settings, Store, Worker
from pipeline.topics import Topics


@asynccontextmanager
async def running(
    folder: Path,
    bootstrap: str,
    *,
    connectors: tuple[Connector, ...] = (),
    environ: Mapping[str, str] | None = None,
    worker: Worker | None = None,
    **ingest: Any,
) -> AsyncIterator[aiohttp.ClientSession]:
    """A client session on the intake's URL."""
    settings = Settings(
        kafka=Kafka(bootstrap=bootstrap),
        ingest=Ingest(port=0, data_dir=folder, **ingest),
        store=Store(url=f"sqlite:///{folder}/ovoz.db"),
        worker=worker or Worker(),
        connector=connectors,
    )
    stop, url = asyncio.Event(), asyncio.get_running_loop().create_future()
    server = asyncio.create_task(serve(settings, stop=stop, ready=url.set_result, environ=environ or {}))
    await asyncio.wait([server, url], return_when=asyncio.FIRST_COMPLETED)
    if server.done():
        await server
    try:
        async with aiohttp.ClientSession(url.result(), timeout=aiohttp.ClientTimeout(60)) as client:
            yield client
    finally:
        stop.set()
        await server


async def until(holds: Callable[[], Awaitable[bool]], *, seconds: float = 30) -> None:
    """Return when the condition holds; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.05)


async def ready(client: aiohttp.ClientSession) -> None:
    """Return when /readyz answers 200."""

    async def answers() -> bool:
        async with client.get("/readyz") as response:
            return response.status == 200

    await until(answers)


async def post(
    client: aiohttp.ClientSession, body: object, content_type: str = "application/json", **headers: str
) -> tuple[int, dict[str, Any], Any]:
    """Status, JSON answer and headers of a POST of bytes, or of anything as JSON."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = {"data": io.BytesIO(body)} if isinstance(body, bytes) else {"json": body}
    async with client.post("/v1/feedback", headers={"Content-Type": content_type, **named}, **content) as got:
        return got.status, await got.json(), got.headers


def published(bootstrap: str) -> list[tuple[bytes | None, Any]]:
    """(key, Feedback) of everything in feedback.raw."""
    kafka = Kafka(bootstrap=bootstrap)
    topic = Topics.of(kafka).raw.name
    with admin(kafka) as client:
        ends = client.ends(topic)
    return [
        (key, decode_feedback(value))
        for partition, (first, last) in ends.items()
        if last > first
        for _, key, value in read_offsets(kafka, topic, partition, [(first, last)])
    ]
