"""From feedback to a page: a real worker, a real Alertmanager, and both of them dying in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from pipeline.broker import EmbeddedBroker
from pipeline.codec import encode_feedback
from tests.e2e.test_alertmanager import Peer, opened, until
from tests.feed import babble
from tests.plant import Plant
from tests.store import feedback

pytestmark = [pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(240)]

RULE = """
[[rule]]
name = "rise"
kind = "threshold"
summary = "More negative feedback than usual"
group_by = ["topic"]
window = "15m"
min_items = 30
share_above = 0.3
severity = "critical"
"""
LEASE_S = 30


@pytest_asyncio.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    """An Alertmanager that is away at first."""
    async with opened(Peer(tmp_path / "alertmanager")) as running:
        await running.stop()
        yield running


def said(first: int, count: int, mood: str, minutes: tuple[float, float] = (0, 0)) -> list[tuple[bytes, bytes]]:
    """Items that are all about delivery, each in words of its own, said evenly from so many minutes ago to so many."""
    dice, now = random.Random(first), datetime.now(UTC)
    records = []
    for i in range(count):
        words = babble(dice)
        at = now - timedelta(minutes=minutes[0] + (minutes[1] - minutes[0]) * i / count)
        item = feedback(f"{first + i}", text=f"{mood} delivery {words}", created_at=at, received_at=now)
        records.append((item.feedback_id.encode(), encode_feedback(item)))
    return records


async def test_one_page_whoever_dies_then_the_end(broker: EmbeddedBroker, peer: Peer, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULE)
    alerts = f'rules = "{rules}"\nalertmanager = ["{peer.url}"]\nlease_s = {LEASE_S}'
    with Plant(tmp_path, broker.bootstrap, alerts=alerts) as plant:
        worker = await asyncio.to_thread(plant.worker)

        async def counted(items: int) -> None:
            await until(lambda: asyncio.to_thread(lambda: worker.total("feedback_items") == items), 60)

        await asyncio.to_thread(plant.send, said(0, 200, "great", (180, 10)))
        await counted(200)
        await asyncio.to_thread(plant.send, said(1000, 60, "terrible", (10, 0)))
        await counted(260)
        await until(lambda: asyncio.to_thread(lambda: worker.total("feedback_alert_active", rule="rise") == 1), 20)

        # It waits for an Alertmanager that is away, and posts when there is one.
        def tried() -> bool:
            return worker.total("feedback_alert_notifications_total", outcome="retry") > 0

        await until(lambda: asyncio.to_thread(tried), 20)
        await peer.start()
        await until(lambda: peer.statuses() == ["firing"], 30)
        told = peer.told[0]
        assert told["labels"] | {"alertname": "rise", "topic": "delivery", "severity": "critical"} == told["labels"]
        assert int(told["annotations"]["negative"]) > 0
        assert "terrible delivery" in "\n".join(told["annotations"].values())

        # The worker dies and another goes on with the same incident: more evidence, no second page.
        worker.kill()
        await asyncio.to_thread(worker.start)
        await asyncio.to_thread(plant.send, said(2000, 40, "terrible"))
        await counted(300)

        def renewed() -> bool:
            return worker.total("feedback_alert_notifications_total", outcome="sent") > 0

        await until(lambda: asyncio.to_thread(renewed), LEASE_S)
        assert len(await peer.active()) == 1
        assert peer.statuses() == ["firing"]

        # Alertmanager forgets what was active; the lease brings it back, and pages nobody.
        await peer.stop()
        await peer.start()
        assert await peer.active() == []
        await until(lambda: active(peer), LEASE_S)
        assert peer.statuses() == ["firing"]

        # Back to normal: the end is told once.
        await asyncio.to_thread(plant.send, said(3000, 400, "great"))
        await until(lambda: peer.statuses() == ["firing", "resolved"], 60)


async def active(peer: Peer) -> bool:
    return len(await peer.active()) == 1
