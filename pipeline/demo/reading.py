"""What the view shows, read from where everybody reads it: the store and the worker's /metrics."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from alerts.alert import Alert
from models.classifier import LABELS, SENTIMENTS
from pipeline.demo.day import WORKSPACE
from pipeline.store import read
from pipeline.store.engine import StoreAway, connect
from pipeline.store.read import Message, reading
from pipeline.windows import Cell

EVERY_S: Final = 0.4
QUOTES: Final = 40
OWN: Final = 3
RATE_OVER_S: Final = 4.0
LATENCY: Final = "feedback_end_to_end_latency_seconds"

_SAMPLE: Final = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Shares = tuple[int, ...]
"""Counts by LABELS: negative, neutral, positive, unsure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The worker's numbers; seconds, None where nothing was measured yet."""

    done: int = 0
    p50_s: float | None = None
    p99_s: float | None = None
    lag: int = 0
    unaccounted: int = 0
    dead: int = 0
    replaced: int = 0
    retracted: int = 0
    repeated: int = 0
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Everything of one moment. `hours`: negative items by topic and hour of the day that is replayed;
    `minutes`: (items, negative items) by minute of that day.
    """

    topics: Mapping[str, Shares] = field(default_factory=dict)
    hours: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    minutes: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    languages: Mapping[str, int] = field(default_factory=dict)
    replayed: int = 0
    own: int = 0
    said: tuple[Message, ...] = ()
    alerts: tuple[Alert, ...] = ()
    health: Health = field(default_factory=Health)
    rate: float = 0.0


class Watcher(threading.Thread):
    """Reads again and again; `latest` is the newest reading."""

    def __init__(self, store_url: str, metrics_url: str, midnight: datetime) -> None:
        super().__init__(name="watcher", daemon=True)
        self.latest = Reading()
        self._engine = connect(store_url)
        self._metrics_url = metrics_url
        self._midnight = midnight
        self._halt = threading.Event()
        self._done: list[tuple[float, int]] = []

    def halt(self) -> None:
        """Read no more."""
        self._halt.set()

    def run(self) -> None:
        """Read until halted."""
        while not self._halt.is_set():
            # A worker that is away is the stage's to report; the view keeps what it has.
            with contextlib.suppress(OSError, StoreAway):
                self.latest = self.read()
            self._halt.wait(EVERY_S)

    def read(self) -> Reading:
        """One reading. Raises OSError or StoreAway."""
        with urllib.request.urlopen(self._metrics_url, timeout=5) as answer:
            health = health_of(answer.read().decode())
        now_s = time.monotonic()
        self._done = [(at_s, done) for at_s, done in self._done if at_s > now_s - RATE_OVER_S]
        self._done.append((now_s, health.done))
        since_s, before = self._done[0]
        span_s = now_s - since_s
        rate = (health.done - before) / span_s if span_s > 0 else 0.0
        with reading(self._engine) as connection:
            cells = {cell: count for cell, (count, _) in read.cells(connection).items() if count}
            # First of all the newest messages of whoever watches, of any kind; then the day's complaints.
            own = read.messages(connection, outside=WORKSPACE, limit=OWN)
            theirs = read.messages(connection, within=WORKSPACE, sentiment=SENTIMENTS[0], limit=QUOTES)
            alerts = tuple(read.alerts(connection))
        said = (*own, *theirs)
        return summarize(cells, said, alerts, health, rate, int(self._midnight.timestamp() // 60))


def summarize(
    cells: Mapping[Cell, int],
    said: tuple[Message, ...],
    alerts: tuple[Alert, ...],
    health: Health,
    rate: float,
    first_minute: int,
) -> Reading:
    """Counts by what they are shown by."""
    topics: dict[str, list[int]] = {}
    hours: dict[str, Counter[int]] = {}
    minutes: dict[int, list[int]] = {}
    languages: Counter[str] = Counter()
    replayed = own = 0
    for cell, count in cells.items():
        negative = count if cell.sentiment == SENTIMENTS[0] else 0
        topics.setdefault(cell.topic, [0] * len(LABELS))[LABELS.index(cell.sentiment)] += count
        languages[cell.language] += count
        if cell.workspace != WORKSPACE:
            own += count
            continue
        replayed += count
        minute = cell.minute - first_minute
        of = minutes.setdefault(minute, [0, 0])
        of[0] += count
        of[1] += negative
        hours.setdefault(cell.topic, Counter())[minute // 60] += negative
    return Reading(
        topics={topic: tuple(n) for topic, n in topics.items()},
        hours=hours,
        minutes={minute: (n[0], n[1]) for minute, n in minutes.items()},
        languages=dict(languages.most_common()),
        replayed=replayed,
        own=own,
        said=said,
        alerts=alerts,
        health=health,
        rate=rate,
    )


def health_of(text: str) -> Health:
    """The health from the text of /metrics."""
    sums: defaultdict[str, float] = defaultdict(float)
    buckets: defaultdict[float, float] = defaultdict(float)
    model = ""
    for name, labels, value in samples(text):
        sums[name] += value
        if name == f"{LATENCY}_bucket":
            buckets[float(labels["le"])] += value
        elif name == "feedback_worker_info":
            model = labels.get("model", "")
    changed = {
        name: int(sums[f"feedback_{name}_items_total"]) for name in ("replaced", "retracted", "duplicate")
    }
    dead = int(sums["feedback_dead_letters_total"])
    return Health(
        done=int(sums["feedback_scored_total"]) + sum(changed.values()) + dead,
        p50_s=quantile(buckets, 0.5),
        p99_s=quantile(buckets, 0.99),
        lag=int(sums["feedback_consumer_lag_records"]),
        unaccounted=int(sums["feedback_unaccounted_items"]),
        dead=dead,
        replaced=changed["replaced"],
        retracted=changed["retracted"],
        repeated=changed["duplicate"],
        model=model,
    )


def samples(text: str) -> Iterable[tuple[str, dict[str, str], float]]:
    """(name, labels, value) of each line of Prometheus's text format."""
    for line in text.splitlines():
        if not line.startswith("#") and (match := _SAMPLE.fullmatch(line)):
            yield match[1], dict(_LABEL.findall(match[2] or "")), float(match[3])


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """As Prometheus's histogram_quantile: within its bucket, values are taken as evenly spread."""
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0
    if not total:
        return None
    below_s, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= share * total:
            if bound == float("inf"):
                return below_s
            return below_s + (bound - below_s) * (share * total - below) / (buckets[bound] - below)
        below_s, below = bound, buckets[bound]
    return below_s
