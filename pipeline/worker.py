"""`ovoz worker`: puts the stages, the store, the model, the outbox and the exporter together."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import sqlalchemy as sa

from alerts.engine import Engine, Transition
from models.classifier import Classifier, ModelError
from pipeline import app as faust_app
from pipeline import ledger, repair
from pipeline.backlog import Backlog
from pipeline.bus import BrokerAway, TopicMismatch, admin, read_offsets
from pipeline.classify import RawRecord
from pipeline.dead_letter import FuseBlown
from pipeline.exporter import Exporter
from pipeline.ledger import Span
from pipeline.live_rules import LiveRules, RulesError
from pipeline.metrics import WorkerMetrics
from pipeline.model import classifier_of
from pipeline.outbox import Outbox
from pipeline.patience import persist
from pipeline.quotes_page import LIMIT, QuotesPage
from pipeline.receivers import Receiver, people, programs
from pipeline.settings import Settings
from pipeline.stages import ClassifyStage, FoldStage, Logs
from pipeline.store import read
from pipeline.store.engine import StoreAway, StoreError, away, connect, prepare
from pipeline.store.quotes import worst_lately
from pipeline.store.read import Snapshot, reading
from pipeline.store.transaction import PRUNE_ITEMS, Safeguards, Store
from pipeline.topics import Topics, workspace_partition

log = logging.getLogger("ovoz.worker")

STOP_TIMEOUT_S: Final = 4.0
TICK_S: Final = 1.0
RULES_S: Final = 1.0
BACKLOG_S: Final = 5.0
PRUNE_S: Final = 60.0
LAG_S: Final = 2.0
DELAY_S: Final = 0.1
OUTBOX_S: Final = 1.0
"""Between looks for alerts whose time has come; one that changes is told at once."""
SWITCH_S: Final = 0.0005
"""How long a thread keeps the interpreter while others wait. With Python's 5 ms, each batch of the model waits for so
long when it is computed, and its core with it."""
GARBAGE: Final = (20_000, 20, 50)
"""Python's own 700, 10, 10 took a tenth of the fold's time, for batches make many records that live shortly."""
REVIEWS_AT_ONCE: Final = 500
WINDOWS_S: Final = 1.0
"""For so long the sums of windows are shown again; totals are always those of the scrape."""
RESTART: Final = -1


class Worker:
    """One worker process: one or both stages, until `stop` is called or something ends it."""

    def __init__(
        self,
        settings: Settings,
        stage: str,
        *,
        classifier: Classifier | None = None,
        safeguards: Safeguards = Safeguards(),  # noqa: B008 - frozen
    ) -> None:
        self.settings = settings
        self.owner = f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.url: str | None = None
        self._stages = ("classify", "fold") if stage == "all" else (stage,)
        self._stage_name = stage
        self._classifier = classifier
        self._safeguards = safeguards
        self._topics = Topics.of(settings.kafka)
        self._metrics = WorkerMetrics(settings.labels, self._snapshot)
        self._logs = Logs(settings, lambda _: self._metrics["feedback_topic_restarts_total"].inc())
        self._engine = connect(settings.store.url)
        self._rules = LiveRules(settings.alerts.rules)
        self._backlog = Backlog()
        self._receivers: list[Receiver] = []
        self._store = Store(
            self._engine,
            detection=self._engine_of_rules(),
            retention=timedelta(days=settings.store.retention_days),
            late_after=timedelta(seconds=settings.worker.late_after_s),
            alert_max_age=timedelta(minutes=settings.alerts.max_age_minutes),
            safeguards=safeguards,
        )
        self._fold = FoldStage(settings, self._store, self._logs, self._metrics, self._alerts_turned)
        self._outboxes: list[asyncio.Event] = []
        self._classify: ClassifyStage | None = None
        self._apps: list[faust_app.Stage] = []
        self._waiting_for: str | None = "start"
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._holes = repair.HoleWatch()
        self._progress = repair.FoldProgress()
        self._raw_partitions: set[int] = set()
        self._windows: tuple[float, Snapshot | None] = (float("-inf"), None)

    async def run(self, ready: Callable[[str], None] = lambda url: None) -> int:
        """Work until told to stop: 0, 1 after a failure, RESTART when the connection to Kafka broke.

        `ready` hears the URL of /metrics once records are taken.
        """
        token = self.settings.worker.quotes_token_sha256
        quotes = QuotesPage(partial(worst_lately, self._engine, limit=LIMIT), token) if token else None
        exporter = Exporter(self._metrics, lambda: self._waiting_for, quotes)
        self.url = await exporter.start(self.settings.worker.host, self.settings.worker.port)
        try:
            started = asyncio.ensure_future(self._start())
            await self._first(started, self._stop.wait())
            if not started.done():
                started.cancel()
            else:
                await started
                if self._failure is None:
                    ready(self.url)
                    await self._stop.wait()
        finally:
            await self._end(exporter)
        if isinstance(self._failure, _Disconnected):
            return RESTART
        if self._failure is not None:
            raise self._failure
        return 0

    def stop(self) -> None:
        """End after the batch under way."""
        self._stop.set()

    async def _start(self) -> None:
        self._waiting_for = "the database"
        await self._fold.write(prepare, self._engine)
        model = "none"
        if "classify" in self._stages:
            self._waiting_for = "the model"
            if self._classifier is None:
                self._classifier = await asyncio.get_running_loop().run_in_executor(None, self._load)
            model = self._classifier.model
        release = _release()
        self._metrics["feedback_worker_info"].labels(release, self._stage_name, model).set(1)
        self._waiting_for = "the broker"
        await self._logs.refresh([topic.name for topic in self._topics])
        await self._begin_ledgers()
        self._waiting_for = "the consumer group"
        await asyncio.gather(*(self._start_stage(name) for name in self._stages))
        self._waiting_for = None
        self._every(LAG_S, self._measure_lag)
        self._every(DELAY_S, self._measure_delay)
        if "fold" in self._stages:
            self._every(TICK_S, self._tick)
            self._every(PRUNE_S, self._prune)
            self._every(BACKLOG_S, self._measure_backlog)
            self._every(RULES_S, self._look_at_rules)
            self._metrics["feedback_alert_rules_valid"].set(1)
            self._receivers = [*people(self.settings), *programs(self.settings)]
            for receiver in self._receivers:
                outbox = Outbox(self._engine, receiver, self._workspaces, self._metrics, self._caution)
                self._outboxes.append(asyncio.Event())
                self._every(OUTBOX_S, outbox.send_due, self._outboxes[-1])
        if "classify" in self._stages and self._safeguards.ledger_repair:
            pause = min(5.0, max(0.5, self.settings.worker.repair_after_s / 4))
            self._every(pause, self._repair)

    def _load(self) -> Classifier:
        return classifier_of(self.settings.model)

    async def _start_stage(self, name: str) -> None:
        worker = self.settings.worker
        if name == "classify":
            topics: tuple[str, ...] = (self._topics.raw.name,)
            items, wait = worker.classify_batch_items, worker.classify_batch_wait_s
        else:
            topics = (self._topics.scored.name, self._topics.dead.name)
            items, wait = worker.fold_batch_items, worker.fold_batch_wait_s
        assigned, following = asyncio.Event(), asyncio.Lock()
        newest: dict[str, set[int]] = {}

        async def handle(topic: str, messages: Any) -> None:
            await assigned.wait()
            await self._handler(name)(topic, messages)

        async def take_over(partitions: dict[str, set[int]]) -> None:
            # One after the other, and of assignments in quick succession only the newest.
            async with following:
                if partitions is newest:
                    await self._take_over(name, partitions)
                if partitions is newest:
                    assigned.set()

        async def on_assigned(partitions: dict[str, set[int]]) -> None:
            nonlocal newest
            newest = partitions
            assigned.clear()
            self._spawn(take_over(partitions))

        stage = faust_app.Stage(
            name=name,
            topics=topics,
            handle=handle,
            batch_items=items,
            batch_wait_s=wait,
            assigned=on_assigned,
            acknowledge_own_generation=self._safeguards.acknowledge_own_generation,
        )
        app = faust_app.build(self.settings, stage, self._failed)
        self._apps.append(stage)
        if name == "classify":
            assert self._classifier is not None  # noqa: S101
            send = faust_app.sender(app, self.settings)
            self._classify = ClassifyStage(self.settings, self._classifier, send, self._logs, self._metrics)
        self._spawn(self._watch(app))
        await app.start()

    def _handler(self, name: str) -> Callable[[str, Any], Awaitable[None]]:
        if name == "classify":
            assert self._classify is not None  # noqa: S101
            return self._classify.handle
        return self._fold.handle

    async def _take_over(self, name: str, partitions: dict[str, set[int]]) -> None:
        await self._logs.refresh(list(partitions))
        for topic, some in partitions.items():
            log.info("%s has partitions %s of %s", name, ", ".join(map(str, sorted(some))) or "none", topic)
            if name == "fold":
                await self._fold.write(self._store.claim, self._logs[topic], topic, some, self.owner)
            else:
                await self._begin_ledgers()
                self._raw_partitions = some
                self._holes.keep(some)

    async def _begin_ledgers(self) -> None:
        raw = self._topics.raw.name
        starts = await self._ask_broker(lambda client: client.starts(raw))
        for partition, first in starts.items():
            await self._fold.write(self._store.begin_ledger, self._logs[raw], partition, first)

    async def _ask_broker(self, question: Callable[[Any], Any]) -> Any:
        def ask() -> Any:
            with admin(self.settings.kafka) as client:
                return question(client)

        loop = asyncio.get_running_loop()
        return await persist(lambda: loop.run_in_executor(None, ask), away=(BrokerAway,), what="the broker")

    def _failed(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            if not isinstance(error, _Disconnected):
                known = isinstance(error, faust_app.GroupRefused | FuseBlown | TopicMismatch)
                log.error("stopping: %s", error, exc_info=None if known else error)
        self._stop.set()

    async def _watch(self, app: Any) -> None:
        refused = None
        while refused is None and not app.crashed and not app.should_stop:
            await asyncio.sleep(0.25)
            refused = faust_app.refusal(app)
        if isinstance(refused, faust_app.GroupRefused):
            self._failed(refused)
        elif not self._stop.is_set():
            self._failed(_Disconnected(f"the stream ended by itself: {refused or app.crash_reason!r}"))

    async def _first(self, *waiting: Any) -> None:
        tasks = [asyncio.ensure_future(one) for one in waiting]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Any) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._failed(error)

    def _every(self, seconds: float, call: Callable[[], Awaitable[Any]], sooner: asyncio.Event | None = None) -> None:
        """Call again and again, this long after the last time or as soon as the event is set."""

        async def forever() -> None:
            wake = sooner or asyncio.Event()
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), seconds)
                wake.clear()
                try:
                    await call()
                except (BrokerAway, StoreAway) as error:
                    log.debug("%s waits: %s", call, error)

        self._spawn(forever())

    def _snapshot(self) -> Snapshot | None:
        scored = self._logs.get(self._topics.scored.name)
        if scored is None or "fold" not in self._stages:
            return Snapshot() if scored is not None else None
        summed_s, lately = self._windows
        fresh = time.monotonic() - summed_s < WINDOWS_S
        try:
            with reading(self._engine) as connection:
                shown = read.snapshot(
                    connection, scored, self.owner, self._topics.scored.partitions, datetime.now(UTC),
                    lately=lately if fresh else None,
                )  # fmt: skip
            if not fresh:
                self._windows = (time.monotonic(), shown)
            return shown
        except StoreAway as error:
            log.debug("no stored numbers for this scrape: %s", error)
            return None

    def _workspaces(self, connection: sa.Connection) -> list[str]:
        scored, count = self._logs[self._topics.scored.name], self._topics.scored.partitions
        return read.workspaces(connection, read.owned_partitions(connection, scored, self.owner), count)

    async def _look_at_rules(self) -> None:
        changed = await asyncio.get_running_loop().run_in_executor(None, self._rules.look)
        if changed is None:
            return
        self._metrics["feedback_alert_rules_valid"].set(changed)
        self._metrics["feedback_alert_rules_reloads_total"].labels("applied" if changed else "refused").inc()
        if changed:
            await self._fold.write(self._store.use_rules, self._engine_of_rules())

    def _caution(self) -> str:
        """What alerts say of this pipeline while it is ill."""
        holes, now_s = self._holes.count(), time.monotonic()
        return " ".join(filter(None, [
            "Records have waited for more than 30 seconds: what is counted is not up to date."
            if self._backlog.seen and self._backlog.behind(now_s) else "",
            f"{holes} records have no known outcome yet: counts may be too low." if holes else "",
        ]))  # fmt: skip

    def _engine_of_rules(self) -> Engine:
        alerts = self.settings.alerts
        return Engine(self._rules.rules, dashboard_url=alerts.dashboard_url, prometheus_url=alerts.prometheus_url)

    async def _measure_backlog(self) -> None:
        group = self.settings.worker.group
        read_by = {self._topics.raw.name: f"{group}-classify", self._topics.scored.name: f"{group}-fold"}

        def look(client: Any) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], int]]:
            ends, done = {}, {}
            for topic, reader in read_by.items():
                committed = client.committed(reader, topic)
                for partition, (start, end) in client.ends(topic).items():
                    ends[topic, partition] = end
                    done[topic, partition] = committed.get(partition, start)
            return ends, done

        ends, done = await self._ask_broker(look)
        self._backlog.observe(ends, done, time.monotonic())

    async def _measure_lag(self) -> None:
        # A partition that moved to another worker must not stay here with its last number.
        self._metrics["feedback_consumer_lag_records"].clear()
        for stage in self._apps:
            self._metrics["feedback_queue_items"].labels(stage.name).set(sum(stage.processing.values()))
            for (topic, partition), records in faust_app.lag(stage.app, stage.taken).items():
                self._metrics["feedback_consumer_lag_records"].labels(topic, partition).set(records)

    async def _measure_delay(self) -> None:
        before = time.perf_counter()
        await asyncio.sleep(0.05)
        delay = time.perf_counter() - before - 0.05
        self._metrics["feedback_event_loop_delay_seconds"].observe(max(0.0, delay))

    def _alerts_turned(self) -> None:
        for event in self._outboxes:
            event.set()

    async def _tick(self) -> None:
        turned: list[Transition] = []
        await self._for_each_workspace(partial(self._tick_one, turned), self._ticking)
        if turned:
            self._alerts_turned()

    async def _prune(self) -> None:
        left: list[tuple[str, tuple[str, int], datetime]] = []
        await self._for_each_workspace(lambda *one: left.append(one))
        for one in left:
            # In parts, so that the batches of the fold come in between.
            while await self._fold.write(self._prune_one, *one) >= PRUNE_ITEMS:
                continue
        age = timedelta(hours=self.settings.kafka.dead_retention_hours)
        await self._fold.write(self._store.prune_dead_letters, datetime.now(UTC) - age)
        await self._fold.write(self._store.prune_incidents, datetime.now(UTC))

    def _ticking(self, connection: sa.Connection, times: dict[str, datetime]) -> dict[str, datetime]:
        """Without the workspaces where nothing can happen, so that many quiet ones cost nothing."""
        new = [name for name in times if not self._store.quiet(name)][:REVIEWS_AT_ONCE]
        return {name: times[name] for name in {*read.stirring(connection, times), *new}}

    async def _for_each_workspace(
        self,
        act: Callable[[str, tuple[str, int], datetime], None],
        which: Callable[[sa.Connection, dict[str, datetime]], dict[str, datetime]] = lambda _, times: times,
    ) -> None:
        scored = self._logs[self._topics.scored.name]

        def all_of_them() -> None:
            self._store.settle()
            with reading(self._engine) as connection:
                names = self._workspaces(connection)
                times = which(connection, read.stream_times(connection, names, datetime.now(UTC)))
            for name, at in times.items():
                act(name, (scored, workspace_partition(name, self._topics.scored.partitions)), at)

        await self._fold.write(all_of_them)

    def _tick_one(self, turned: list[Transition], name: str, position: tuple[str, int], at: datetime) -> None:
        behind = self._backlog.behind(time.monotonic())
        transitions = self._store.tick(name, position, stream_now=at, behind=behind)
        self._metrics.turned(transitions)
        turned += transitions

    def _prune_one(self, name: str, position: tuple[str, int], at: datetime) -> int:
        removed = self._store.prune(name, position, now=at)
        if removed:
            self._metrics["feedback_pruned_items_total"].inc(removed)
        return removed

    async def _repair(self) -> None:
        assert self._classify is not None  # noqa: S101
        raw, group = self._topics.raw.name, f"{self.settings.worker.group}-classify"
        identity = self._logs[raw]
        mine = self._raw_partitions
        present, committed = await self._ask_broker(
            lambda client: (client.log_identity(raw), client.committed(group, raw))
        )
        if present != identity:
            # The topic began a new life; the rebalance that follows makes it known.
            return

        def look() -> tuple[dict[int, Any], dict[tuple[str, int], int]]:
            with reading(self._engine) as connection:
                return read.ledgers(connection, identity), read.positions(connection, logs)

        written = [self._topics.scored.name, self._topics.dead.name]
        logs = [self._logs[topic] for topic in written]
        ledgers, _ = await self._fold.write(look)
        for partition, (account, _, _) in ledgers.items():
            if partition in mine:
                found = repair.holes(account, committed.get(partition))
                self._holes.observe(partition, found, time.monotonic())
        if self._holes.count():
            seen_s, folding = time.monotonic(), f"{self.settings.worker.group}-fold"
            ends, passed = await self._ask_broker(
                lambda client: (
                    {(t, p): end for t in written for p, (_, end) in client.ends(t).items()},
                    {(t, p): at for t in written for p, at in client.committed(folding, t).items()},
                )
            )
            _, positions = await self._fold.write(look)
            # A store that was set back stands below what was committed, and will not see it again.
            reached = {place: max(positions.get(place, 0), passed.get(place, 0)) for place in ends}
            self._progress.observe(ends, reached, seen_s)
        self._metrics["feedback_unaccounted_items"].set(self._holes.count())
        for partition in sorted(mine):
            overdue = self._holes.overdue(
                partition, time.monotonic(), self.settings.worker.repair_after_s, self._progress.settled_s
            )
            if overdue:
                await self._read_again(identity, partition, overdue)

    async def _read_again(self, identity: str, partition: int, overdue: list[Span]) -> None:
        """Raises BrokerAway: the next round tries again."""
        assert self._classify is not None  # noqa: S101
        raw, size = self._topics.raw.name, ledger.size(overdue)
        log.warning("%d records of %s[%d] have no outcome: reading them again", size, raw, partition)
        first = (await self._ask_broker(lambda client: client.starts(raw)))[partition]
        kept = [(max(start, first), end) for start, end in overdue if end > first]

        def read() -> list[RawRecord]:
            return [
                RawRecord(partition=partition, offset=offset, key=key, value=value)
                for offset, key, value in read_offsets(self.settings.kafka, raw, partition, kept)
            ]

        records = await asyncio.get_running_loop().run_in_executor(None, read)
        for start in range(0, len(records), 256):
            await self._classify.process(records[start : start + 256])
        await self._fold.write(self._store.account_repaired, identity, partition, len(records))
        self._metrics["feedback_repaired_items_total"].inc(len(records))
        gone = repair.absent(overdue, (record.offset for record in records))
        if gone:
            lost = await self._fold.write(self._store.account_lost, identity, partition, gone)
            log.error("%d records of %s[%d] left the log before they had an outcome", lost, raw, partition)
            self._metrics["feedback_lost_items_total"].inc(lost)
        self._holes.observe(partition, [], time.monotonic())

    async def _end(self, exporter: Exporter) -> None:
        self._stop.set()
        for task in list(self._tasks):
            task.cancel()
        for stage in self._apps:
            # Not `wait_for`, which would wait on for what does not let itself be cancelled.
            stopping = asyncio.ensure_future(stage.app.stop())
            await asyncio.wait({stopping}, timeout=STOP_TIMEOUT_S / len(self._apps))
            if not stopping.done():
                log.debug("stage %s did not stop in time", stage.name)
            elif not stopping.cancelled() and stopping.exception():
                log.debug("stage %s did not stop: %r", stage.name, stopping.exception())
        for receiver in self._receivers:
            try:
                await asyncio.wait_for(receiver.notifier.close(), 1.0)
            except TimeoutError:
                log.debug("receiver %s did not close in time", receiver.notifier.name)
        await exporter.stop()


class _Disconnected(RuntimeError):
    """The stream's own connection to Kafka broke beyond repair: a new process image is needed."""


def tune_interpreter() -> None:
    """Set this process up for a worker: threads that hand over soon, and fewer searches for garbage in circles."""
    sys.setswitchinterval(SWITCH_S)
    gc.set_threshold(*GARBAGE)


def run(settings: Settings, stage: str) -> int:
    """Run a worker until SIGINT or SIGTERM: exit status 0, or 1 after a failure, which is printed.

    A connection to Kafka that Faust cannot mend makes the process start itself again.
    """
    try:
        tune_interpreter()
        # Not asyncio.run, which waits for threads at its end, and those for a broker or database that is away.
        loop = asyncio.new_event_loop()
        status = loop.run_until_complete(_run(settings, stage))
    except (ModelError, StoreError, RulesError, TopicMismatch) as error:
        print(f"ovoz worker: {error}", file=sys.stderr)
        status = 1
    except sa.exc.DBAPIError as error:
        if not away(error):
            raise
        print(f"ovoz worker: the database is away: {error.orig}", file=sys.stderr)
        status = 1
    except OSError as error:
        where = f"{settings.worker.host}:{settings.worker.port}"
        print(f"ovoz worker: cannot serve /metrics on {where}: {error}", file=sys.stderr)
        status = 1
    except Exception as error:
        print(f"ovoz worker: stopped: {error}", file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if status == RESTART:
        log.warning("the connection to Kafka broke: starting again")
        logging.shutdown()
        time.sleep(0.5)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    logging.shutdown()
    os._exit(status)


async def _run(settings: Settings, stage: str) -> int:
    worker = Worker(settings, stage)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, worker.stop)

    def ready(url: str) -> None:
        gc.freeze()  # what was made until now stays as long as the process
        print(f"ovoz worker: stage {stage}, metrics on {url}", flush=True)

    return await worker.run(ready)


def _release() -> str:
    try:
        return version("ovoz")
    except PackageNotFoundError:
        return "source"
