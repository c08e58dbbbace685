"""What is read from the store: the numbers that are exported, what `ovoz status`, `dead` and `audit` show."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

import sqlalchemy as sa

from alerts.alert import Alert
from pipeline.ledger import Ledger
from pipeline.store import connectors, schema
from pipeline.store.engine import StoreAway, away
from pipeline.topics import workspace_partition
from pipeline.windows import WINDOWS_MINUTES, Cell, micros, minute_of, moment, stream_time, window_start


@dataclass(slots=True)
class WindowSum:
    """Items and their score sum (millionths) of one source and topic in one window, by sentiment."""

    count: Counter[str] = field(default_factory=Counter)
    score_e6: int = 0


@dataclass(slots=True)
class Snapshot:
    """The numbers of the workspaces that a worker shows."""

    partitions: list[int] = field(default_factory=list)
    totals: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    windows: dict[tuple[str, str, str], WindowSum] = field(default_factory=dict)
    missing_s: dict[tuple[str, str], float] = field(default_factory=dict)
    spoken: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    firing: list[Alert] = field(default_factory=list)
    last_event: dict[str, datetime] = field(default_factory=dict)
    last_success: dict[str, datetime] = field(default_factory=dict)


class reading:
    """`with reading(engine) as connection:` one consistent view; a database that is away is StoreAway."""

    def __init__(self, engine: sa.Engine) -> None:
        self._connection: sa.Connection | None = None
        self._engine = engine

    def __enter__(self) -> sa.Connection:
        options: dict[str, Any] = {"reading": True}
        if self._engine.dialect.name == "postgresql":
            options["isolation_level"] = "REPEATABLE READ"
        try:
            self._connection = self._engine.connect().execution_options(**options)
        except sa.exc.DBAPIError as error:
            raise (StoreAway(str(error.orig).strip()) if away(error) else error) from error
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()
        if isinstance(error, sa.exc.DBAPIError) and away(error):
            raise StoreAway(str(error.orig).strip()) from error


def owned_partitions(connection: sa.Connection, log: str, owner: str) -> list[int]:
    """The scored partitions whose numbers this worker shows."""
    table = schema.position
    query = sa.select(table.c.partition).where(table.c.log == log, table.c.owner == owner)
    return sorted(connection.scalars(query))


def chunks(names: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    """Parts that a statement can take: databases bound how many values it may have."""
    return (names[start : start + size] for start in range(0, len(names), size))


def workspaces(connection: sa.Connection, partitions: Sequence[int], count: int) -> list[str]:
    """The workspaces that hash to these of `count` scored partitions."""
    names = connection.scalars(sa.select(schema.workspace.c.workspace))
    return sorted(name for name in names if workspace_partition(name, count) in partitions)


def stream_times(connection: sa.Connection, names: Sequence[str], now: datetime) -> dict[str, datetime]:
    """The event time that it is in each workspace that has seen items."""
    table = schema.workspace
    query = sa.select(table).where(table.c.watermark_us.is_not(None))
    return {
        row.workspace: stream_time(moment(row.watermark_us), moment(row.advanced_us), now)
        for some in chunks(names)
        for row in connection.execute(query.where(table.c.workspace.in_(some)))
    }


def stirring(connection: sa.Connection, times: Mapping[str, datetime]) -> set[str]:
    """Of workspaces, with the time that it is in each, those where passing time may change an alert."""
    alert, detector = schema.alert, schema.detector
    found = set(connection.scalars(sa.select(alert.c.workspace).where(alert.c.state != "resolved").distinct()))
    # What only the journal tells may be due: another writer left it.
    found |= set(connection.scalars(sa.select(schema.journal.c.workspace).distinct()))
    if times:
        latest = micros(max(times.values()))
        found |= set(connection.scalars(sa.select(detector.c.workspace).where(detector.c.due_us <= latest).distinct()))
    return found & times.keys()


def snapshot(
    connection: sa.Connection, log: str, owner: str, partitions: int, now: datetime, *, lately: Snapshot | None = None
) -> Snapshot:
    """What a worker shows: totals, windows and alerts of the workspaces in its scored partitions.

    `lately`: an earlier one, whose windows are shown again if the partitions are still the same; they cost the most.
    """
    shown = Snapshot(partitions=owned_partitions(connection, log, owner))
    names = workspaces(connection, shown.partitions, partitions) if shown.partitions else []
    if not names:
        return shown
    total, source = schema.total, schema.source
    query = sa.select(total.c.source, total.c.topic, total.c.sentiment, sa.func.sum(total.c.count).label("count"))
    query = query.group_by(total.c.source, total.c.topic, total.c.sentiment)
    for some in chunks(names):
        for row in connection.execute(query.where(total.c.workspace.in_(some))).mappings():
            shown.totals[row["source"], row["topic"], row["sentiment"]] += int(row["count"])
        for row in connection.execute(sa.select(source).where(source.c.workspace.in_(some))).mappings():
            event, success = moment(row["last_event_us"]), moment(row["last_success_us"])
            shown.last_event[row["source"]] = max(event, shown.last_event.get(row["source"], event))
            shown.last_success[row["source"]] = max(success, shown.last_success.get(row["source"], success))
    if lately is not None and lately.partitions == shown.partitions:
        shown.windows, shown.spoken = lately.windows, lately.spoken
    else:
        # In live operation it is the same minute in most workspaces: they are summed up together.
        minutes: dict[int, list[str]] = defaultdict(list)
        times = stream_times(connection, names, now)
        for name, at in times.items():
            minutes[minute_of(at)].append(name)
        for together in minutes.values():
            for some in chunks(together):
                _add_windows(connection, shown, some, times[some[0]])
    for window, minutes_long in WINDOWS_MINUTES.items():
        for some in chunks(names):
            begin = now - timedelta(minutes=minutes_long)
            for name, us in connectors.blinded(connection, some, since=begin, until=now).items():
                shown.missing_s[name, window] = max(us / 1e6, shown.missing_s.get((name, window), 0.0))
    ours = set(names)
    shown.firing = [one for one in alerts(connection, state="firing") if one.workspace in ours]
    return shown


def _add_windows(connection: sa.Connection, shown: Snapshot, names: Sequence[str], at: datetime) -> None:
    cell = schema.cell
    for row in _in_windows(connection, names, at, cell.c.source, cell.c.topic, cell.c.sentiment):
        for window in WINDOWS_MINUTES:
            if row[f"count_{window}"]:
                entry = shown.windows.setdefault((row["source"], row["topic"], window), WindowSum())
                entry.count[row["sentiment"]] += int(row[f"count_{window}"])
                entry.score_e6 += int(row[f"score_{window}"])
    for row in _in_windows(connection, names, at, cell.c.language, cell.c.channel, cell.c.sentiment):
        for window in WINDOWS_MINUTES:
            key = (row["language"], row["channel"], row["sentiment"], window)
            shown.spoken[key] += int(row[f"count_{window}"])


def _in_windows(connection: sa.Connection, names: Sequence[str], at: datetime, *by: sa.Column[Any]) -> Sequence[Any]:
    """Counts and sums of scores of each window that ends at `at`, grouped."""
    cell = schema.cell
    # One pass over the longest window; each shorter one is a conditional sum.
    sums = []
    for window in WINDOWS_MINUTES:
        inside = cell.c.minute >= window_start(at, window)
        sums.append(sa.func.sum(sa.case((inside, cell.c.count), else_=0)).label(f"count_{window}"))
        sums.append(sa.func.sum(sa.case((inside, cell.c.score_e6), else_=0)).label(f"score_{window}"))
    longest = max(WINDOWS_MINUTES, key=WINDOWS_MINUTES.__getitem__)
    query = (
        sa.select(*by, *sums)
        .where(cell.c.workspace.in_(names), cell.c.minute >= window_start(at, longest))
        .where(cell.c.minute <= int(at.timestamp() // 60))
        .group_by(*by)
    )
    return connection.execute(query).mappings().all()


def ledgers(connection: sa.Connection, log: str) -> dict[int, tuple[Ledger, int, int]]:
    """(account, repaired, lost) by partition of one life of the raw topic."""
    table = schema.ledger
    return {
        row.partition: (Ledger.from_json(row.low, row.spans), row.repaired, row.lost)
        for row in connection.execute(sa.select(table).where(table.c.log == log))
    }


def positions(connection: sa.Connection, logs: Sequence[str]) -> dict[tuple[str, int], int]:
    """Next offset to fold, by (topic, partition), of these lives of topics."""
    table = schema.position
    query = sa.select(table).where(table.c.log.in_(list(logs)))
    return {(row.topic, row.partition): row.next_offset for row in connection.execute(query)}


def folded(connection: sa.Connection) -> int:
    """How many records of scored and dead topics have been folded, over all partitions: it only grows."""
    return int(connection.scalar(sa.select(sa.func.sum(schema.position.c.next_offset))) or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadEntry:
    """A dead letter as kept; times UTC."""

    dead_id: str
    stage: str
    reason: str
    detail: str
    origin: str
    key: bytes | None
    payload: bytes
    failed_at: datetime
    requeued_at: datetime | None


def dead_letters(
    connection: sa.Connection, *, ids: Sequence[str] | None = None, reason: str | None = None,
    requeued: bool | None = None, limit: int = 100,
) -> list[DeadEntry]:  # fmt: skip
    """Dead letters, newest first. `requeued`: only those put back, or only those not."""
    table = schema.dead_letter
    query = sa.select(table).order_by(table.c.failed_us.desc(), table.c.dead_id).limit(limit)
    if ids is not None:
        query = query.where(table.c.dead_id.in_(list(ids)))
    if reason is not None:
        query = query.where(table.c.reason == reason)
    if requeued is not None:
        query = query.where(table.c.requeued_us.is_not(None) if requeued else table.c.requeued_us.is_(None))
    return [
        DeadEntry(
            dead_id=row.dead_id,
            stage=row.stage,
            reason=row.reason,
            detail=row.detail,
            origin=row.origin,
            key=row.key,
            payload=row.payload,
            failed_at=moment(row.failed_us),
            requeued_at=None if row.requeued_us is None else moment(row.requeued_us),
        )
        for row in connection.execute(query)
    ]


def dead_count(connection: sa.Connection) -> int:
    """How many dead letters wait, those put back not counted."""
    table = schema.dead_letter
    query = sa.select(sa.func.count()).where(table.c.requeued_us.is_(None))
    return int(connection.scalar(query) or 0)


def mark_requeued(engine: sa.Engine, ids: Sequence[str], now: datetime) -> None:
    """Note that these dead letters were put back."""
    table = schema.dead_letter
    with engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.dead_id.in_(list(ids))).values(requeued_us=micros(now)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """When a source was last heard in a workspace, and how many of its items came in lately."""

    workspace: str
    source: str
    last_event: datetime
    last_success: datetime
    items_1m: int
    items_5m: int
    items_1h: int


def source_states(connection: sa.Connection, now: datetime) -> list[SourceState]:
    """Every source, with items by time of receipt in the minute, five minutes and hour before `now`."""
    item, source = schema.item, schema.source
    since = {1: micros(now) - 60_000_000, 5: micros(now) - 300_000_000, 60: micros(now) - 3_600_000_000}
    sums = [sa.func.sum(sa.case((item.c.received_us > us, 1), else_=0)) for us in since.values()]
    query = (
        sa.select(item.c.workspace, item.c.source, *sums)
        .where(item.c.received_us > since[60])
        .group_by(item.c.workspace, item.c.source)
    )
    recent = {(row[0], row[1]): tuple(int(n) for n in row[2:]) for row in connection.execute(query)}
    states = []
    for row in connection.execute(sa.select(source).order_by(source.c.workspace, source.c.source)):
        one, five, hour = recent.get((row.workspace, row.source), (0, 0, 0))
        states.append(
            SourceState(
                workspace=row.workspace,
                source=row.source,
                last_event=moment(row.last_event_us),
                last_success=moment(row.last_success_us),
                items_1m=one,
                items_5m=five,
                items_1h=hour,
            )
        )
    return states


def alerts(connection: sa.Connection, *, state: str | None = None) -> list[Alert]:
    """All alerts, or those in one state, oldest first."""
    table = schema.alert
    query = sa.select(table.c.body, table.c.revision).order_by(table.c.starts_us)
    if state is not None:
        query = query.where(table.c.state == state)
    return [replace(Alert.from_json(row.body), revision=row.revision) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a customer said, as it counts; time UTC."""

    workspace: str
    created_at: datetime
    source: str
    topic: str
    language: str
    sentiment: str
    text: str


def messages(
    connection: sa.Connection, *, within: str | None = None, outside: str | None = None,
    sentiment: str | None = None, limit: int,
) -> list[Message]:  # fmt: skip
    """The newest messages that count: of the workspace `within`, or of all but `outside`; of one sentiment."""
    table = schema.item
    names = ("workspace", "source", "topic", "language", "sentiment", "text", "created_us")
    query = sa.select(*(table.c[name] for name in names)).where(table.c.sentiment.is_not(None))
    if within is not None:
        query = query.where(table.c.workspace == within)
    if outside is not None:
        query = query.where(table.c.workspace != outside)
    if sentiment is not None:
        query = query.where(table.c.sentiment == sentiment)
    return [
        Message(
            workspace=row.workspace,
            created_at=moment(row.created_us),
            source=row.source,
            topic=row.topic,
            language=row.language,
            sentiment=row.sentiment,
            text=row.text or "",
        )
        for row in connection.execute(query.order_by(table.c.created_us.desc()).limit(limit))
    ]


def cells(connection: sa.Connection) -> dict[Cell, tuple[int, int]]:
    """All cells: (count, score in millionths)."""
    names = (*Cell._fields, "count", "score_e6")
    rows = connection.execute(sa.select(*(schema.cell.c[name] for name in names)))
    return {Cell._make(labels): (int(count), int(score)) for *labels, count, score in rows}


def recount(connection: sa.Connection) -> dict[Cell, tuple[int, int]]:
    """The cells as the items say they must be."""
    table = schema.item
    keys = [table.c[name] for name in Cell._fields]
    query = (
        sa.select(*keys, sa.func.count(), sa.func.sum(table.c.score_e6))
        .where(table.c.minute.is_not(None))
        .group_by(*keys)
    )
    return {Cell._make(labels): (int(count), int(score)) for *labels, count, score in connection.execute(query)}


def totals(connection: sa.Connection) -> dict[tuple[str, str, str, str], int]:
    """(workspace, source, topic, sentiment) → live items, as kept; zeros left out."""
    table = schema.total
    query = sa.select(table.c.workspace, table.c.source, table.c.topic, table.c.sentiment, table.c.count)
    return {
        (space, source, topic, said): int(count)
        for space, source, topic, said, count in connection.execute(query)
        if count
    }


def totals_of(cells_held: dict[Cell, tuple[int, int]]) -> dict[tuple[str, str, str, str], int]:
    """The totals that cells add up to."""
    sums: dict[tuple[str, str, str, str], int] = defaultdict(int)
    for cell, (count, _) in cells_held.items():
        sums[cell.workspace, cell.source, cell.topic, cell.sentiment] += count
    return {key: count for key, count in sums.items() if count}
