"""A small installation that runs the demo's day with everything that makes a dashboard's series appear.

Broker, worker and intake are the real ones, with a connector that polls a fake service and one that is called;
Prometheus and Alertmanager run the deployment's configuration. For tests and for pictures.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import yaml

from connectors.fakes.fake import Running, Said
from connectors.fakes.slack import FakeSlack
from connectors.fakes.trustpilot import FakeTrustpilot
from pipeline.broker import EmbeddedBroker, free_port
from pipeline.bus import Bus
from pipeline.demo.day import DAY_FILE, Message, read_day, seconds
from pipeline.demo.processes import die_with, environment
from pipeline.demo.sender import Sender
from pipeline.settings import load
from pipeline.settings_file import toml
from pipeline.topics import Topics

DEPLOY: Final = Path(__file__).parents[1]
SCRAPE_S: Final = 1.0
UNTIL_S: Final = seconds("14:08:00")
"""The day is sent up to the middle of its incident, and this moment of it is now."""
TAKES_SHARE: Final = 0.58
"""Share of the sender's duration after which it is `UNTIL_S`: see pipeline.demo.day.PACE."""
START_TIMEOUT_S: Final = 90.0
TOKEN: Final = "rehearsal"  # for a server of this machine that lives for minutes
HOOK: Final = "/v1/hooks/team"
TOUCHPOINTS: Final = {"telegram": "courier", "google_play": "app", "intercom": "help_center"}
SEVERE: Final = "The charger caught fire and burned my hand, my lawyer will sue you"


class RehearsalError(RuntimeError):
    """A part does not run; says which, with the end of its log."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Addresses of what runs, and when it began (Unix seconds)."""

    prometheus: str
    alertmanager: str
    began: float


@contextmanager
def rehearsing(folder: Path, takes_s: float = 60.0, rare_every_s: float = 1.0) -> Iterator[Rehearsal]:
    """Everything runs, and the day is being sent for so many seconds. Call it from the main thread.

    What a quiet day lacks happens every `rare_every_s` seconds.
    """
    with ExitStack() as stack:
        broker = EmbeddedBroker(log=folder / "broker.log")
        stack.callback(broker.stop)
        broker.start()
        shop = stack.enter_context(_fake_service())
        parts = _Parts(folder, stack)
        alertmanager = parts.alertmanager()
        intake, metrics = free_port(), free_port()
        config = _settings(folder, broker.bootstrap, intake, metrics, alertmanager, shop.table)
        secrets = {**shop.fake.environment, **FakeSlack().environment}
        for name in ("worker", "ingest"):
            parts.start(name, [sys.executable, "-P", "-m", "pipeline", name, "--config", str(config)], secrets)
        parts.ready("worker", f"http://127.0.0.1:{metrics}/readyz")
        parts.ready("ingest", f"http://127.0.0.1:{intake}/readyz")
        prometheus = parts.prometheus(f"127.0.0.1:{metrics}", f"127.0.0.1:{intake}", alertmanager)
        began = time.time()
        midnight = datetime.now(UTC) + timedelta(seconds=takes_s - UNTIL_S)
        sender = Sender(_messages(), midnight, port=intake, token=TOKEN, duration_s=takes_s / TAKES_SHARE)
        stack.callback(sender.halt)
        over = threading.Event()
        rare = threading.Thread(target=_rare, args=(config, intake, shop, rare_every_s, over), daemon=True)
        stack.callback(rare.join, 5)
        stack.callback(over.set)
        sender.start()
        rare.start()
        yield Rehearsal(prometheus, f"http://{alertmanager}", began)


def _messages() -> list[Message]:
    """The day until now, with the touchpoints that its sources could tell."""
    with DAY_FILE.open(encoding="utf-8") as lines:
        sent = [message for message in read_day(lines) if message.at_s <= UNTIL_S]
    return [
        replace(message, item={**message.item, "touchpoint": TOUCHPOINTS[message.item["source"]]})
        if message.item["source"] in TOUCHPOINTS and "text" in message.item
        else message
        for message in sent
    ]


def _rare(config: Path, intake: int, shop: Running, every_s: float, over: threading.Event) -> None:
    """Again and again what a quiet day lacks: rates need two scrapes that differ."""
    settings = load(config, {})
    slack, number = FakeSlack(), 0
    bus = Bus(settings.kafka, delivery_timeout_s=30)
    try:
        while not over.wait(every_s):
            number += 1
            now = datetime.now(UTC)
            bus.send(Topics.of(settings.kafka).raw.name, [(b"poison", b'{"not": "feedback"')])[0].result(30)
            item: dict[str, Any] = {"workspace": "rare", "source": "web_form", "id": f"r{number}"}
            for change in (
                {"text": "The courier never came"},
                {"text": "The courier never came"},
                {"text": "The courier came after all", "version": number + 1},
                {"deleted": True, "version": number + 2},
            ):
                _post(intake, "/v1/feedback", json.dumps({**item, **change}).encode(), AUTHORIZED)
            severe = {"workspace": "rare", "source": "web_form", "id": f"s{number}", "text": SEVERE}
            _post(intake, "/v1/feedback", json.dumps(severe).encode(), AUTHORIZED)
            _post(intake, "/v1/feedback", b"{", AUTHORIZED)
            said = Said(id=f"{number:06d}", text="The card was charged twice", at=now - timedelta(seconds=30))
            shop.fake.say(said)
            (first, again) = slack.deliveries(said, HOOK, now)
            limited = {"type": "app_rate_limited", "team_id": "T1", "minute_rate_limited": int(now.timestamp())}
            forged = {**first.headers, "x-slack-signature": "v0=00"}
            for request, headers in (
                (first, first.headers), (again, again.headers), (first, forged),
                (told := slack.signed(json.dumps(limited).encode(), HOOK, now), told.headers),
            ):  # fmt: skip
                _post(intake, HOOK, request.body, headers)
    finally:
        bus.close()


AUTHORIZED: Final = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}


def _post(port: int, path: str, body: bytes, headers: Mapping[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", path, body, dict(headers))
        return connection.getresponse().status
    finally:
        connection.close()


@contextmanager
def _fake_service() -> Iterator[Running]:
    """A review site on a loop of its own thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fake", daemon=True)
    thread.start()
    running = Running(FakeTrustpilot())
    asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result(10)
    try:
        yield running
    finally:
        asyncio.run_coroutine_threadsafe(running.__aexit__(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


def _settings(
    folder: Path, bootstrap: str, intake: int, metrics: int, alertmanager: str, shop: Mapping[str, Any]
) -> Path:
    """The settings that worker and intake share."""
    tables: list[tuple[str, Mapping[str, Any]]] = [
        ("[kafka]", {"bootstrap": bootstrap}),
        ("[store]", {"url": f"sqlite:///{folder / 'ovoz.db'}"}),
        ("[ingest]", {"port": intake, "data_dir": folder / "intake"}),
        ("[worker]", {
            "port": metrics, "data_dir": folder / "worker", "session_timeout_s": 3,
            "quotes_token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest(),
        }),
        # Nobody listens at the other receiver: what is not delivered must show.
        ("[alerts]", {
            "alertmanager": [f"http://{alertmanager}"], "apprise": ["json://127.0.0.1:9/"], "max_age_minutes": 4320,
        }),
        ("[[connector]]", {"use": "trustpilot", "name": "shop", "every": "1s", **shop}),
        ("[[connector]]", {"use": "slack", "name": "team", **FakeSlack().table("")}),
        ("[[ingest.tokens]]", {"name": "rehearsal", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}),
    ]  # fmt: skip
    lines = [line for head, keys in tables for line in (head, *(f"{key} = {toml(keys[key])}" for key in keys), "")]
    path = folder / "ovoz.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


class _Parts:
    """The processes, ended with the stack."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], more: Mapping[str, str] | None = None) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder, start_new_session=True,
                env=environment(os.environ.items()) | dict(more or {}), preexec_fn=die_with(os.getpid()),
            )  # fmt: skip
        self._running[name] = process
        self._stack.callback(_end, process)

    def ready(self, name: str, url: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with urlopen(url, timeout=5):
                    return
            except OSError as error:
                if self._running[name].poll() is not None or time.monotonic() > deadline:
                    log = (self._folder / f"{name}.log").read_text("utf-8", "replace")[-3000:]
                    raise RehearsalError(f"{name} is not ready ({error}). Its log ends:\n{log}") from error
            time.sleep(0.1)

    def alertmanager(self) -> str:
        """Its host and port."""
        at = f"127.0.0.1:{free_port()}"
        flags = {
            "config.file": DEPLOY / "alertmanager/alertmanager.yml", "storage.path": self._folder / "alertmanager",
            "web.listen-address": at, "cluster.listen-address": "",
        }  # fmt: skip
        self.start("alertmanager", [program("prometheus-alertmanager", "alertmanager"), *_flags(flags)])
        self.ready("alertmanager", f"http://{at}/-/ready")
        return at

    def prometheus(self, worker: str, intake: str, alertmanager: str) -> str:
        """Its URL."""
        at = f"127.0.0.1:{free_port()}"
        copy = self._folder / "prometheus"
        shutil.copytree(DEPLOY / "prometheus", copy)
        config = yaml.safe_load((copy / "prometheus.yml").read_text("utf-8"))
        interval = f"{SCRAPE_S:g}s"
        config["global"] |= {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
        targets = {"ovoz-worker": worker, "ovoz-ingest": intake, "alertmanager": alertmanager, "prometheus": at}
        for job in config["scrape_configs"]:
            job.pop("dns_sd_configs", None)  # names of containers mean nothing here
            job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
        config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [alertmanager]
        (copy / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
        flags = {
            "config.file": copy / "prometheus.yml", "storage.tsdb.path": self._folder / "prometheus-data",
            "web.listen-address": at,
        }  # fmt: skip
        self.start("prometheus", [program("prometheus"), *_flags(flags)])
        self.ready("prometheus", f"http://{at}/-/ready")
        return f"http://{at}"


def program(*names: str) -> str:
    """The path of the first of these that is installed. Raises RehearsalError when none is."""
    for name in names:
        if found := shutil.which(name):
            return found
    raise RehearsalError(f"{names[0]} is not installed (Debian: {names[0]})")


def _flags(values: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
