"""The stream alone, with a classifier that costs nothing, over 10,000, 100,000 and a million items.

Event times lie just inside the retention and move on, so that at any time the store holds what came in
within about `LIVE_S`, and pruning takes out as much as comes in.
"""

from __future__ import annotations

import itertools
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from benchmarks.clients import Watch, fill
from benchmarks.events import TOPIC_WORDS, WORDS
from benchmarks.processes import Running, memory_mb, processor_s, scrape
from benchmarks.servers import EmbeddedBroker
from benchmarks.texts import SOURCES, WORKSPACES
from connectors.feedback import Feedback
from pipeline.codec import encode_feedback
from pipeline.settings import Kafka

LIVE_S: Final = 30.0
RETENTION: Final = timedelta(days=1)
STEPS: Final = 10


@dataclass(slots=True)
class Grown:
    """One run. `memory_mb` and `database_mb` at each tenth of the items."""

    items: int
    rate: float = 0.0
    processor_ms: float = 0.0
    pruned: int = 0
    expired: int = 0
    rates: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    database_mb: list[float] = field(default_factory=list)


def grow(count: int, *, assumed_rate: float, say: Callable[[str], None]) -> Grown:
    """Fill the raw topic with `count` items, then let a worker with the keyword model take them.

    `assumed_rate`: items a second that event times are laid out for.
    """
    with tempfile.TemporaryDirectory(prefix="ovoz-growth-") as name, ExitStack() as stack:
        folder = Path(name)
        broker = EmbeddedBroker()
        broker.start()
        stack.callback(broker.stop)
        kafka = Kafka(bootstrap=broker.bootstrap)
        config = folder / "ovoz.toml"
        config.write_text(
            f'[kafka]\nbootstrap = "{broker.bootstrap}"\n'
            f'[store]\nurl = "sqlite:///{folder}/ovoz.db"\nretention_days = {RETENTION.days}\n'
            f'[worker]\nport = 0\ndata_dir = "{folder}/worker"\nsession_timeout_s = 6\n'
            "[alerts]\nmax_age_minutes = 2880\n"
        )
        started = time.monotonic()
        fill(kafka, _records(count, assumed_rate))
        say(f"  {count:,} items in the raw topic after {time.monotonic() - started:.0f} s")
        worker = Running(folder / "worker.log", ["benchmarks.worker", "--config", str(config), "--model", "keyword"])
        stack.callback(worker.stop)
        worker.wait_ready()
        grown = Grown(items=count)
        processor = processor_s(worker.pid)
        marks: list[tuple[float, int]] = []

        def each(done: int) -> None:
            if done >= count * (len(marks) + 1) / STEPS:
                marks.append((time.perf_counter(), done))
                grown.memory_mb.append(memory_mb(worker.pid, "VmRSS"))
                files = [path for path in folder.glob("ovoz.db*") if path.exists()]
                grown.database_mb.append(sum(path.stat().st_size for path in files) / 1e6)

        watched = Watch(folder / "ovoz.db", live=False).until(count, worker.alive, each=each)
        grown.rate = watched.rate
        grown.processor_ms = (processor_s(worker.pid) - processor) * 1000 / count
        edges = [watched.seen[0], *marks]
        grown.rates = [
            (there - here) / (later - earlier)
            for (earlier, here), (later, there) in itertools.pairwise(edges)
            if later > earlier
        ]
        shown = scrape(worker.url)
        grown.pruned = int(shown.get(("feedback_pruned_items_total", ()), 0))
        grown.expired = int(shown.get(("feedback_expired_items_total", ()), 0))
        return grown


def _records(count: int, assumed_rate: float) -> Iterator[tuple[bytes, bytes]]:
    """Items of four sources and workspaces; those at the front set each workspace's clock to now."""
    rng, now = random.Random(7), datetime.now(UTC)
    # Until the worker takes the first: filling at some 15,000 a second, and its start.
    begin = now - RETENTION + timedelta(seconds=LIVE_S + 10 + count / 15_000)
    moods = tuple(WORDS.values())
    for index in range(count):
        source, channel = SOURCES[index % len(SOURCES)]
        created = begin + timedelta(seconds=index / assumed_rate)
        feedback = Feedback(
            source=source,
            external_id=f"item-{index}",
            version=1,
            channel=channel,
            workspace=f"w{index // len(SOURCES) % WORKSPACES}",
            text=f"{rng.choice(rng.choice(moods))} {rng.choice(TOPIC_WORDS)} {rng.choice(rng.choice(moods))} {index}",
            created_at=now if index < len(SOURCES) * WORKSPACES else min(created, now),
            received_at=now,
        )
        yield feedback.feedback_id.encode(), encode_feedback(feedback)


def flat(values: list[float], tolerance: float = 1.15) -> bool:
    """Whether the last third is not above the middle third by more than the tolerance."""
    third = len(values) // 3
    return third > 0 and max(values[-third:]) <= max(values[third : 2 * third]) * tolerance


def report(grown: list[Grown], say: Callable[[str], None]) -> None:
    """The table."""
    say(f"{'items':>10} {'items/s':>9} {'ms of CPU':>10} {'worker MB':>10} {'database MB':>12} {'pruned':>9}")
    for one in grown:
        say(
            f"{one.items:>10,} {one.rate:>9,.0f} {one.processor_ms:>10.3f} {max(one.memory_mb):>10.0f} "
            f"{max(one.database_mb):>12.0f} {one.pruned:>9,}"
        )
    longest = grown[-1]
    if longest.items >= 1_000_000:
        for what, values in (("items/s", longest.rates), ("MB", longest.memory_mb), ("MB db", longest.database_mb)):
            say(f"  each tenth of {longest.items:,}: {what:>8} " + " ".join(f"{value:,.0f}" for value in values))
        if longest.expired:
            say(f"  {longest.expired:,} came past retention and counted nowhere")


if __name__ == "__main__":
    report([grow(int(sys.argv[1]), assumed_rate=4000.0, say=print)], print)
