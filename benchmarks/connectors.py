"""Proof that connectors lose and double nothing: `ovoz ingest` is killed again and again while customers speak at
flaky services; then every item must be in `feedback.raw` and be counted exactly once. And how many one process bears.

    python -m benchmarks.connectors --kills 50
    python -m benchmarks.connectors --load 200

Exit status 1 when an item is missing, counted twice, or a secret shows; the last line is the verdict.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil

from benchmarks.servers import EmbeddedBroker
from connectors.fakes.fake import Fault, Running, Said, fake_of
from connectors.feedback import Feedback
from pipeline.bus import admin, read_offsets
from pipeline.codec import decode_feedback
from pipeline.settings import Kafka
from pipeline.settings_file import toml
from pipeline.store import read
from pipeline.store.connectors import progress
from pipeline.store.engine import connect
from pipeline.store.read import reading
from pipeline.topics import Topics

SERVICES: Final = ("trustpilot", "app_store", "google_play", "typeform", "telegram")
FAULTS: Final = (
    Fault(status=500), Fault(status=503), Fault(kind="html"), Fault(kind="cut"), Fault(status=200, body=b"[[["),
    Fault(status=429, headers={"Retry-After": "1"}),
)  # fmt: skip
PATIENCE_S: Final = 180.0


@dataclass(slots=True)
class Report:
    """What was said, what arrived, and what one process took for it."""

    said: int = 0
    published: int = 0
    missing: list[str] = field(default_factory=list)
    counted: int = 0
    kills: int = 0
    faults: int = 0
    secrets_shown: list[str] = field(default_factory=list)
    seconds: float = 0.0
    rss_mb: float = 0.0
    cpu_share: float = 0.0
    requests_per_s: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether nothing is missing, doubled or shown."""
        return not self.missing and self.counted == self.said and not self.secrets_shown


async def chaos(kills: int, connectors: int, folder: Path, *, seed: int = 1, per_life: int = 2) -> Report:
    """Kill ingest `kills` times while `connectors` of them follow flaky services, at each of which `per_life`
    customers speak in each life of the process; let it catch up, and count.
    """
    chance, report, began = random.Random(seed), Report(), time.monotonic()
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker())
        services = [await _service(stack, SERVICES[n % len(SERVICES)]) for n in range(connectors)]
        environ = _secrets(services)
        config = _config(folder, broker.bootstrap, services, every="1s")
        log = folder / "run.log"
        async with Process(["ingest"], config, environ, log):
            await until(lambda: _with_cursor(folder) == connectors, "every cursor saved")
        flaky = asyncio.create_task(_flaky(services, chance, report))
        stack.callback(flaky.cancel)
        said: set[str] = set()
        for life in range(kills):
            async with Process(["ingest"], config, environ, log) as ingest:
                await ingest.ready("intake on ")
                _speak(services, life * per_life, per_life, said)
                await asyncio.sleep(chance.uniform(0.0, 1.2))
                ingest.kill()
                report.kills += 1
        flaky.cancel()
        for service in services:
            service.faults.clear()
        worker = await stack.enter_async_context(Process(["worker"], config, environ, log))
        async with Process(["ingest"], config, environ, log) as ingest:
            await worker.ready("metrics on ", started=False)
            await until(lambda: said <= set(_texts(broker.bootstrap)), "every item in feedback.raw", fail=False)
            texts = _texts(broker.bootstrap)
            await until(lambda: _counted(folder) >= len(set(texts)), "every item counted", fail=False)
            shown = await _metrics(await ingest.ready("intake on "))
        report.said, report.published = len(said), len(texts)
        report.missing = sorted(said - set(texts))
        report.counted = _counted(folder)
        report.secrets_shown = _shown(environ, folder, shown)
    report.seconds = time.monotonic() - began
    return report


async def load(connectors: int, folder: Path, seconds: float = 30.0) -> Report:
    """One process with so many connectors, each asking every five seconds: its memory and processor time."""
    report = Report()
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker())
        services = [await _service(stack, SERVICES[n % len(SERVICES)]) for n in range(min(connectors, 20))]
        environ = _secrets(services)
        config = _config(folder, broker.bootstrap, [services[n % len(services)] for n in range(connectors)], every="5s")
        _speak(services, 0, 50, set())
        async with Process(["ingest"], config, environ, folder / "run.log") as ingest:
            await ingest.ready("intake on ")
            await until(lambda: _with_cursor(folder) == connectors, "every connector has its cursor")
            process = psutil.Process(ingest.pid)
            before, asked, began = sum(process.cpu_times()[:2]), _asked(services), time.monotonic()
            while time.monotonic() - began < seconds:
                report.rss_mb = max(report.rss_mb, process.memory_info().rss / 2**20)
                await asyncio.sleep(0.5)
            took = time.monotonic() - began
            report.cpu_share = (sum(process.cpu_times()[:2]) - before) / took
            report.requests_per_s = (_asked(services) - asked) / took
    report.seconds = seconds
    return report


class Process:
    """`async with` one `ovoz` command; what it prints goes to a file."""

    def __init__(self, command: Sequence[str], config: Path, environ: Mapping[str, str], log: Path) -> None:
        self._command = [sys.executable, "-m", "pipeline", *command, "--config", str(config)]
        self._environ = {**os.environ, **environ, "PYTHONUNBUFFERED": "1"}
        self._log = log
        self._start = log.stat().st_size if log.exists() else 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    async def __aenter__(self) -> Process:
        with self._log.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdout=out, stderr=out, env=self._environ
            )
        return self

    async def ready(self, mark: str, *, started: bool = True) -> str:
        """What stands after `mark` on the line that says it is up; without `started` only that it lives."""
        found = ""

        def there() -> bool:
            nonlocal found
            assert self._process is not None
            if self._process.returncode is not None:
                raise RuntimeError(f"it ended: {self._log.read_text(errors='replace')[-2000:]}")
            lines = self._log.read_bytes()[self._start :].decode(errors="replace").splitlines()
            found = next((line.partition(mark)[2] for line in lines if line.startswith(mark)), "")
            return bool(found) or not started

        await until(there, f"{self._command[3]} up")
        return found

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.returncode is not None

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
        try:
            async with asyncio.timeout(20):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def _service(stack: AsyncExitStack, name: str) -> Running:
    return await stack.enter_async_context(Running(fake_of(name)))


def _secrets(services: Sequence[Running]) -> dict[str, str]:
    return {key: value for service in services for key, value in service.fake.environment.items()}


def _config(folder: Path, bootstrap: str, services: Sequence[Running], every: str) -> Path:
    parts = [
        f'[kafka]\nbootstrap = "{bootstrap}"\n[store]\nurl = "sqlite:///{folder}/ovoz.db"\n'
        f'[ingest]\nport = 0\nlease_s = 1\ndata_dir = "{folder}"\n[worker]\nport = 0\ndata_dir = "{folder}/w"\n'
        '[model]\nengine = "lexicon"\n'
    ]
    for number, service in enumerate(services):
        name = next(name for name in SERVICES if type(service.fake) is type(fake_of(name)))
        parts.append(f'[[connector]]\nuse = "{name}"\nname = "i{number}"\nevery = "{every}"\nmodes = ["poll"]\n')
        parts += [f"{key} = {toml(value)}\n" for key, value in service.table.items()]
    file = folder / "ovoz.toml"
    file.write_text("".join(parts), "utf-8")
    return file


def _speak(services: Sequence[Running], start: int, count: int, said: set[str]) -> None:
    for place, service in enumerate(services):
        for number in range(start + 1, start + count + 1):
            text = f"The courier never came, order number {number} of place {place}"
            service.fake.say(Said(id=f"{number:06d}", text=text, at=datetime.now(UTC)))
            said.add(text)


async def _flaky(services: Sequence[Running], chance: random.Random, report: Report) -> None:
    while True:
        await asyncio.sleep(0.3)
        service = chance.choice(list(services))
        if not service.faults:
            service.faults.append(chance.choice(FAULTS))
            report.faults += 1


async def until(holds: Any, what: str, *, fail: bool = True) -> None:
    """Return when it holds; after PATIENCE_S fail with `what`, or return nevertheless."""
    deadline = time.monotonic() + PATIENCE_S
    while not await asyncio.to_thread(holds):
        if time.monotonic() > deadline:
            if fail:
                raise RuntimeError(f"not within {PATIENCE_S:.0f} s: {what}")
            return
        await asyncio.sleep(0.1)


def published(bootstrap: str) -> list[Feedback]:
    """All that is in `feedback.raw`."""
    kafka = Kafka(bootstrap=bootstrap)
    topic = Topics.of(kafka).raw.name
    with admin(kafka) as client:
        ends = client.ends(topic)
    return [
        decode_feedback(value)
        for partition, (first, last) in ends.items()
        if last > first
        for _, _, value in read_offsets(kafka, topic, partition, [(first, last)])
    ]


def _texts(bootstrap: str) -> list[str]:
    return [one.text.split("\n")[-1] for one in published(bootstrap)]


def _with_cursor(folder: Path) -> int:
    database = folder / "ovoz.db"
    if not database.exists():
        return 0
    with suppress(sqlite3.Error), sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        return int(db.execute("SELECT count(*) FROM connector WHERE last_success_us IS NOT NULL").fetchone()[0])
    return 0


def _counted(folder: Path) -> int:
    engine = connect(f"sqlite:///{folder}/ovoz.db")
    try:
        with reading(engine) as connection:
            return sum(read.totals(connection).values())
    finally:
        engine.dispose()


async def _metrics(url: str) -> str:
    base = url.strip().removesuffix("/v1/feedback")
    async with aiohttp.ClientSession() as client, client.get(f"{base}/metrics") as answer:
        return await answer.text()


def _asked(services: Sequence[Running]) -> int:
    return sum(len(service.seen) for service in services)


def _shown(environ: Mapping[str, str], folder: Path, metrics: str) -> list[str]:
    """Names of the secrets that a log, the metrics or what is kept of a connector shows."""
    engine = connect(f"sqlite:///{folder}/ovoz.db")
    try:
        with reading(engine) as connection:
            kept = repr(progress(connection))
    finally:
        engine.dispose()
    everything = (folder / "run.log").read_text(errors="replace") + metrics + kept
    return sorted(name for name, value in environ.items() if len(value) > 3 and value in everything)


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], prog="python -m benchmarks.connectors")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--connectors", type=int, default=10)
    parser.add_argument("--load", type=int, default=0, metavar="CONNECTORS")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ovoz-connectors-") as folder:
        if given.load:
            report = asyncio.run(load(given.load, Path(folder)))
            print(f"{given.load} connectors in one process: {report.rss_mb:.0f} MB, {report.cpu_share:.0%} of a core, "
                  f"{report.requests_per_s:.0f} requests/s")  # fmt: skip
            return 0
        report = asyncio.run(chaos(given.kills or 50, given.connectors, Path(folder), seed=given.seed))
    print(f"{report.kills} kills, {report.faults} faults, {given.connectors} connectors, {report.seconds:.0f} s: "
          f"{report.said} items said, {report.published} records published, {len(report.missing)} missing, "
          f"{report.counted} counted")  # fmt: skip
    for text in report.missing[:10]:
        print(f"missing: {text}")
    for name in report.secrets_shown:
        print(f"shown: the secret {name}")
    print("holds" if report.holds else "DOES NOT HOLD")
    return 0 if report.holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
