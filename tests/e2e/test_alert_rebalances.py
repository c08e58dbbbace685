"""Workers that join, leave, stand still and die during incidents: one page and one end for each, by each way."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pipeline.broker import EmbeddedBroker
from pipeline.codec import encode_feedback
from tests.e2e.test_alertmanager import Peer, opened, until
from tests.e2e.test_apprise_crashes import service
from tests.feed import babble
from tests.plant import Plant, suspended
from tests.store import feedback

pytestmark = [pytest.mark.prometheus, pytest.mark.slow, pytest.mark.timeout(280)]

WORKSPACES = tuple(f"shop-{number}" for number in range(8))
RULES = """
[[rule]]
name = "half-bad"
kind = "threshold"
window = "1h"
min_items = 10
share_above = 0.5
"""


@pytest_asyncio.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    async with opened(Peer(tmp_path / "alertmanager")) as running:
        yield running


def said(first: int, count: int, mood: str) -> list[tuple[bytes, bytes]]:
    """So many items in each workspace, each in words of its own."""
    dice, now, records = random.Random(first), datetime.now(UTC), []
    for workspace in WORKSPACES:
        for i in range(first, first + count):
            words = babble(dice)
            item = feedback(f"{workspace}-{i}", workspace=workspace, text=f"{mood} delivery {words}", created_at=now,
                            received_at=now)  # fmt: skip
            records.append((item.feedback_id.encode(), encode_feedback(item)))
    return records


async def test_one_page_and_one_end_an_incident_whoever_has_its_partition(
    broker: EmbeddedBroker, peer: Peer, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    sent = 0
    with service() as (address, chat):
        alerts = f'rules = "{rules}"\nalertmanager = ["{peer.url}"]\napprise = ["json://{address}"]\nlease_s = 30'
        with Plant(tmp_path, broker.bootstrap, alerts=alerts, kafka="partitions = 6") as plant:

            async def send(count: int, mood: str) -> None:
                nonlocal sent
                await asyncio.to_thread(plant.send, said(sent, count, mood))
                sent += count

            def told() -> Counter[tuple[str, str]]:
                return Counter((one["labels"]["workspace"], one["status"]) for one in peer.told)

            def heard() -> Counter[tuple[str, str]]:
                found: Counter[tuple[str, str]] = Counter()
                for one in chat.taken:
                    workspace = one["message"].rpartition("Workspace ")[2].partition(",")[0]
                    found[workspace, "resolved" if one["title"].startswith("Resolved") else "firing"] += 1
                return found

            def counted() -> Any:
                live = [one for one in plant.workers if one.process is not None and one.process.poll() is None]
                return asyncio.to_thread(
                    lambda: sum(one.total("feedback_items") for one in live) == sent * len(WORKSPACES)
                )

            def took_over() -> bool:
                return second.total("feedback_items") == sent * len(WORKSPACES)

            first = await asyncio.to_thread(plant.worker)
            second = await asyncio.to_thread(plant.worker)
            await send(12, "terrible")
            begun = Counter((workspace, "firing") for workspace in WORKSPACES)
            await until(lambda: told() == begun and heard() == begun, 60)

            await asyncio.to_thread(second.stop)
            await send(2, "terrible")
            await until(counted, 60)
            await asyncio.to_thread(second.start)
            await send(2, "terrible")
            with suspended(first.ps()):
                # Longer than a session: the other takes over, and finds out what has been told.
                await asyncio.sleep(6)
                await send(2, "terrible")
                await until(lambda: asyncio.to_thread(took_over), 60)
            await until(counted, 60)
            second.kill()
            await send(2, "terrible")
            await asyncio.to_thread(second.start)
            await until(counted, 60)
            assert told() == begun and heard() == begun

            await send(2 * sent, "great")
            both = begun + Counter((workspace, "resolved") for workspace in WORKSPACES)
            await until(lambda: told() == both and heard() == both, 90)
            await asyncio.sleep(2)  # for one too many
            assert told() == both and heard() == both
