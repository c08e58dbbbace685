"""Fifty deaths of the worker, two of Alertmanager, all by `kill -9`, and lost notifications: one page, one end."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from pipeline.broker import EmbeddedBroker
from pipeline.codec import encode_feedback
from tests.e2e.test_alertmanager import Peer, opened, until
from tests.feed import babble
from tests.plant import Plant
from tests.store import feedback

pytestmark = [pytest.mark.prometheus, pytest.mark.long, pytest.mark.timeout(1500)]

KILLS = 50
KILLS_OF_ALERTMANAGER = (15, 35)
TOPICS = ("delivery", "refund", "price")
RULES = """
[[rule]]
name = "half-bad"
kind = "threshold"
window = "1h"
min_items = 10
share_above = 0.5
severity = "critical"
"""


class Flaky(Peer):
    """Its webhook refuses every third notification with 503."""

    calls = 0
    refused = 0

    async def hook(self, request: web.Request) -> web.Response:
        self.calls += 1
        if self.calls % 3 == 1:
            self.refused += 1
            return web.Response(status=503)
        return await super().hook(request)


@pytest_asyncio.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Flaky]:
    async with opened(Flaky(tmp_path / "alertmanager")) as running:
        yield running


def said(first: int, count: int, mood: str) -> list[tuple[bytes, bytes]]:
    """Items about all topics in turn, each in words of its own."""
    dice, now = random.Random(first), datetime.now(UTC)
    records = []
    for i in range(first, first + count):
        words = babble(dice)
        text = f"{mood} {TOPICS[i % len(TOPICS)]} {words}"
        item = feedback(f"{i}", text=text, created_at=now, received_at=now)
        records.append((item.feedback_id.encode(), encode_feedback(item)))
    return records


def heard(peer: Peer) -> dict[tuple[str, str], int]:
    """Notifications that were taken, by topic and status."""
    return Counter((one["labels"]["topic"], one["status"]) for one in peer.told)


async def test_one_firing_and_one_resolved_notification_for_each_incident(
    broker: EmbeddedBroker, peer: Flaky, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    alerts = f'rules = "{rules}"\nalertmanager = ["{peer.url}"]\nlease_s = 120'
    dice = random.Random(50)
    sent = 0
    with Plant(tmp_path, broker.bootstrap, alerts=alerts) as plant:
        worker = await asyncio.to_thread(plant.worker)

        async def send(count: int, mood: str) -> None:
            nonlocal sent
            await asyncio.to_thread(plant.send, said(sent, count, mood))
            sent += count

        def counted() -> Any:
            return asyncio.to_thread(lambda: worker.total("feedback_items") == sent)

        await send(60, "terrible")
        for kill in range(KILLS):
            # Anywhere between its start and some time after it took records.
            await asyncio.sleep(dice.uniform(0.0, 1.5))
            worker.kill()
            if kill in KILLS_OF_ALERTMANAGER:
                # What it has told since it last saved, it would tell again.
                await until(lambda: all(heard(peer)[topic, "firing"] for topic in TOPICS), 60)
                await peer.saved()
                await peer.stop(signal.SIGKILL)
                await asyncio.to_thread(worker.start, ready=dice.random() < 0.7)
                await peer.start()
            else:
                await asyncio.to_thread(worker.start, ready=dice.random() < 0.7)
            await send(6, "terrible")
        worker.kill()
        await asyncio.to_thread(worker.start)
        await until(counted, 120)
        await until(lambda: all(heard(peer)[topic, "firing"] for topic in TOPICS), 60)
        assert heard(peer) == {(topic, "firing"): 1 for topic in TOPICS}

        await send(3 * sent, "great")
        await until(counted, 120)
        expected = {(topic, status): 1 for topic in TOPICS for status in ("firing", "resolved")}
        await until(lambda: len(heard(peer)) == len(expected), 120)
        await asyncio.sleep(2)  # for a page too many
        assert heard(peer) == expected
        assert peer.refused >= 2
