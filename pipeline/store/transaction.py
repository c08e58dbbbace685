"""The one transaction: a batch of what was scored, with the offsets it reaches.

It locks the position of every partition in the batch, drops what lies below it, applies the rest and
moves the position. So whoever commits, commits each record once and in order, whatever died before.
Locks are taken in one order everywhere (positions, then rows of the partition's workspaces, then
ledgers), so that transactions cannot block each other in a circle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from alerts.engine import Engine, Transition
from connectors.feedback import DELETED
from pipeline.fold import AFTER_DELETION, Changes, Held, Horizon, Identity, Talks, fold
from pipeline.history import sample_of
from pipeline.ledger import Ledger, Span, runs
from pipeline.records import DeadLetter, RawPosition, Scored
from pipeline.store import duplicates, incidents, schema, statements
from pipeline.store.engine import insert, transaction
from pipeline.store.memory import IDLE, Memory
from pipeline.store.read import chunks
from pipeline.store.rows import NOTHING_COUNTED, dead_row, held, item_row
from pipeline.windows import micros, moment

IDS_PER_QUERY: Final = 450
PRUNE_ITEMS: Final = 5_000
CLOCK_SKEW: Final = timedelta(minutes=1)
"""By how much the clocks of workers may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Safeguards:
    """What keeps the counts exact. Each can be switched off for one purpose only: to show that the proof of
    exactness fails without it.
    """

    offsets_in_transaction: bool = True
    version_by_identity: bool = True
    acknowledge_own_generation: bool = True
    ledger_repair: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One record of a scored or dead topic: where it stood, and what it holds."""

    log: str
    topic: str
    partition: int
    offset: int
    scored: tuple[Scored, ...] = ()
    dead: DeadLetter | None = None


@dataclass(slots=True)
class Folded:
    """What a batch did: records skipped because they were folded before, changes, new dead letters."""

    skipped: int = 0
    changes: Changes = field(default_factory=Changes)
    dead: list[DeadLetter] = field(default_factory=list)
    transitions: tuple[Transition, ...] = ()


class Store:
    """Writes of one process. Not thread-safe: one caller at a time.

    Every method raises StoreAway when the database does not answer or has no room: nothing of the
    transaction has happened then, and the same call may be made again.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        detection: Engine,
        retention: timedelta,
        late_after: timedelta,
        alert_max_age: timedelta,
        safeguards: Safeguards = Safeguards(),
    ) -> None:
        self._engine = engine
        self._detection = detection
        self._memory = Memory()
        self._reviewed: set[str] = set()
        self._retention = retention
        self._late_after = late_after
        self._alert_max_age = alert_max_age
        self._safeguards = safeguards

    def claim(self, log: str, topic: str, partitions: Iterable[int], owner: str) -> None:
        """Note which worker shows these partitions' numbers: the last to claim does.

        Positions of earlier lives of the topic are dropped.
        """
        with transaction(self._engine) as connection:
            table = schema.position
            connection.execute(sa.delete(table).where(table.c.topic == topic, table.c.log != log))
            for partition in sorted(partitions):
                values = {"log": log, "topic": topic, "partition": partition, "next_offset": 0, "owner": owner}
                upsert = insert(connection)(table).values(values)
                connection.execute(
                    upsert.on_conflict_do_update(index_elements=["log", "partition"], set_={"owner": owner})
                )

    def fold(self, arrivals: Sequence[Arrival], *, now: datetime) -> Folded:
        """Apply a batch, exactly once each. Records of one partition come in the order of their offsets."""
        with transaction(self._engine) as connection:
            fresh, skipped = self._advance(connection, arrivals)
            folded = Folded(skipped=skipped)
            if not fresh:
                return folded
            scored = [item for arrival in fresh for item in arrival.scored]
            if scored:
                folded.changes = self._apply(connection, scored, now)
                folded.transitions = self._detect(connection, folded.changes)
            folded.dead = _bury(connection, [arrival.dead for arrival in fresh if arrival.dead is not None])
            accounted = [item.raw for item in scored]
            accounted += [a.dead.raw for a in fresh if a.dead is not None and a.dead.raw is not None]
            _account(connection, accounted)
            return folded

    def _advance(self, connection: sa.Connection, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], int]:
        topics = {(a.log, a.partition): a.topic for a in arrivals}
        rows = [
            {"log": log, "partition": partition, "topic": topic, "next_offset": 0}
            for (log, partition), topic in sorted(topics.items())
        ]
        connection.execute(statements.add_new(connection.dialect.name, schema.position), rows)
        found = connection.execute(statements.positions(), {"places": sorted(topics)})
        positions = {(log, partition): next_offset for log, partition, next_offset in found}
        if not self._safeguards.offsets_in_transaction:
            return list(arrivals), 0
        fresh = []
        reached = dict(positions)
        for arrival in arrivals:
            key = (arrival.log, arrival.partition)
            if arrival.offset >= reached[key]:
                reached[key] = arrival.offset + 1
                fresh.append(arrival)
        moved = [
            {"b_log": log, "b_partition": partition, "b_next": reached[log, partition]}
            for log, partition in sorted(reached)
            if reached[log, partition] != positions[log, partition]
        ]
        if moved:
            connection.execute(statements.move_position(), moved)
        return fresh, len(arrivals) - len(fresh)

    def _apply(self, connection: sa.Connection, scored: list[Scored], now: datetime) -> Changes:
        horizons = self._horizons(connection, {item.feedback.workspace for item in scored}, now)
        before = _held(connection, scored) if self._safeguards.version_by_identity else {}
        talks = _talks(connection, scored, before)
        changes = fold(scored, before, horizons, late_after=self._late_after, now=now, talks=talks)
        _withdraw(connection, changes)
        _write_items(connection, changes)
        _write_cells(connection, changes)
        _write_times(connection, scored, changes, now)
        return changes

    def _horizons(self, connection: sa.Connection, names: set[str], now: datetime) -> dict[str, Horizon]:
        floor, ahead = _floor(now, self._retention), micros(now + CLOCK_SKEW)
        ordered = sorted(names)
        rows = [{"workspace": name, "floor_minute": floor} for name in ordered]
        connection.execute(statements.add_new(connection.dialect.name, schema.workspace), rows)
        # A floor that lies too high was set by a clock that ran ahead: it counts again from where it should be.
        connection.execute(statements.lower_floors(), {"names": ordered, "floor": floor})
        # So with a watermark that lies ahead: the next item sets it anew.
        return {
            name: Horizon(floor_minute, None if watermark is None or watermark > ahead else moment(watermark))
            for name, floor_minute, watermark in connection.execute(statements.horizons(), {"names": ordered})
        }

    def _detect(self, connection: sa.Connection, changes: Changes) -> tuple[Transition, ...]:
        samples = [
            sample_of(item.feedback, item.prediction)
            for item in changes.counted
            if item.prediction is not None
            and not item.feedback.backfill
            and item.feedback.received_at - item.feedback.created_at <= self._alert_max_age
        ]
        if not samples:
            return ()
        remembered = self._memory.open(connection, self._detection, {sample.workspace for sample in samples})
        recent = {name: held.recent for name, held in remembered.items()}
        return incidents.observe(connection, self._detection, remembered, duplicates.mark(connection, recent, samples))

    def tick(
        self, workspace: str, partition_of_scored: tuple[str, int], *, stream_now: datetime, behind: bool = False
    ) -> tuple[Transition, ...]:
        """Let time pass for a workspace's alerts, so that what went quiet resolves: what came into which status.

        `behind`: items older than `stream_now` may still be on their way.
        """
        review = workspace not in self._reviewed
        with transaction(self._engine) as connection:
            _lock(connection, partition_of_scored)
            held = self._memory.open(connection, self._detection, [workspace])[workspace]
            transitions = incidents.tick(connection, self._detection, held, stream_now, behind=behind, review=review)
        self._reviewed.add(workspace)
        return transitions

    def settle(self) -> None:
        """Write what detectors have learned, which until then only the journal tells."""
        names = self._memory.unwritten()
        if names:
            with transaction(self._engine) as connection:
                for held in self._memory.open(connection, self._detection, names).values():
                    held.write(connection, self._detection)

    def quiet(self, workspace: str) -> bool:
        """Whether its series have been looked at with the present rules: only what is due needs a tick."""
        return workspace in self._reviewed

    def use_rules(self, detection: Engine) -> None:
        """Detect with other rules from now on. What the detectors of unchanged rules know stays."""
        self.settle()
        self._detection = detection
        self._reviewed.clear()

    def begin_ledger(self, log: str, partition: int, first_offset: int) -> None:
        """Open the account of a raw partition at the first offset that the broker still keeps."""
        with transaction(self._engine) as connection:
            row = {"log": log, "partition": partition, "low": first_offset, "spans": "[]", "repaired": 0, "lost": 0}
            connection.execute(insert(connection)(schema.ledger).on_conflict_do_nothing(), [row])

    def account_repaired(self, log: str, partition: int, repaired: int) -> None:
        """Count offsets of a raw partition that were read again; their outcome comes through the topics."""
        table = schema.ledger
        with transaction(self._engine) as connection:
            connection.execute(
                sa.update(table)
                .where(table.c.log == log, table.c.partition == partition)
                .values(repaired=table.c.repaired + repaired)
            )

    def account_lost(self, log: str, partition: int, spans: Sequence[Span]) -> int:
        """Close holes whose records the broker no longer has; they are counted as lost. How many they were."""
        with transaction(self._engine) as connection:
            return _settle(connection, {(log, partition): spans}, lost=True)

    def prune(self, name: str, partition_of_scored: tuple[str, int], *, now: datetime) -> int:
        """Drop a workspace's minutes and items past retention: how many items; once an hour, idle series too.

        The oldest about PRUNE_ITEMS of them, so that nothing else waits for long; fewer when none are left.
        `now` is the workspace's stream time; `partition_of_scored` the (log, partition) whose lock keeps
        the fold of this workspace out meanwhile.
        """
        floor = _floor(now, self._retention)
        with transaction(self._engine) as connection:
            spaces, items, cells = schema.workspace, schema.item, schema.cell
            _lock(connection, partition_of_scored)
            held_floor = connection.scalar(
                sa.select(spaces.c.floor_minute).where(spaces.c.workspace == name).with_for_update()
            )
            if held_floor is None or held_floor >= floor:
                return 0
            rest = connection.scalar(
                sa.select(items.c.expires_minute)
                .where(items.c.workspace == name, items.c.expires_minute < floor)
                .order_by(items.c.expires_minute)
                .offset(PRUNE_ITEMS)
                .limit(1)
            )
            if rest is not None:
                floor = max(rest, held_floor) + 1
            past = (cells.c.workspace == name) & (cells.c.minute < floor)
            gone = connection.execute(
                sa.select(cells.c.source, cells.c.topic, cells.c.sentiment, sa.func.sum(cells.c.count))
                .where(past)
                .group_by(cells.c.source, cells.c.topic, cells.c.sentiment)
            ).all()
            _add_totals(connection, {(name, *key): -int(count) for *key, count in gone})
            connection.execute(sa.delete(cells).where(past))
            removed = connection.execute(
                sa.delete(items).where(items.c.workspace == name, items.c.expires_minute < floor)
            ).rowcount
            # What is remembered for longer than it counts keeps only what it takes to know it again.
            removed += connection.execute(
                sa.update(items).where(items.c.workspace == name, items.c.minute < floor).values(NOTHING_COUNTED)
            ).rowcount
            gap = schema.gap
            connection.execute(sa.delete(gap).where(gap.c.workspace == name, gap.c.until_us < floor * 60_000_000))
            connection.execute(sa.update(spaces).where(spaces.c.workspace == name).values(floor_minute=floor))
            if floor // 60 > held_floor // 60:
                memory = self._memory.open(connection, self._detection, [name])[name]
                memory.forget_idle(connection, self._detection, now - max(self._retention, IDLE))
            return int(removed)

    def prune_dead_letters(self, before: datetime) -> int:
        """Drop dead letters that failed before this moment: how many."""
        table = schema.dead_letter
        with transaction(self._engine) as connection:
            return int(connection.execute(sa.delete(table).where(table.c.failed_us < micros(before))).rowcount)

    def prune_incidents(self, now: datetime) -> int:
        """Drop the incidents that ended before retention, with the words that they quote: how many."""
        with transaction(self._engine) as connection:
            return incidents.prune(connection, now - self._retention)


def _lock(connection: sa.Connection, partition_of_scored: tuple[str, int]) -> None:
    log, partition = partition_of_scored
    table = schema.position
    connection.execute(
        sa.select(table.c.next_offset).where(table.c.log == log, table.c.partition == partition).with_for_update()
    )


def _floor(now: datetime, retention: timedelta) -> int:
    return int((now - retention).timestamp() // 60)


def _talks(connection: sa.Connection, scored: list[Scored], before: dict[Identity, Held]) -> Talks:
    """What is held of the batch's conversations; items of those that it deletes are added to `before`."""
    talks = Talks()
    wanted: dict[tuple[str, bool], set[str]] = defaultdict(set)
    for item in scored:
        if item.feedback.conversation_id is not None:
            for deletes in {False, item.feedback.turn == DELETED}:
                wanted[item.feedback.workspace, deletes].add(item.feedback.conversation_id)
    known = {item.feedback.conversation for item in scored}
    for (name, deletes), ids in sorted(wanted.items()):
        for some in chunks(sorted(ids), IDS_PER_QUERY):
            found = statements.said_in(only_deletions=not deletes)
            for row in connection.execute(found, {"b_workspace": name, "conversations": some}):
                prefix = row.feedback_id[: row.feedback_id.index(":", len(row.source) + 1) + 1]
                talk = (name, prefix, row.conversation_id)
                if talk not in known:
                    continue  # another service has a conversation of this id
                if deletes:
                    identity = (name, row.feedback_id)
                    before.setdefault(identity, held(row))
                    talks.members[identity] = (talk, moment(row.created_us))
                else:
                    talks.deleted[talk] = moment(row.received_us) + AFTER_DELETION
    return talks


def _withdraw(connection: sa.Connection, changes: Changes) -> None:
    table = schema.item
    if changes.withdrawn:
        here = (table.c.workspace == sa.bindparam("b_workspace")) & (table.c.feedback_id == sa.bindparam("b_id"))
        connection.execute(
            sa.update(table).where(here).values({**NOTHING_COUNTED, "silent": False}),
            [{"b_workspace": name, "b_id": identity} for name, identity in sorted(changes.withdrawn)],
        )


def _held(connection: sa.Connection, scored: Iterable[Scored]) -> dict[Identity, Held]:
    wanted = sorted({(item.feedback.workspace, item.feedback.feedback_id) for item in scored})
    found: dict[Identity, Held] = {}
    for start in range(0, len(wanted), IDS_PER_QUERY):
        some = wanted[start : start + IDS_PER_QUERY]
        for row in connection.execute(statements.held(), {"identities": some}):
            found[row.workspace, row.feedback_id] = held(row)
    return found


def _write_items(connection: sa.Connection, changes: Changes) -> None:
    if changes.items:
        rows = [item_row(*changes.items[one], changes.expires[one]) for one in sorted(changes.items)]
        statements.write_many(connection, statements.put_items(connection.dialect.name), rows)


def _write_cells(connection: sa.Connection, changes: Changes) -> None:
    if not changes.cells:
        return
    rows = [
        {**cell._asdict(), "count": tally.count, "score_e6": tally.score_e6}
        for cell, tally in sorted(changes.cells.items())
    ]
    added = statements.add_to(connection.dialect.name, schema.cell, "count", "score_e6")
    statements.write_many(connection, added, rows)
    shrunk = [cell._asdict() for cell, tally in sorted(changes.cells.items()) if tally.count < 0]
    if shrunk:
        emptied = [{f"b_{key}": value for key, value in row.items()} for row in shrunk]
        connection.execute(statements.drop_empty_cells(), emptied)
    totals: dict[tuple[str, str, str, str], int] = defaultdict(int)
    for cell, tally in changes.cells.items():
        totals[cell.workspace, cell.source, cell.topic, cell.sentiment] += tally.count
    _add_totals(connection, totals)


def _add_totals(connection: sa.Connection, totals: dict[tuple[str, str, str, str], int]) -> None:
    names = ("workspace", "source", "topic", "sentiment")
    rows = [{**dict(zip(names, key, strict=True)), "count": n} for key, n in sorted(totals.items()) if n]
    if rows:
        statements.write_many(connection, statements.add_to(connection.dialect.name, schema.total, "count"), rows)


def _write_times(connection: sa.Connection, scored: list[Scored], changes: Changes, now: datetime) -> None:
    moved = [
        {"b_workspace": name, "b_watermark": micros(watermark), "b_advanced": micros(now)}
        for name, watermark in sorted(changes.watermarks.items())
    ]
    if moved:
        connection.execute(statements.move_watermark(), moved)
    last: dict[tuple[str, str], datetime] = {}
    for item in scored:
        key, at = (item.feedback.workspace, item.feedback.source), item.feedback.created_at
        last[key] = max(last.get(key, at), at)
    connection.execute(
        statements.hear(connection.dialect.name),
        [
            {"workspace": space, "source": name, "last_event_us": micros(at), "last_success_us": micros(now)}
            for (space, name), at in sorted(last.items())
        ],
    )


def _bury(connection: sa.Connection, letters: list[DeadLetter]) -> list[DeadLetter]:
    new = []
    for letter in sorted(letters, key=lambda one: one.dead_id):
        upsert = insert(connection)(schema.dead_letter).values(dead_row(letter)).on_conflict_do_nothing()
        # Not by rowcount, which PostgreSQL's driver does not know here.
        if connection.scalar(upsert.returning(schema.dead_letter.c.dead_id)) is not None:
            new.append(letter)
    return new


def _account(connection: sa.Connection, positions: Iterable[RawPosition]) -> None:
    offsets: dict[tuple[str, int], list[int]] = defaultdict(list)
    for raw in positions:
        offsets[raw.log, raw.partition].append(raw.offset)
    if offsets:
        _settle(connection, {place: runs(some) for place, some in offsets.items()})


def _settle(connection: sa.Connection, spans: Mapping[tuple[str, int], Sequence[Span]], *, lost: bool = False) -> int:
    """Account for spans of raw partitions, by (log, partition): how many offsets are new."""
    places = sorted(spans)
    rows = [
        {"log": log, "partition": partition, "low": 0, "spans": "[]", "repaired": 0, "lost": 0}
        for log, partition in places
    ]
    connection.execute(statements.add_new(connection.dialect.name, schema.ledger), rows)
    changed, total = [], 0
    for log, partition, low, held_spans in connection.execute(statements.ledgers(), {"places": places}).all():
        before = Ledger.from_json(low, held_spans)
        after = before.add(spans[log, partition])
        new = _held_offsets(after) - _held_offsets(before)
        total += new
        if after != before:
            values = {"b_low": after.low, "b_spans": after.to_json(), "b_lost": new if lost else 0}
            changed.append({"b_log": log, "b_partition": partition, **values})
    if changed:
        connection.execute(statements.write_ledger(), changed)
    return total


def _held_offsets(ledger: Ledger) -> int:
    return ledger.low + sum(end - start for start, end in ledger.spans)
