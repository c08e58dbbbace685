"""What alerts cost and how soon they come: `python -m benchmarks.alerting latency|cost|share`.

latency: a real intake, worker and Alertmanager under a steady load. Probes are single items that decide an
alert by themselves (a `severe` rule, a series for each); the time is from before the POST to the webhook.
Beside it the same through Prometheus: scraped and evaluated every second, to the same Alertmanager. A scrape sees
how many probes fire by then, so one counts as told by the first alert that names as many.

cost: processor time by item and by series, for 100 to 10,000 series with an item every 100 s each, apart and within the
fold transaction.

share: processor time of the rules in a real worker with the shipped model and 1,000 and 10,000 series, as a share of
all that the worker uses while it works off a full topic. Its rules are the shipped ones and a spike rule with those
series.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import sqlalchemy as sa
from aiohttp import web

from alerts.alert import Sample
from alerts.duplicates import Recent, signatures
from alerts.engine import Engine, Key
from alerts.rule import DEFAULT_FILE, Rule
from alerts.series import State
from benchmarks.clients import Watch, await_intake, fill
from benchmarks.processes import Running
from benchmarks.texts import items, texts
from connectors.feedback import parse
from pipeline.broker import EmbeddedBroker, free_port
from pipeline.codec import encode_feedback
from pipeline.live_rules import read_rules
from pipeline.settings import Kafka
from pipeline.store import incidents, schema
from pipeline.store.engine import connect, prepare
from pipeline.store.memory import Memory
from pipeline.worker import tune_interpreter

BATCH: Final = 64
SHARE_SERIES: Final = (1_000, 10_000)
SHARE_ITEMS: Final = 10_000
AIM_SHARE: Final = 0.05
PROBE: Final = "zzprobe"
RULES: Final = f"""
[[rule]]
name = "negative-spike"

[[rule]]
name = "probe"
kind = "severe"
words = ["{PROBE}"]
group_by = ["touchpoint"]
resolve_after = "2h"
"""
WORDS: Final = tuple("".join(random.Random(n).choices("abcdefghiklmnoprstu", k=4 + n % 6)) for n in range(4000))


class Hook:
    """A webhook that notes when each alert came: by (alertname, what tells probes apart)."""

    def __init__(self) -> None:
        self.came: dict[tuple[str, str], float] = {}

    async def take(self, request: web.Request) -> web.Response:
        """Alertmanager's notification."""
        now = time.perf_counter()
        for alert in (await request.json())["alerts"]:
            labels = alert["labels"]
            if alert["status"] == "firing":
                self.came.setdefault((labels["alertname"], labels.get("touchpoint") or labels.get("n", "")), now)
        return web.Response()


def latency(seconds: float, rate: float, keyword: bool) -> int:
    """Measure and print; 1 where the aim is missed."""
    with tempfile.TemporaryDirectory(prefix="ovoz-alerting-") as name, ExitStack() as stack:
        return asyncio.run(_latency(Path(name), stack, seconds, rate, keyword))


async def _latency(folder: Path, stack: ExitStack, seconds: float, rate: float, keyword: bool) -> int:
    hook = Hook()
    application = web.Application()
    application.router.add_post("/", hook.take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    alertmanager = _alertmanager(folder, stack, f"http://127.0.0.1:{runner.addresses[0][1]}/")
    broker = EmbeddedBroker()
    await asyncio.to_thread(broker.start)
    stack.callback(broker.stop)
    (folder / "rules.toml").write_text(RULES)
    config = folder / "ovoz.toml"
    config.write_text(
        f'[kafka]\nbootstrap = "{broker.bootstrap}"\n[store]\nurl = "sqlite:///{folder}/ovoz.db"\n'
        f'[ingest]\nport = 0\ndata_dir = "{folder}"\n[worker]\nport = 0\ndata_dir = "{folder}/worker"\n'
        f'[alerts]\nrules = "{folder}/rules.toml"\nalertmanager = ["http://{alertmanager}"]\n'
    )
    command = ["benchmarks.worker"] if keyword else ["pipeline", "worker"]
    worker = Running(folder / "worker.log", [*command, "--config", str(config)])
    stack.callback(worker.stop)
    ingest = Running(folder / "ingest.log", ["pipeline", "ingest", "--config", str(config)])
    stack.callback(ingest.stop)
    await asyncio.to_thread(worker.wait_ready)
    await asyncio.to_thread(ingest.wait_ready)
    url = ingest.url if ingest.url.endswith("/v1/feedback") else f"{ingest.url.rstrip('/')}/v1/feedback"
    await asyncio.to_thread(await_intake, url)
    _prometheus(folder, stack, worker.url, alertmanager)
    posted: dict[str, float] = {}
    async with aiohttp.ClientSession() as session:
        load = asyncio.ensure_future(_load(session, url, seconds + 10, rate))
        await asyncio.sleep(5)
        count = int(seconds / 0.5)
        for number in range(1, count + 1):
            item = _item(f"probe-{number}", f"{PROBE} {' '.join(random.sample(WORDS, 9))}")
            posted[str(number)] = time.perf_counter()
            async with session.post(url, json={**item, "touchpoint": str(number)}) as answer:
                answer.raise_for_status()
            await asyncio.sleep(0.5)
        sent = await load
    await asyncio.sleep(10)
    await runner.cleanup()
    print(_when())
    print(f"{'keyword' if keyword else 'shipped'} model, {sent / (seconds + 10):.0f} items/s posted, {count} probes")
    direct = [hook.came["probe", key] - at for key, at in posted.items() if ("probe", key) in hook.came]
    seen = {int(number): at for (name, number), at in hook.came.items() if name == "Seen"}
    told = {key: min((at for n, at in seen.items() if n >= int(key)), default=None) for key in posted}
    scraped = [came - posted[key] for key, came in told.items() if came is not None]
    _say("POST to webhook, direct", direct, count)
    _say("the same by scrape and rule", scraped, count)
    print("Alertmanager's route has group_wait = 0s: what it waits for others of a group is its own setting")
    return 0 if len(direct) == count and _quantile(direct, 0.99) < 1 else 1


def _when() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def _say(what: str, found: Sequence[float], count: int) -> None:
    if not found:
        print(f"{what}: nothing came")
        return
    p50, p99 = statistics.median(found), _quantile(found, 0.99)
    print(f"{what}: {len(found)} of {count}, p50 {p50:.3f} s, p99 {p99:.3f} s, worst {max(found):.3f} s", flush=True)


def _quantile(found: Sequence[float], share: float) -> float:
    ordered = sorted(found)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _item(name: str, text: str) -> dict[str, Any]:
    return {"source": "bench", "id": name, "text": text, "channel": "review"}


async def _load(session: aiohttp.ClientSession, url: str, seconds: float, rate: float) -> int:
    sent, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < seconds:
        due = int(passed * rate) - sent
        if due > 0:
            lines = [
                json.dumps(_item(f"load-{sent + i}", f"delivery {' '.join(random.sample(WORDS, 12))}"))
                for i in range(due)
            ]
            body = "\n".join(lines).encode()
            headers = {"Content-Type": "application/x-ndjson"}
            async with session.post(url, data=body, headers=headers) as answer:
                answer.raise_for_status()
            sent += due
        await asyncio.sleep(0.1)
    return sent


def _alertmanager(folder: Path, stack: ExitStack, hook: str) -> str:
    route = {"receiver": "hook", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
    receivers = [{"name": "hook", "webhook_configs": [{"url": hook, "send_resolved": False}]}]
    (folder / "alertmanager.yml").write_text(json.dumps({"route": route, "receivers": receivers}))
    address = f"127.0.0.1:{free_port()}"
    _serve(folder, stack, "alertmanager", [
        f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/alertmanager",
        f"--web.listen-address={address}", "--cluster.listen-address=",
    ])  # fmt: skip
    return address


def _prometheus(folder: Path, stack: ExitStack, metrics: str, alertmanager: str) -> None:
    # A label that counts makes an alert of its own for each probe.
    rule = {"alert": "Seen", "expr": 'count_values("n", sum(feedback_alert_active{rule="probe"}))'}
    (folder / "rules.json").write_text(json.dumps({"groups": [{"name": "g", "rules": [rule]}]}))
    target = metrics.removeprefix("http://").removesuffix("/metrics")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [f"{folder}/rules.json"],
        "scrape_configs": [{"job_name": "worker", "static_configs": [{"targets": [target]}]}],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    _serve(folder, stack, "prometheus", [
        f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/prometheus",
        f"--web.listen-address=127.0.0.1:{free_port()}",
    ])  # fmt: skip


def _serve(folder: Path, stack: ExitStack, name: str, arguments: Sequence[str]) -> None:
    program = shutil.which(name) or shutil.which(f"prometheus-{name}")
    if program is None:
        raise RuntimeError(f"{name} is not installed")
    log = stack.enter_context((folder / f"{name}.log").open("wb"))
    process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
    stack.callback(process.wait)
    stack.callback(process.kill)


def cost() -> int:
    """Print a table of costs; 1 where it is not linear."""
    tune_interpreter()  # as a worker is
    each_item, each_series = [], []
    print(_when())
    start = datetime(2026, 11, 2, tzinfo=UTC)
    print("active series  us/item, one spike rule  us/item, near-duplicates  us/series, its item and its state written")
    for count in (100, 1_000, 10_000):
        item, folded, series = _cost([Rule(name="spike")], count, start)
        each_item.append(item)
        each_series.append(series)
        print(f"{count:13}  {item * 1e6:23.1f}  {folded * 1e6:24.1f}  {series * 1e6:32.1f}", flush=True)
    shipped = read_rules(None)
    item, _, series = _cost(shipped, 100, start)
    print(f"{len(shipped)} shipped rules, 100 topics: {item * 1e6:.1f} us/item, {series * 1e6:.1f} us/topic and batch")
    linear = max(each_item) < 2 * min(each_item) and max(each_series) < 3 * min(each_series)
    return 0 if linear else 1


def _cost(rules: Sequence[Rule], count: int, start: datetime) -> tuple[float, float, float]:
    """Seconds of processor time: an item of detection, an item of near-duplicates, a series in a transaction."""
    dice, engine, recent = random.Random(count), Engine(rules), Recent()
    end = start + timedelta(days=30)
    samples = [_sample(i, start, dice, count) for i in range(3 * count)]
    states: dict[Key, State] = engine.evaluate(samples, {}, end).states
    more = [_sample(3 * count + i, start, dice, count) for i in range(5 * count)]
    begun = time.process_time()
    for first in range(0, len(more), 4 * BATCH):
        states |= engine.evaluate(more[first : first + 4 * BATCH], states, end).states
    item = (time.process_time() - begun) / len(more)
    some = more[:3000]
    begun = time.process_time()
    for first in range(0, len(some), BATCH):
        batch = some[first : first + BATCH]
        for sample, mark in zip(batch, signatures(batch), strict=True):
            recent.mark(sample, mark)
    folded = (time.process_time() - begun) / len(some)
    memory = Memory()
    with tempfile.TemporaryDirectory() as folder:
        database = connect(f"sqlite:///{folder}/x.db")
        prepare(database)
        with database.begin() as connection:
            connection.execute(sa.insert(schema.workspace).values(workspace="default", floor_minute=0))
            incidents.observe(connection, engine, memory.open(connection, engine, ["default"]), samples)
        begun = time.process_time()
        with database.begin() as connection:
            held = memory.open(connection, engine, ["default"])
            incidents.observe(connection, engine, held, more[:count])
            held["default"].write(connection, engine)
        series = (time.process_time() - begun) / count
        database.dispose()
    return item, folded, series


def share() -> int:
    """Measure and print; 1 where the rules take more than a twentieth, or more an item with more series."""
    per_item, parts = [], []
    print(_when())
    for series in SHARE_SERIES:
        spent, count = _share(series, series + SHARE_ITEMS)
        part_of = {part: seconds / spent["process"] for part, seconds in spent.items()}
        print(f"{series:,} series of one rule beside the shipped rules, {count:,} items, shipped model")
        for part, seconds in spent.items():
            each = f"{seconds / count * 1e6:8.1f} us of processor time an item"
            print(f"{part:16} {each}  {part_of[part]:6.1%}", flush=True)
        per_item.append(spent["rules"] / count)
        parts.append(part_of["rules"])
    linear, met = max(per_item) < 2 * min(per_item), max(parts) <= AIM_SHARE
    print(f"rules within {AIM_SHARE:.0%} of the worker's processor time: {'met' if met else 'MISSED'}; "
          f"linear in items, whatever the number of series: {'met' if linear else 'MISSED'}")  # fmt: skip
    return 0 if met and linear else 1


def _share(series: int, total: int) -> tuple[dict[str, float], int]:
    """Processor seconds by part while the items after the first `series` of `total` are worked off, and how many."""
    with tempfile.TemporaryDirectory(prefix="ovoz-alerting-") as name, ExitStack() as stack:
        folder = Path(name)
        broker = EmbeddedBroker()
        broker.start()
        stack.callback(broker.stop)
        rules = '[[rule]]\nname = "by-touchpoint"\nkind = "spike"\ngroup_by = ["touchpoint"]\n'
        (folder / "rules.toml").write_text(DEFAULT_FILE.read_text("utf-8") + rules, "utf-8")
        config = folder / "ovoz.toml"
        config.write_text(
            f'[kafka]\nbootstrap = "{broker.bootstrap}"\n[store]\nurl = "sqlite:///{folder}/ovoz.db"\n'
            f'[worker]\nport = 0\ndata_dir = "{folder}/worker"\n[alerts]\nrules = "{folder}/rules.toml"\n'
        )
        now = datetime.now(UTC)
        spoken = enumerate(items(texts(total, seed=41), "share"))
        records = [
            parse({**item, "workspace": "w0", "touchpoint": f"t{number % series}"}, now=now) for number, item in spoken
        ]
        fill(Kafka(bootstrap=broker.bootstrap), ((one.feedback_id.encode(), encode_feedback(one)) for one in records))
        account = folder / "account.json"
        command = ["benchmarks.worker", "--config", str(config), "--model", "settings", "--account", str(account)]
        worker = Running(folder / "worker.log", command)
        stack.callback(worker.stop)
        watch = Watch(folder / "ovoz.db", live=True)
        # Nearly every series has been heard by then, and is known.
        watch.until(series, worker.alive)
        before, first = json.loads(account.read_text()), watch.count()
        watch.until(total, worker.alive)
        after = json.loads(account.read_text())
    return {part: after[part] - before[part] for part in after}, total - first


def _sample(number: int, start: datetime, dice: random.Random, series: int) -> Sample:
    return Sample(
        feedback_id=f"b::{number}", workspace="default", source="shop", channel="review", topic=f"t{number % series}",
        language="en", sentiment="negative" if dice.random() < 0.25 else "positive", score=0.0,
        at=start + timedelta(seconds=100 * number / series), text=" ".join(dice.sample(WORDS, 20)), model="m@1",
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alerting", description=__doc__)
    parser.add_argument("what", choices=("latency", "cost", "share"))
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to probe, two probes a second")
    parser.add_argument("--rate", type=float, default=200.0, help="items a second beside the probes")
    parser.add_argument("--keyword", action="store_true", help="the keyword model instead of the shipped one")
    given = parser.parse_args(arguments)
    if given.what == "latency":
        return latency(given.seconds, given.rate, given.keyword)
    return cost() if given.what == "cost" else share()


if __name__ == "__main__":
    sys.exit(main())
