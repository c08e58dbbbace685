"""How fast the whole way is: the model alone, end to end, from intake to /metrics, and a tutorial's pipeline.

    python -m benchmarks.pipeline            everything but --grow, some minutes
    python -m benchmarks.pipeline --quick    about a minute
    python -m benchmarks.pipeline --grow     10,000, 100,000 and a million items through the stream alone

All from one run on the same cores, with real processes: broker, `ovoz ingest`, `ovoz worker`, SQLite.
Exit status 1 when an aim is missed; the last line is the verdict. docs/performance.md has the method.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks.alone import apart, model_rate, part_costs
from benchmarks.clients import Latencies, Watch, Watched, await_intake, fill, in_background, latencies, post_all
from benchmarks.growth import Grown, flat, grow, report
from benchmarks.processes import Running, Samples, memory_mb, processor_s, scrape
from benchmarks.servers import EmbeddedBroker
from benchmarks.texts import items, texts
from benchmarks.tutorial import KINDS
from connectors.feedback import parse
from pipeline.codec import encode_feedback
from pipeline.settings import Kafka

AIM_RATIO: Final = 0.75
AIM_P99_S: Final = 0.5
AIM_TIMES: Final = {"xlmr": 20.0, "own": 8.0}
AIM_LINEAR: Final = 0.8
NAMES: Final = {"xlmr": "a checkpoint of XLM-R base's size", "own": "our own architecture"}
ASSUMED_RATE: Final = 2_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much each part measures."""

    alone: int
    end_to_end: int
    with_intake: int
    latency_s: float
    tutorial: dict[str, int]
    grow: tuple[int, ...]


QUICK: Final = Sizes(
    alone=1_024, end_to_end=3_072, with_intake=2_048, latency_s=8, tutorial={"xlmr": 60, "own": 300}, grow=(10_000,)
)
FULL: Final = Sizes(
    alone=5_120,
    end_to_end=30_720,
    with_intake=15_360,
    latency_s=60,
    tutorial={"xlmr": 600, "own": 3_000},
    grow=(10_000,),
)
GROW: Final = (10_000, 100_000, 1_000_000)


@dataclass(slots=True)
class Findings:
    """What a run measured, as lines, and every aim that it missed."""

    missed: list[str] = field(default_factory=list)

    def aim(self, met: bool, what: str) -> str:
        """Notes a missed aim; the word for the table."""
        if not met:
            self.missed.append(what)
        return "met" if met else "MISSED"


def say(line: str = "") -> None:
    """Print at once."""
    print(line, flush=True)


class Installation:
    """Broker, intake and worker of one run, in a folder of their own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.broker = EmbeddedBroker()
        self.broker.start()
        stack.callback(self.broker.stop)
        self.kafka = Kafka(bootstrap=self.broker.bootstrap)
        self.watch = Watch(folder / "ovoz.db", live=True)
        self.config = folder / "ovoz.toml"
        self.config.write_text(
            f'[kafka]\nbootstrap = "{self.broker.bootstrap}"\n'
            f'[store]\nurl = "sqlite:///{folder}/ovoz.db"\n'
            f'[ingest]\nport = 0\ndata_dir = "{folder}"\n'
            f'[worker]\nport = 0\ndata_dir = "{folder}/worker"\nsession_timeout_s = 6\n'
        )

    def start(self, what: str) -> Running:
        """`ovoz worker` or `ovoz ingest`, not yet ready."""
        running = Running(self._folder / f"{what}.log", ["pipeline", what, "--config", str(self.config)])
        self._stack.callback(running.stop)
        return running


@dataclass(slots=True)
class Spent:
    """Processor time of processes over a phase, in ms an item."""

    pids: dict[str, int]
    before: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.before = {name: processor_s(pid) for name, pid in self.pids.items()}

    def each(self, count: int) -> dict[str, float]:
        """Since it was made."""
        return {name: (processor_s(pid) - self.before[name]) * 1000 / count for name, pid in self.pids.items()}


def end_to_end(place: Installation, sizes: Sizes, findings: Findings) -> float:
    """All phases that need the installation; the items a second end to end, intake excluded."""
    now = datetime.now(UTC)
    filled = fill(
        place.kafka,
        (
            (feedback.feedback_id.encode(), encode_feedback(feedback))
            for feedback in (parse(item, now=now) for item in items(texts(sizes.end_to_end, seed=11), "filled"))
        ),
    )
    alone = [apart(model_rate, texts(sizes.alone, seed=12))]
    worker = place.start("worker")
    spent = Spent({"worker": worker.pid, "broker": place.broker.pid or 0})
    watched = place.watch.until(filled, worker.alive)
    worker.wait_ready()
    in_worker = _parts_in_worker(scrape(worker.url), filled)
    processor = spent.each(filled)
    ingest = place.start("ingest")
    ingest.wait_ready()
    await_intake(ingest.url)
    taken = _with_intake(place, worker, ingest, sizes, filled)
    at_half = _half_load(worker, ingest, sizes, taken.rate / 2)
    peak = memory_mb(worker.pid)
    worker.stop()
    ingest.stop()
    alone.append(apart(model_rate, texts(sizes.alone, seed=13)))
    model = sum(alone) / len(alone)
    say(f"model alone                        {model:8.0f} texts/s   (before and after: {alone[0]:.0f}, {alone[1]:.0f})")
    for name, found in (("end to end, intake excluded", watched), ("end to end, intake included", taken)):
        ratio = found.rate / model
        verdict = findings.aim(ratio >= AIM_RATIO, f"{name}: {ratio:.2f} of the model alone, aim {AIM_RATIO}")
        say(f"{name:<34} {found.rate:8.0f} texts/s   {ratio:.2f} of the model alone, aim {AIM_RATIO}: {verdict}")
    _say_latency(at_half, taken.rate / 2, findings)
    say(f"peak memory of the worker          {peak:8.0f} MB")
    costs = apart(part_costs, texts(min(sizes.alone, 2_560), seed=14))
    say("where the time goes, ms an item")
    parts = ", ".join(f"{name} {value:.3f}" for name, value in costs.items())
    say(f"  each part alone, one core        model {1000 / model:.2f} (all cores), {parts}")
    say("  in the worker, elapsed           " + ", ".join(f"{name} {value:.3f}" for name, value in in_worker.items()))
    say("  processor, start-up included     " + ", ".join(f"{name} {value:.2f}" for name, value in processor.items()))
    return watched.rate


def _with_intake(place: Installation, worker: Running, ingest: Running, sizes: Sizes, filled: int) -> Watched:
    posted = list(items(texts(sizes.with_intake, seed=21), "posted"))
    sender = in_background(lambda: post_all(ingest.url, posted))
    watched = place.watch.until(
        filled + len(posted),
        lambda: worker.alive() and (not sender.done() or sender.exception() is None),
        above=filled,
    )
    sender.result()
    return watched


def _half_load(worker: Running, ingest: Running, sizes: Sizes, rate: float) -> Latencies:
    wanted = int(rate * sizes.latency_s) + 1_000
    background: Iterator[dict[str, str]] = itertools.chain(items(texts(wanted, seed=31), "half"))
    return asyncio.run(latencies(ingest.url, worker.url, background, rate=rate, seconds=sizes.latency_s))


def _say_latency(found: Latencies, rate: float, findings: Findings) -> None:
    middle, last = found.percentile(0.5), found.percentile(0.99)
    verdict = findings.aim(last < AIM_P99_S, f"p99 of intake to /metrics: {last * 1000:.0f} ms, aim < 500")
    say(
        f"from 202 to /metrics at half load  p50 {middle * 1000:.0f} ms, p99 {last * 1000:.0f} ms, aim p99 < 500: "
        f"{verdict}   ({len(found.seconds)} probes at {rate:.0f} items/s; the wait for a poll each "
        f"{found.poll_s * 1000:.0f} ms is included)"
    )


def _parts_in_worker(shown: Samples, count: int) -> dict[str, float]:
    def total(name: str) -> float:
        return shown.get((f"feedback_{name}_sum", ()), 0.0)

    return {
        "model": total("model_inference_seconds") * 1000 / count,
        "fold transaction": total("fold_seconds") * 1000 / count,
        "model batches": shown.get(("feedback_model_inference_seconds_count", ()), 0.0),
        "fold batches": shown.get(("feedback_fold_seconds_count", ()), 0.0),
        "event loop late (mean)": total("event_loop_delay_seconds")
        * 1000
        / max(1.0, shown.get(("feedback_event_loop_delay_seconds_count", ()), 0.0)),
    }


def tutorials(place: Installation, folder: Path, sizes: Sizes, ours: float, findings: Findings) -> None:
    """The tutorial's pipeline on the same broker and the same topic, with both checkpoints."""
    for kind in KINDS:
        checkpoint = folder / kind
        subprocess.run(
            [sys.executable, "-m", "benchmarks.tutorial", "make", kind, str(checkpoint)],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        command = ["benchmarks.tutorial", "run", str(checkpoint), "--bootstrap", place.broker.bootstrap]
        command += ["--topic", f"{place.kafka.prefix}.raw", "--items", str(sizes.tutorial[kind])]
        running = Running(folder / f"tutorial-{kind}.log", command, ready=r"rate (\S+)")
        try:
            running.wait(120 + sizes.tutorial[kind])
            running.wait_ready()
        finally:
            running.stop()
        theirs = float(running.url)
        times, aim = ours / theirs, AIM_TIMES[kind]
        verdict = findings.aim(times >= aim, f"{times:.1f} times a tutorial with {NAMES[kind]}, aim {aim:.0f}")
        say(
            f"a tutorial's pipeline, {kind:<11} {theirs:8.1f} texts/s   {NAMES[kind]}, fp32: ours is {times:.1f} times "
            f"as fast, aim {aim:.0f}: {verdict}"
        )


def growth(counts: Sequence[int], findings: Findings) -> None:
    """The stream alone over more and more items."""
    say("the stream alone, with a keyword classifier")
    grown: list[Grown] = []
    for count in counts:
        rate = grown[-1].rate if grown else ASSUMED_RATE
        grown.append(grow(count, assumed_rate=rate, say=say))
    report(grown, say)
    if len(grown) > 1:
        slowest, fastest = min(one.rate for one in grown), max(one.rate for one in grown)
        findings.aim(slowest >= AIM_LINEAR * fastest, f"growth is not linear: {slowest:.0f} to {fastest:.0f} items/s")
    if counts[-1] >= 1_000_000:
        findings.aim(flat(grown[-1].memory_mb), "memory grows after the retention is full")
        findings.aim(flat(grown[-1].database_mb), "the database grows after the retention is full")
        findings.aim(grown[-1].pruned > 0, "nothing was pruned")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="about a minute, with smaller numbers")
    size.add_argument("--grow", action="store_true", help="only the stream alone, up to a million items")
    parser.add_argument("--without-tutorial", action="store_true", help="leave the comparison out (it needs torch)")
    chosen = parser.parse_args(arguments)
    findings, started = Findings(), time.monotonic()
    say(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {_machine()}")
    if chosen.grow:
        growth(GROW, findings)
    else:
        sizes = QUICK if chosen.quick else FULL
        with tempfile.TemporaryDirectory(prefix="ovoz-pipeline-") as name, ExitStack() as stack:
            folder = Path(name)
            place = Installation(folder, stack)
            ours = end_to_end(place, sizes, findings)
            if not chosen.without_tutorial:
                tutorials(place, folder, sizes, ours, findings)
        growth(sizes.grow, findings)
    say(f"took {time.monotonic() - started:.0f} s, load at the end {os.getloadavg()[0]:.1f}")
    if findings.missed:
        say("MISSED: " + "; ".join(findings.missed))
        return 1
    say("every aim is met")
    return 0


def _machine() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    cores = len(os.sched_getaffinity(0))
    name = found[1] if found else platform.machine()
    return f"{cores} cores, {name}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    sys.exit(main())
