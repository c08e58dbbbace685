"""A real Alertmanager with a webhook: one page an incident, leases, restarts, the end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from alerts.alert import Alert
from alerts.engine import Engine
from alerts.notifiers import AlertmanagerNotifier
from alerts.rule import Rule
from alerts.verdict import Permanent
from pipeline.broker import free_port
from tests import feed

pytestmark = pytest.mark.prometheus

LEASE_S = 2.0
SAVES_S = 1
"""How often Alertmanager saves whom it has told; the deployment's is 5 s."""


def program() -> str:
    """The server's path; without it the test is skipped, and fails in CI."""
    for name in ("prometheus-alertmanager", "alertmanager"):
        if found := shutil.which(name):
            return found
    if os.environ.get("CI") == "true":
        pytest.fail("Alertmanager is not installed")
    pytest.skip("Alertmanager is not installed (Debian: prometheus-alertmanager)")


class Peer:
    """An Alertmanager in a folder of its own, and a webhook that keeps what it is told."""

    def __init__(self, folder: Path, *more: str) -> None:
        """`more`: options of Alertmanager; without any it has no peers, and saves every SAVES_S."""
        self.folder = folder
        self.told: list[dict[str, Any]] = []
        self.process: asyncio.subprocess.Process | None = None
        self.options = more or ("--cluster.listen-address=", f"--data.maintenance-interval={SAVES_S}s")
        self.url = f"http://127.0.0.1:{free_port()}"

    async def hook(self, request: web.Request) -> web.Response:
        self.told += (await request.json())["alerts"]
        return web.Response()

    async def open(self) -> None:
        """Start the webhook, then Alertmanager."""
        await self.serve()
        await self.start()

    async def serve(self) -> None:
        application = web.Application()
        application.router.add_post("/", self.hook)
        self.runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        host, port = self.runner.addresses[0]
        config = {
            "route": {
                "receiver": "hook",
                "group_by": ["..."],
                "group_wait": "0s",
                "group_interval": "200ms",
                "repeat_interval": "1h",
            },
            "receivers": [
                {"name": "hook", "webhook_configs": [{"url": f"http://{host}:{port}/", "send_resolved": True}]}
            ],
        }
        # YAML takes JSON.
        (self.folder / "alertmanager.yml").write_text(json.dumps(config))

    async def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                program(),
                f"--config.file={self.folder}/alertmanager.yml",
                f"--storage.path={self.folder}/data",
                f"--web.listen-address={self.url.removeprefix('http://')}",
                *self.options,
                stdout=log,
                stderr=log,
            )
        await until(self.ready)

    async def ready(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, (self.folder / "log").read_text()
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/-/ready") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(how)
            await asyncio.wait_for(self.process.wait(), 10)

    async def close(self) -> None:
        await self.stop(signal.SIGKILL)
        await self.runner.cleanup()

    async def active(self) -> list[dict[str, Any]]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/api/v2/alerts") as answer:
            found: list[dict[str, Any]] = await answer.json()
            return found

    async def saved(self) -> None:
        """Returns once it has saved whom it had told by now."""
        path, now_s = self.folder / "data/nflog", time.time()
        await until(lambda: path.exists() and path.stat().st_mtime > now_s + 0.1)

    def statuses(self, topic: str = "delivery") -> list[str]:
        return [one["status"] for one in self.told if one["labels"]["topic"] == topic]


P = TypeVar("P", bound=Peer)


@asynccontextmanager
async def opened(peer: P) -> AsyncIterator[P]:
    """`peer`, running until it is closed; its folder is made."""
    program()
    peer.folder.mkdir(exist_ok=True)
    try:
        await peer.open()
        yield peer
    finally:
        await peer.close()


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    """Wait until `condition` (a function or a coroutine function) is true."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    async with opened(Peer(tmp_path)) as running:
        yield running


@pytest_asyncio.fixture
async def notifier(peer: Peer) -> AsyncIterator[AlertmanagerNotifier]:
    made = AlertmanagerNotifier([peer.url], LEASE_S)
    yield made
    await made.close()


def firing(topic: str = "delivery") -> Alert:
    """An incident that began a few seconds ago."""
    samples = [feed.sample(i, i / 10, negative=i % 4 == 0, topic=topic) for i in range(200)]
    samples += [feed.sample(1000 + i, 20 + i / 10, negative=True, topic=topic) for i in range(60)]
    rules = [Rule(name="rise", severity="critical", labels=(("product", "courier"),))]
    (alert,) = Engine(rules).evaluate(samples, {}, datetime(2027, 1, 1, tzinfo=UTC)).alerts
    return replace(alert, starts_at=now() - timedelta(seconds=5))


def now() -> datetime:
    return datetime.now(UTC)


async def renew(notifier: AlertmanagerNotifier, alert: Alert, seconds: float) -> None:
    """Post `alert` again every third of the lease, as the outbox does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await notifier.send([alert], now())
        await asyncio.sleep(LEASE_S / 3)


async def test_one_page_through_renewals_and_a_restart_then_the_end(peer: Peer, notifier: AlertmanagerNotifier) -> None:
    alert = firing()
    begun = time.monotonic()
    await notifier.send([alert], now())
    await until(lambda: peer.statuses() == ["firing"])
    assert time.monotonic() - begun < 5
    told = peer.told[0]
    assert told["labels"] == {
        "alertname": "rise",
        "workspace": "default",
        "topic": "delivery",
        "severity": "critical",
        "product": "courier",
    }
    assert told["annotations"] == alert.annotations
    assert datetime.fromisoformat(told["startsAt"]) == alert.starts_at

    # The numbers change, the lease would have ended: still the same page.
    newer = replace(alert, annotations={**alert.annotations, "negative": "999"})
    await renew(notifier, newer, 2 * LEASE_S)
    (active,) = await peer.active()
    assert active["annotations"]["negative"] == "999"
    assert peer.statuses() == ["firing"]

    await peer.stop()
    await peer.start()
    assert await peer.active() == []
    await renew(notifier, newer, LEASE_S)
    assert len(await peer.active()) == 1
    assert peer.statuses() == ["firing"]

    await notifier.send([replace(newer, state="resolved", ends_at=now())], now())
    await until(lambda: peer.statuses() == ["firing", "resolved"])
    assert datetime.fromisoformat(peer.told[-1]["startsAt"]) == alert.starts_at
    await notifier.send([replace(newer, state="resolved", ends_at=now())], now())
    await until(lambda: gone(peer))
    assert peer.statuses() == ["firing", "resolved"]


@pytest.mark.slow
async def test_kill_9_pages_nobody_again_once_alertmanager_has_saved_whom_it_told(
    peer: Peer, notifier: AlertmanagerNotifier
) -> None:
    alert = firing()
    await notifier.send([alert], now())
    await until(lambda: peer.statuses() == ["firing"])
    await peer.saved()
    for _ in range(2):
        await peer.stop(signal.SIGKILL)
        await peer.start()
        assert await peer.active() == []
        await renew(notifier, alert, 1.5 * LEASE_S)
        assert len(await peer.active()) == 1
        assert peer.statuses() == ["firing"]
    await notifier.send([replace(alert, state="resolved", ends_at=now())], now())
    await until(lambda: peer.statuses() == ["firing", "resolved"])


@pytest.mark.slow
async def test_two_alertmanagers_page_once_though_each_is_killed_with_nothing_saved(tmp_path: Path) -> None:
    program()
    ports = free_port(), free_port()
    peers = []
    for number, port in enumerate(ports):
        folder = tmp_path / str(number)
        folder.mkdir()
        options = (
            f"--cluster.listen-address=127.0.0.1:{port}",
            f"--cluster.peer=127.0.0.1:{ports[1 - number]}",
            "--cluster.peer-timeout=2s",
            "--cluster.settle-timeout=1s",
            "--cluster.reconnect-interval=1s",
            "--data.maintenance-interval=15m",
        )
        peers.append(Peer(folder, *options))
    first, second = peers
    notifier = AlertmanagerNotifier([first.url, second.url], 60)
    alert = firing()
    try:
        await asyncio.gather(*(one.serve() for one in peers))
        await asyncio.gather(*(one.start() for one in peers))
        for one in peers:
            await until(lambda one=one: joined(one))
        await notifier.send([alert], now())
        await until(lambda: told(peers))
        for one in peers:
            # Gossip needs a fifth of a second.
            await renew(notifier, alert, 1.0)
            await one.stop(signal.SIGKILL)
            assert not (one.folder / "data/nflog").exists()
            await one.start()
            await until(lambda one=one: joined(one))
            await renew(notifier, alert, 4.0)
        assert told(peers) == ["firing"]
    finally:
        await notifier.close()
        for one in peers:
            await one.close()


async def joined(peer: Peer) -> bool:
    """Whether it sees the other and takes part."""
    async with aiohttp.ClientSession() as session, session.get(f"{peer.url}/api/v2/status") as answer:
        cluster = (await answer.json())["cluster"]
        return cluster["status"] == "ready" and len(cluster["peers"]) == 2


def told(peers: list[Peer]) -> list[str]:
    return [status for one in peers for status in one.statuses()]


async def test_what_is_not_renewed_ends_by_itself(peer: Peer, notifier: AlertmanagerNotifier) -> None:
    await notifier.send([firing("billing")], now())
    await until(lambda: peer.statuses("billing") == ["firing"])
    await until(lambda: peer.statuses("billing") == ["firing", "resolved"])


async def test_what_is_over_when_first_told_pages_nobody(peer: Peer, notifier: AlertmanagerNotifier) -> None:
    over = replace(firing("app"), state="resolved", ends_at=now())
    await notifier.send([over, firing()], now())
    await until(lambda: peer.statuses() == ["firing", "resolved"])
    assert peer.statuses("app") == []


async def test_one_bad_alert_among_good_ones(peer: Peer, notifier: AlertmanagerNotifier) -> None:
    bad = replace(firing("app"), labels=(("not a name", "x"), ("topic", "app")), incident="bad")
    with pytest.raises(Permanent) as told:
        await notifier.send([firing(), bad, firing("billing")], now())
    assert told.value.incidents == ("bad",)
    await until(lambda: "firing" in peer.statuses() and "firing" in peer.statuses("billing"))
    assert peer.statuses("app") == []


async def gone(peer: Peer) -> bool:
    return await peer.active() == []
