"""Proof that a backfill may be killed at any time: `ovoz backfill` dies again and again in the middle, and goes on;
then every item of history must count exactly once, at the time when it was said, and no alert may have come of it.

    python -m benchmarks.backfill --kills 6

At the end the same words are said once more, now: that an alert comes of them shows that one could have come.
Exit status 1 when it does not hold; the last line is the verdict.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from benchmarks.connectors import Process, published, until
from benchmarks.servers import EmbeddedBroker
from connectors.fakes.fake import Limited, Running, Said, fake_of
from connectors.feedback import Feedback
from pipeline.bus import Bus
from pipeline.codec import encode_feedback
from pipeline.settings import Kafka
from pipeline.settings_file import toml
from pipeline.store import read
from pipeline.store.engine import connect
from pipeline.store.read import reading
from pipeline.topics import Topics
from pipeline.windows import minute_of

SERVICES: Final = ("app_store", "trustpilot", "typeform", "zendesk")
DELAY_S: Final = 0.05
SEVERE: Final = "The battery caught fire and burned my daughter"


@dataclass(slots=True)
class Report:
    """What was said, what was published and counted. `odd_times`: minutes whose count is not that of what was said
    in them; `alerts`: before, and after the same was said live.
    """

    said: int = 0
    kills: int = 0
    published: int = 0
    missing: int = 0
    counted: int = 0
    live: int = 0
    odd_times: int = 0
    alerts: tuple[int, int] = (0, 0)
    lives: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether all is there once, at its time, without an alert, and an alert could have come."""
        once = self.missing == self.odd_times == self.live == 0 and self.counted == self.said
        return once and self.alerts[0] == 0 and self.alerts[1] > 0


async def backfill(kills: int, service: str, items: int, folder: Path, *, seed: int = 1) -> Report:
    """Kill the backfill of `items` things said at one service `kills` times, each in the middle; then let it end."""
    chance, report, began = random.Random(seed), Report(said=items), time.monotonic()
    now = datetime.now(UTC)
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker())
        fake = fake_of(service)
        for limit in fake.limits if isinstance(fake, Limited) else ():
            limit.requests = 100_000  # that limits are kept is shown elsewhere, and takes its time
        at = await stack.enter_async_context(Running(fake, delay_s=DELAY_S))
        minutes: Counter[int] = Counter()
        for number in range(items):
            spoken = now - timedelta(days=6) + timedelta(minutes=number)
            fake.say(Said(id=f"{number + 1:06d}", text=f"{SEVERE}, case {number}", at=spoken))
            minutes[minute_of(spoken)] += 1
        config = folder / "ovoz.toml"
        config.write_text(
            f'[kafka]\nbootstrap = "{broker.bootstrap}"\n[store]\nurl = "sqlite:///{folder}/ovoz.db"\n'
            f'[ingest]\nlease_s = 1\ndata_dir = "{folder}"\n[worker]\nport = 0\ndata_dir = "{folder}/w"\n'
            f'[model]\nengine = "lexicon"\n[[connector]]\nuse = "{service}"\nname = "place"\n'
            + "".join(f"{key} = {toml(value)}\n" for key, value in at.table.items()),
            "utf-8",
        )
        log, environ = folder / "run.log", dict(fake.environment)
        command = ["backfill", "place", "--since", f"{now - timedelta(days=7):%Y-%m-%d}"]
        for life in range(kills):
            before = _taken(folder)
            # Somewhere before the end, so that each life has something left to do.
            goal = before + chance.uniform(0.2, 1.0) * (items - before) / (kills - life + 1)
            async with Process(command, config, environ, log) as running:
                await until(lambda goal=goal, running=running: running.ended or _taken(folder) > goal, "some history")
                if running.ended:
                    raise RuntimeError(f"it ended before it was killed: {log.read_text(errors='replace')[-1000:]}")
                running.kill()
            report.kills += 1
            report.lives.append(_taken(folder) - before)
        async with Process(command, config, environ, log) as running:
            await until(lambda: running.ended, "the end of the backfill")
        found = published(broker.bootstrap)
        report.published = len(found)
        report.live = sum(not one.backfill for one in found)
        report.missing = items - len({one.text for one in found})
        worker = await stack.enter_async_context(Process(["worker"], config, environ, log))
        await worker.ready("metrics on ", started=False)
        await until(lambda: sum(_minutes(folder).values()) >= items - report.missing, "every item counted", fail=False)
        counted = _minutes(folder)
        report.counted = counted.total()
        report.odd_times = sum((counted - minutes).values()) + sum((minutes - counted).values())
        before_alerts = _alerts(folder)
        await _say_live(broker.bootstrap, found[-1])
        await until(lambda: _alerts(folder) > 0, "an alert of what is said live", fail=False)
        report.alerts = (before_alerts, _alerts(folder))
    report.seconds = time.monotonic() - began
    return report


def _taken(folder: Path) -> int:
    """Items that the backfill says it has."""
    with suppress(sqlite3.Error), sqlite3.connect(f"file:{folder}/ovoz.db?mode=ro", uri=True) as db:
        return int(db.execute("SELECT coalesce(max(item_count), 0) FROM connector").fetchone()[0])
    return 0


def _minutes(folder: Path) -> Counter[int]:
    """How many items count in each minute."""
    engine, found = connect(f"sqlite:///{folder}/ovoz.db"), Counter[int]()
    try:
        with reading(engine) as connection:
            for cell, (count, _) in read.cells(connection).items():
                found[cell.minute] += count
    finally:
        engine.dispose()
    return found


def _alerts(folder: Path) -> int:
    engine = connect(f"sqlite:///{folder}/ovoz.db")
    try:
        with reading(engine) as connection:
            return len(read.alerts(connection))
    finally:
        engine.dispose()


async def _say_live(bootstrap: str, like: Feedback) -> None:
    """The same, as a new item that was said just now."""
    now, kafka = datetime.now(UTC), Kafka(bootstrap=bootstrap)
    item = Feedback(
        source=like.source, instance=like.instance, external_id="live", created_at=now, received_at=now,
        channel=like.channel, text=SEVERE, language="en",
    )  # fmt: skip
    bus = Bus(kafka)
    try:
        await bus.publish(Topics.of(kafka).raw.name, [(item.feedback_id.encode(), encode_feedback(item))])
    finally:
        await asyncio.to_thread(bus.close)


def main() -> int:
    """Run it for each service; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], prog="python -m benchmarks.backfill")
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--service", choices=SERVICES, action="append")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    holds = True
    for service in given.service or SERVICES:
        with tempfile.TemporaryDirectory(prefix="ovoz-backfill-") as folder:
            report = asyncio.run(backfill(given.kills, service, given.items, Path(folder), seed=given.seed))
        print(f"{service}: {report.kills} kills (items in each life: {report.lives}), {report.seconds:.0f} s: "
              f"{report.said} said, {report.published} records published, {report.missing} missing, {report.counted} "
              f"counted, {report.odd_times} at another time, {report.live} not marked; alerts {report.alerts[0]} of "
              f"history, {report.alerts[1]} of the same said live")  # fmt: skip
        holds &= report.holds
    print("holds" if holds else "DOES NOT HOLD")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
