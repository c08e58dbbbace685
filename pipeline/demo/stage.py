"""One run of the demo: start the parts, send the day, show it, check it, end everything."""

from __future__ import annotations

import json
import secrets
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final

from pipeline.audit import Audit, audit
from pipeline.broker import BrokerError, EmbeddedBroker, free_port
from pipeline.bus import BrokerAway
from pipeline.demo.alerts_panel import SHORT
from pipeline.demo.day import DAY_FILE, INCIDENT_S, Message, live_items, midnight_before, read_day
from pipeline.demo.folder import Folder, FolderError
from pipeline.demo.processes import Child, end
from pipeline.demo.reading import Watcher
from pipeline.demo.receiver import Notice, Receiver
from pipeline.demo.screens import Screen
from pipeline.demo.sender import Sender, SendingError, curl
from pipeline.demo.summary import Outcome, Told, faults, rows
from pipeline.demo.view import Scene
from pipeline.settings import load
from pipeline.store.engine import StoreAway, connect

DAY_TAKES_S: Final = 80.0
DAY_TAKES_AT_LEAST_S: Final = 15.0
END_TAKES_S: Final = 7.0
"""Kept back of `seconds` for the last items, the audit and the end of the processes."""
START_TIMEOUT_S: Final = 60.0
SETTLE_TIMEOUT_S: Final = 4.0
FRAME_S: Final = 0.2
DONE, FAILED, INTERRUPTED = 0, 1, 130


class DemoError(RuntimeError):
    """The demo cannot go on; says why, with the end of the log, and what to do."""


class _Interrupted(Exception):
    """Ctrl-C, SIGTERM or SIGHUP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked for. `seconds` None: until Ctrl-C; `port` 0: a free one."""

    seconds: float | None = None
    port: int = 0
    alertmanager: str | None = None
    keep: Path | None = None


def perform(options: Options, screen: Screen) -> int:
    """Run the demo from the main thread: its exit status."""
    began_s = time.monotonic()
    with _signals() as stop, ExitStack() as stack:
        try:
            folder = stack.enter_context(Folder(options.keep))
            run = _Run(options, screen, stop, folder, began_s)
            stack.callback(run.end)
            stack.callback(screen.close)
            return run.perform()
        except _Interrupted:
            screen.close()
            screen.line("ended early")
            return INTERRUPTED
        except (DemoError, FolderError, BrokerError, SendingError) as error:
            screen.close()
            screen.line(f"ovoz demo: {error}")
            return FAILED


class _Run:
    def __init__(
        self, options: Options, screen: Screen, stop: threading.Event, folder: Folder, began_s: float
    ) -> None:
        self._options = options
        self._screen = screen
        self._stop = stop
        self._folder = folder
        self._began_s = began_s
        self._midnight = midnight_before(datetime.now(UTC))
        self._messages: list[Message] = []
        self._token = f"demo{secrets.token_hex(6)}"
        self._receiver = Receiver()
        self._broker = EmbeddedBroker(log=folder.path / "broker.log")
        self._children: list[Child] = []
        self._sender: Sender | None = None
        self._watcher: Watcher | None = None
        self._told: dict[tuple[str, bool], Told] = {}

    def perform(self) -> int:
        """Everything but the end of the processes, which is the caller's to be sure of."""
        with DAY_FILE.open(encoding="utf-8") as lines:
            self._messages = read_day(lines)
        sender, watcher = self._start()
        self._play(sender, watcher)
        interrupted = self._stop.is_set() and sender.sent < len(self._messages)
        sender.halt()
        result = None if interrupted else self._settle(sender, watcher)
        outcome = Outcome(
            reading=watcher.latest,
            midnight=self._midnight,
            sent=sender.sent,
            messages=len(self._messages),
            expected_items=live_items(self._messages[: sender.sent]),
            took_s=time.monotonic() - self._began_s,
            told=self._told,
            audit=result,
        )
        self._screen.close()
        found = faults(outcome)
        self._report(outcome, found)
        return INTERRUPTED if interrupted else FAILED if found else DONE

    def end(self) -> None:
        """End threads and processes, whatever state they are in."""
        for thread in (self._sender, self._watcher):
            if thread is not None:
                thread.halt()
        end(self._children)
        self._broker.stop()
        self._receiver.stop()

    def _start(self) -> tuple[Sender, Watcher]:
        """Start every part, and return once the worker can count."""
        screen = self._screen
        screen.waiting("starting the broker")
        self._broker.start()
        screen.done(f"broker    {self._broker.bootstrap}, in memory")
        self._receiver.start()
        intake, metrics = self._options.port or free_port(), free_port()
        self._intake_port, self._metrics_port = intake, metrics
        settings = self._folder.write_settings(
            bootstrap=self._broker.bootstrap, intake_port=intake, metrics_port=metrics, token=self._token,
            receiver=self._receiver.url, alertmanager=self._options.alertmanager,
        )  # fmt: skip
        self._settings = load(settings, {})
        for name in ("worker", "ingest"):
            child = Child(name, [name, "--config", str(settings)], self._folder.path)
            self._children.append(child)
            child.start()
        self._wait_for("intake", f"http://127.0.0.1:{intake}/readyz")
        screen.done(f"intake    {self._intake_url}")
        self._wait_for("worker", f"http://127.0.0.1:{metrics}/readyz")
        screen.done(f"worker    {self._metrics_url}, after {time.monotonic() - self._began_s:.1f} s")
        screen.done(f"receiver  {self._receiver.url} takes the alerts")
        screen.line()
        screen.line("Send a message of your own:")
        for line in curl(intake, self._token):
            screen.line(line)
        screen.line()
        self._watcher = Watcher(self._settings.store.url, self._metrics_url, self._midnight)
        self._sender = Sender(
            self._messages, self._midnight, port=intake, token=self._token, duration_s=self._duration_s()
        )
        self._watcher.start()
        self._sender.start()
        return self._sender, self._watcher

    @property
    def _intake_url(self) -> str:
        return f"http://127.0.0.1:{self._intake_port}/v1/feedback"

    @property
    def _metrics_url(self) -> str:
        return f"http://127.0.0.1:{self._metrics_port}/metrics"

    def _duration_s(self) -> float:
        if self._options.seconds is None:
            return DAY_TAKES_S
        left_s = self._began_s + self._options.seconds - END_TAKES_S - time.monotonic()
        return min(DAY_TAKES_S, max(left_s, DAY_TAKES_AT_LEAST_S))

    def _wait_for(self, name: str, url: str) -> None:
        """Until it answers that it is ready, saying meanwhile what it waits for."""
        deadline_s, said = time.monotonic() + START_TIMEOUT_S, ""
        while True:
            self._check()
            reason = _not_ready(url)
            if reason is None:
                return
            if reason != said:
                said = reason
                self._screen.waiting(f"{name} waits for {reason}")
            if time.monotonic() > deadline_s:
                raise DemoError(f"the {name} was not ready within {START_TIMEOUT_S:.0f} s (it waits for {reason})")
            self._stop.wait(0.1)

    def _check(self) -> None:
        if self._stop.is_set():
            raise _Interrupted
        self._check_parts()

    def _check_parts(self) -> None:
        for child in self._children:
            if (status := child.poll()) is not None:
                log = "\n".join(f"  | {line}" for line in child.last_lines()) or "  | (it said nothing)"
                raise DemoError(
                    f"`ovoz {child.name}` ended by itself with status {status}. Its last lines:\n{log}\n"
                    f"Run it again with --keep FOLDER to keep the whole log."
                )
        if (status := self._broker.poll()) is not None:
            raise DemoError(f"the embedded broker ended by itself with status {status}: run the demo again")

    def _play(self, sender: Sender, watcher: Watcher) -> None:
        """Show the day until it is time to end, or until Ctrl-C."""
        seconds = self._options.seconds
        deadline_s = None if seconds is None else self._began_s + seconds - END_TAKES_S
        while not self._stop.wait(FRAME_S):
            self._check_parts()
            if sender.failure is not None:
                raise sender.failure
            self._take_notices(sender)
            phase = "the day is over" if sender.finished else "live"
            self._screen.show(self._scene(sender, watcher, phase))
            if deadline_s is not None and time.monotonic() >= deadline_s:
                return

    def _scene(self, sender: Sender, watcher: Watcher, phase: str) -> Scene:
        return Scene(
            phase=phase,
            clock_s=sender.clock_s,
            midnight=self._midnight,
            reading=watcher.latest,
            intake=self._intake_url,
            metrics=self._metrics_url,
            curl=curl(self._intake_port, self._token),
            told={key: told.after_s for key, told in self._told.items() if told.after_s is not None},
        )

    def _take_notices(self, sender: Sender) -> None:
        while not self._receiver.notices.empty():
            notice = self._receiver.notices.get()
            self._told[notice.incident, notice.resolved] = self._timed(notice, sender)
            self._screen.notice(notice, sender.clock_s)

    def _timed(self, notice: Notice, sender: Sender) -> Told:
        watcher = self._watcher
        known = watcher.read().alerts if watcher is not None else ()
        for alert in known:
            if alert.incident[:SHORT] == notice.incident and not notice.resolved:
                posted_s = sender.posted.get(int((alert.starts_at - self._midnight).total_seconds()))
                incident_s = sender.wall_s(INCIDENT_S[0])
                return Told(
                    after_s=None if posted_s is None else notice.at_s - posted_s,
                    since_incident_s=None if incident_s is None else notice.at_s - incident_s,
                )
        return Told(after_s=None, since_incident_s=None)

    def _settle(self, sender: Sender, watcher: Watcher) -> Audit:
        """Let the last items through, then compare everything: `ovoz audit`."""
        deadline_s = time.monotonic() + SETTLE_TIMEOUT_S
        engine = connect(self._settings.store.url)
        try:
            while True:
                self._take_notices(sender)
                self._screen.show(self._scene(sender, watcher, "audit"))
                result = audit(self._settings.kafka, engine)
                if not result.differences or time.monotonic() > deadline_s:
                    return result
                time.sleep(FRAME_S)
        except (BrokerAway, StoreAway) as error:
            raise DemoError(f"the audit cannot be made: {error}") from error
        finally:
            engine.dispose()
            watcher.halt()
            watcher.join(2)
            watcher.latest = watcher.read()

    def _report(self, outcome: Outcome, found: list[str]) -> None:
        screen = self._screen
        screen.line("Summary")
        for name, text in rows(outcome):
            screen.line(f"  {name:<10} {text}")
        if self._options.keep is not None:
            screen.line(f"  {'kept':<10} {self._folder.path}")
        for reason in found:
            screen.line(f"  failed     {reason}")
        if outcome.audit is not None and not found:
            screen.line("  all well" if outcome.finished else "  all well, as far as the day went")


def _not_ready(url: str) -> str | None:
    """None when ready, else what it waits for."""
    try:
        with urllib.request.urlopen(url, timeout=1):
            return None
    except urllib.error.HTTPError as error:
        try:
            answer = json.loads(error.read())
        except ValueError:
            return "its answer"
        return str(answer.get("for", "the broker")) if isinstance(answer, dict) else "its answer"
    except OSError:
        return "its first answer"


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and SIGHUP set, instead of ending us where we stand."""
    stop = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
