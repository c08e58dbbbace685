"""Proof of exactness: workers, broker and database are killed while a hard stream runs; then every number
is compared with a truth computed apart.

    python -m benchmarks.exactness --items 20000 --kills 10
    python -m benchmarks.exactness --kills 200 --broker kafka --store postgres

Exit status 1 on any difference; the last line is the verdict.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.events import Event, Truth, events, truth, windows
from benchmarks.keyword import KeywordClassifier
from benchmarks.servers import EmbeddedBroker, KafkaServer, PostgresServer, ServerMissing, free_port
from pipeline.audit import audit, unequal
from pipeline.bus import BrokerAway, Bus
from pipeline.settings import Kafka
from pipeline.store import read
from pipeline.store.engine import StoreAway, connect
from pipeline.store.read import reading
from pipeline.topics import Topics

SESSION_TIMEOUT_S: Final = 6.0
PAUSE_S: Final = 10.0
CATCH_UP_S: Final = 120.0
PARTITIONS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run does.

    `without`: safeguards switched off, to see the proof fail. `unique`: every item is sent once, in one
    version. `delay_ms`: least duration of a model batch, so that a backlog stands at each rebalance.
    """

    items: int = 20_000
    kills: int = 10
    pauses: int = 1
    broker_kills: int = 0
    store_kills: int = 0
    workers: int = 2
    rate: float = 700.0
    broker: str = "embedded"
    store: str = "sqlite"
    without: tuple[str, ...] = ()
    unique: bool = False
    delay_ms: float = 0.0
    seed: int = 7
    catch_up_s: float = CATCH_UP_S
    repair_after_s: float = 5.0


@dataclass(slots=True)
class Result:
    """What a run found: facts in order, and every difference as a sentence."""

    facts: dict[str, Any] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)


class Workers:
    """The worker processes of a run; whoever ends is started again under the same number."""

    def __init__(self, folder: Path, count: int, config: str, tuning: str, options: Sequence[str]) -> None:
        self.ports = [free_port() for _ in range(count)]
        self._folder = folder
        self._options = options
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * count
        self._stopped = False
        self.restarts = 0
        for number, port in enumerate(self.ports):
            data = folder / f"worker-{number}"
            text = config + f'\n[worker]\nport = {port}\ndata_dir = "{data}"\n' + tuning
            (folder / f"worker-{number}.toml").write_text(text)

    def start(self, number: int) -> None:
        """Start one."""
        command = [sys.executable, "-m", "benchmarks.worker", "--config", str(self._folder / f"worker-{number}.toml")]
        command += self._options
        with (self._folder / f"worker-{number}.log").open("ab") as output:
            self._processes[number] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def keep_up(self) -> None:
        """Start again whatever has ended by itself or was killed."""
        for number, process in enumerate(self._processes):
            if not self._stopped and (process is None or process.poll() is not None):
                self.restarts += process is not None
                self.start(number)

    def signal(self, number: int, what: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        process = self._processes[number]
        if process is not None and process.poll() is None:
            process.send_signal(what)

    def stop(self) -> None:
        """End all by process id."""
        self._stopped = True
        for process in self._processes:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self._processes:
            if process is not None:
                try:
                    process.wait(8)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def metrics(self) -> Counter[tuple[str, tuple[tuple[str, str], ...]]]:
        """All workers' samples added up, as Prometheus' sum() would. Raises OSError while one is away."""
        sums: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
        for port in self.ports:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                for line in answer.read().decode().splitlines():
                    match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
                    if match and not line.startswith("#"):
                        labels = tuple(sorted(re.findall(r'(\w+)="([^"]*)"', match[2] or "")))
                        sums[match[1], labels] += float(match[3])  # type: ignore[assignment]
        return sums


@contextmanager
def servers(plan: Plan, folder: Path) -> Iterator[tuple[str, str, Callable[[], None], Callable[[], None]]]:
    """(bootstrap, store URL, kill-and-restart broker, kill-and-restart database) of a run."""
    with ExitStack() as stack:
        given = os.environ.get("OVOZ_KAFKA")
        restart_broker = restart_store = _cannot
        if plan.broker == "kafka" and given:
            bootstrap = given
        else:
            broker: Any = KafkaServer(folder / "kafka") if plan.broker == "kafka" else EmbeddedBroker()
            broker.start()
            stack.callback(broker.stop)
            bootstrap = broker.bootstrap
            if plan.broker == "kafka":
                restart_broker = _restart(broker)
        if plan.store == "postgres":
            database = PostgresServer(folder / "postgres")
            database.start()
            stack.callback(database.stop)
            url, restart_store = database.url, _restart(database)
        elif plan.store == "sqlite":
            url = f"sqlite:///{folder}/ovoz.db"
        else:
            url = plan.store
        yield bootstrap, url, restart_broker, restart_store


def _tuning(plan: Plan, group: str) -> str:
    """Settings that make trouble likely: small batches, a short session."""
    return (
        f'group = "{group}"\nsession_timeout_s = {SESSION_TIMEOUT_S}\nrepair_after_s = {plan.repair_after_s}\n'
        "fold_batch_items = 16\nclassify_batch_items = 64\n"
    )


def _options(plan: Plan) -> list[str]:
    options = ["--delay-ms", str(plan.delay_ms)]
    for name in plan.without:
        options += ["--without", name]
    return options


def _restart(server: Any) -> Callable[[], None]:
    def restart() -> None:
        server.kill()
        time.sleep(1)
        server.start()

    return restart


def _cannot() -> None:
    raise RuntimeError("this run has no such server of its own to kill")


def run(plan: Plan, say: Callable[[str], None] = print) -> Result:
    """Run a plan and compare. Raises ServerMissing."""
    with tempfile.TemporaryDirectory(prefix="ovoz-exactness-") as name, ExitStack() as stack:
        folder = Path(name)
        bootstrap, url, kill_broker, kill_store = stack.enter_context(servers(plan, folder))
        prefix = f"proof{os.getpid()}.feedback"
        config = (
            f'[kafka]\nbootstrap = "{bootstrap}"\nprefix = "{prefix}"\npartitions = {PARTITIONS}\n'
            f'[store]\nurl = "{url}"\n'
        )
        workers = Workers(folder, plan.workers, config, _tuning(plan, prefix), _options(plan))
        stack.callback(workers.stop)
        workers.keep_up()
        kafka = Kafka(bootstrap=bootstrap, prefix=prefix, partitions=PARTITIONS)
        now = datetime.now(UTC)
        sent = events(plan.items, now=now, seed=plan.seed, unique=plan.unique)
        want = truth(sent, KeywordClassifier())
        started = time.monotonic()
        bus = Bus(kafka, delivery_timeout_s=600)
        sender = threading.Thread(target=_send, args=(bus, kafka, sent, plan.rate), daemon=True)
        sender.start()
        _wreck(plan, workers, sender, kill_broker, kill_store, say)
        sender.join(600)
        if sender.is_alive():
            return Result(differences=["the sender did not get its records acknowledged"])
        bus.close()
        say(f"{time.monotonic() - started:6.1f} s  all {len(sent)} records acknowledged, waiting for the workers")
        engine = connect(url)
        caught_up = _wait(plan, workers, engine, want)
        result = Result()
        result.facts["records sent"] = len(sent)
        result.facts["seconds"] = round(time.monotonic() - started)
        result.facts["caught up"] = caught_up
        result.facts["worker restarts"] = workers.restarts
        _compare(result, workers, engine, kafka, want)
        engine.dispose()
        if result.differences and os.environ.get("OVOZ_PROOF_LOGS"):
            for log in sorted(folder.glob("worker-*.log")):
                say(f"--- {log.name}\n{log.read_text(errors='replace')[-6000:]}")
        return result


def _send(bus: Bus, kafka: Kafka, sent: Sequence[Event], rate: float) -> None:
    topic, started = Topics.of(kafka).raw.name, time.monotonic()
    pending = []
    for start in range(0, len(sent), 50):
        pause = started + start / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        while True:
            try:
                pending += bus.send(topic, [(event.key, event.value) for event in sent[start : start + 50]])
                break
            except BrokerAway:
                time.sleep(0.2)
    for future in pending:
        future.result(600)


def _wreck(
    plan: Plan,
    workers: Workers,
    sender: threading.Thread,
    kill_broker: Callable[[], None],
    kill_store: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Kill and pause at random moments; goes on after the sender is done until the plan is carried out."""
    rng = random.Random(plan.seed)
    acts = ["worker"] * plan.kills + ["pause"] * plan.pauses
    rng.shuffle(acts)
    for what, count in (("broker", plan.broker_kills), ("store", plan.store_kills)):
        for _ in range(count):
            acts.insert(rng.randrange(len(acts) // 3, len(acts) + 1), what)
    started = time.monotonic()
    span = plan.items / plan.rate
    gap = max(1.5, (span - 10) / max(1, len(acts)))
    wake: list[tuple[float, int]] = []
    following = started + 6
    while acts or wake:
        time.sleep(0.1)
        now = time.monotonic()
        workers.keep_up()
        for at, number in [one for one in wake if one[0] <= now]:
            workers.signal(number, signal.SIGCONT)
            wake.remove((at, number))
            say(f"{now - started:6.1f} s  worker {number} wakes")
        if not acts or now < following:
            continue
        act, number = acts.pop(), rng.randrange(plan.workers)
        following = now + rng.uniform(0.4, 1.6) * gap
        say(f"{now - started:6.1f} s  " + {"pause": f"pause worker {number}", "worker": f"kill -9 worker {number}"}.get(
            act, f"kill -9 {act}"
        ))  # fmt: skip
        if act == "worker":
            workers.signal(number, signal.SIGKILL)
        elif act == "pause":
            workers.signal(number, signal.SIGSTOP)
            wake.append((now + PAUSE_S, number))
        elif act == "broker":
            kill_broker()
        else:
            kill_store()


def _wait(plan: Plan, workers: Workers, engine: Any, want: Truth) -> bool:
    """Wait until the numbers are there and stay, or have not moved for so long."""
    deadline = time.monotonic() + plan.catch_up_s
    stable, folded = 0, -1
    while time.monotonic() < deadline:
        workers.keep_up()
        time.sleep(0.5)
        try:
            with reading(engine) as connection:
                dead, cells = read.dead_count(connection), read.cells(connection)
                reached = read.folded(connection)
        except StoreAway:
            continue
        if reached != folded:
            folded, deadline = reached, time.monotonic() + plan.catch_up_s
        same = dead == want.dead and {tuple(key): value for key, value in cells.items()} == want.cells
        stable = stable + 1 if same else 0
        if stable >= 10:
            return True
    return False


def _compare(result: Result, workers: Workers, engine: Any, kafka: Kafka, want: Truth) -> None:
    with reading(engine) as connection:
        cells: dict[Any, tuple[int, int]] = {tuple(key): value for key, value in read.cells(connection).items()}
        dead = read.dead_count(connection)
    wrong = list(unequal(cells, want.cells, (0, 0)))
    result.facts["cells"] = len(want.cells)
    result.facts["items that count"] = want.items
    result.facts["items counted"] = sum(count for count, _ in cells.values())
    result.differences += [f"cell {key}: {have}, should be {right}" for key, have, right in wrong[:10]]
    if len(wrong) > 10:
        result.differences.append(f"… {len(wrong)} of {len(want.cells)} cells differ")
    result.facts["dead letters"] = dead
    if dead != want.dead:
        result.differences.append(f"{dead} dead letters, should be {want.dead}")
    _compare_metrics(result, workers, engine, want)
    found = audit(kafka, engine)
    result.facts["read again to close a hole"] = found.facts["read again to close a hole"]
    result.differences += [f"audit: {difference}" for difference in found.differences]


def _compare_metrics(result: Result, workers: Workers, engine: Any, want: Truth) -> None:
    """The sum over the workers' /metrics: live items and windows."""
    expected: Counter[Any] = Counter()
    for (_, _, source, _, topic, _, sentiment), (count, _) in want.cells.items():
        expected[source, topic, sentiment] += count
    deadline, wrong = time.monotonic() + 30, ["no worker showed its metrics"]
    while time.monotonic() < deadline:
        workers.keep_up()
        try:
            before = datetime.now(UTC)
            sums = workers.metrics()
        except OSError:
            time.sleep(0.5)
            continue
        if datetime.now(UTC).minute != before.minute:
            continue
        shown: Counter[Any] = Counter()
        in_windows: Counter[Any] = Counter()
        for (name, pairs), value in sums.items():
            labels = dict(pairs)
            if name == "feedback_items":
                shown[labels["source"], labels["topic"], labels["sentiment"]] += int(value)
            elif name == "feedback_window_items":
                in_windows[labels["source"], labels["topic"], labels["sentiment"], labels["window"]] += int(value)
        wrong = [f"feedback_items{k}: {have}, should be {right}" for k, have, right in unequal(shown, expected, 0)]
        by_space = _windows_by_workspace(engine, want, before)
        wrong += [f"feedback_window_items{k}: {h}, should be {r}" for k, h, r in unequal(in_windows, by_space, 0)]
        if not wrong:
            break
        time.sleep(1)
    result.facts["feedback_items over all workers"] = sum(shown.values()) if not wrong else "differs"
    result.differences += wrong[:10]


def _windows_by_workspace(engine: Any, want: Truth, now: datetime) -> dict[Any, int]:
    sums: Counter[Any] = Counter()
    names = sorted({key[0] for key in want.cells})
    with reading(engine) as connection:
        times = read.stream_times(connection, names, now)
    for name, at in times.items():
        cells = {key: value for key, value in want.cells.items() if key[0] == name}
        sums.update(windows(cells, at))
    return {key: count for key, count in sums.items() if count}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, help="records to send (default: 700 a second for the kills' time)")
    parser.add_argument("--kills", type=int, default=10, help="kill -9 of a random worker")
    parser.add_argument("--pauses", type=int, default=1, help="SIGSTOP of a worker beyond its session timeout")
    parser.add_argument("--broker-kills", type=int, default=None, help="kill -9 of the broker (kafka only)")
    parser.add_argument("--store-kills", type=int, default=None, help="kill -9 of the database (postgres only)")
    parser.add_argument("--broker", choices=("embedded", "kafka"), default="embedded")
    parser.add_argument("--store", default="sqlite", help="sqlite, postgres (a server of its own) or a URL")
    parser.add_argument("--rate", type=float, default=700.0, help="records a second")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--without", action="append", default=[], help="switch a safeguard off")
    parser.add_argument("--json", action="store_true", help="print the facts as one JSON object")
    chosen = parser.parse_args(arguments)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    plan = Plan(
        items=chosen.items or max(20_000, int(chosen.kills * 4 * chosen.rate)),
        kills=chosen.kills,
        pauses=chosen.pauses,
        broker_kills=_default(chosen.broker_kills, 1 if chosen.broker == "kafka" else 0),
        store_kills=_default(chosen.store_kills, 1 if chosen.store == "postgres" else 0),
        broker=chosen.broker,
        store=chosen.store,
        rate=chosen.rate,
        seed=chosen.seed,
        without=tuple(chosen.without),
    )
    try:
        result = run(plan, lambda line: print(line, flush=True))
    except ServerMissing as error:
        print(f"NOT RUN: {error}")
        return 1
    if chosen.json:
        print(json.dumps(result.facts))
    else:
        for name, value in result.facts.items():
            print(f"{name:34} {value}")
    for difference in result.differences:
        print(f"DIFFERS: {difference}")
    killed = f"{plan.kills} worker kills, {plan.broker_kills} broker kills, {plan.store_kills} database kills"
    verdict = "EXACT" if not result.differences else f"NOT EXACT: {len(result.differences)} differences"
    print(f"{verdict} ({plan.items} records, {killed}, {plan.pauses} pauses, {plan.broker}, {plan.store})")
    return 1 if result.differences else 0


def _default(given: int | None, otherwise: int) -> int:
    return otherwise if given is None else given


if __name__ == "__main__":
    sys.exit(main())
