"""How far each connector has got, who drives it, and where what was said may be missing.

One process drives a run of a connector at a time: it holds a lease, and saves a cursor only while it does.
The lease goes by the clocks of the processes; where they differ by more than the lease, two may read the
same things for a while, which count once nevertheless.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
import sqlalchemy as sa

from connectors.connector import Cursor, Gap
from pipeline.store import schema
from pipeline.store.engine import insert, transaction
from pipeline.windows import EPOCH, micros, moment

PATIENCE: Final = timedelta(minutes=10)
LIVE: Final = "live"
"""The purpose of the run that follows a connector; a backfill has a name of its own."""


class LeaseLost(RuntimeError):
    """Another process drives this connector now; nothing was saved."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Run:
    """Identity of one run: connector name, instance name, purpose."""

    source: str
    instance: str
    purpose: str = LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What is held of a run. `state`: `running`, `backing_off`, `stopped` or `done`; `message` says why."""

    run: Run
    workspace: str
    cursor: Cursor | None
    state: str
    message: str
    last_success: datetime | None
    last_event: datetime | None
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A gap of one source: what was said from `since` until `until` (UTC) may be missing for good."""

    workspace: str
    source: str
    instance: str
    since: datetime
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ear:
    """A webhook that is the only way to hear of something: it was open from `since` on, without a break.

    `repeated`: for so long the sender repeats what was not taken.
    """

    run: Run
    workspace: str
    since: datetime
    repeated: timedelta


class ConnectorStore:
    """Runs of one process, called `holder`. Not thread-safe. Every method raises StoreAway."""

    def __init__(self, engine: sa.Engine, *, holder: str, lease: timedelta) -> None:
        self._engine = engine
        self._holder = holder
        self._lease = lease

    def acquire(self, run: Run, workspace: str, *, now: datetime) -> Progress | None:
        """Take the lease of a run: what is held of it, or None while another process has it."""
        table, here = schema.connector, _here(run)
        with transaction(self._engine) as connection:
            row = {
                "source": run.source, "instance": run.instance, "purpose": run.purpose, "workspace": workspace,
                "state": "running", "message": "", "lease_us": 0, "item_count": 0,
            }  # fmt: skip
            connection.execute(insert(connection)(table).on_conflict_do_nothing(), [row])
            found = connection.execute(sa.select(table).where(here).with_for_update()).one()
            if found.holder not in (None, self._holder) and found.lease_us > micros(now):
                return None
            connection.execute(
                sa.update(table)
                .where(here)
                .values(holder=self._holder, lease_us=micros(now + self._lease), workspace=workspace)
            )
        return _progress(found)

    def renew(self, *, now: datetime) -> None:
        """Prolong every lease of this process."""
        table = schema.connector
        with transaction(self._engine) as connection:
            connection.execute(
                sa.update(table).where(table.c.holder == self._holder).values(lease_us=micros(now + self._lease))
            )

    def save(
        self,
        run: Run,
        *,
        now: datetime,
        cursor: Cursor | None = None,
        gaps: Sequence[Gap] = (),
        workspace: str = "default",
        items: int = 0,
        last_event: datetime | None = None,
        state: str = "running",
        message: str = "",
        success: bool = True,
        forget: bool = False,
    ) -> None:
        """Save what the broker has acknowledged, with the gaps on the way, at once. Raises LeaseLost.

        Without `cursor` the one before stays, unless `forget`. `success`: the service answered.
        """
        table = schema.connector
        values: dict[str, Any] = {
            "state": state, "message": message[:1000], "lease_us": micros(now + self._lease),
            "item_count": table.c.item_count + items,
        }  # fmt: skip
        if cursor is not None or forget:
            values["cursor"] = None if cursor is None else orjson.dumps(dict(cursor)).decode()
        if success:
            values["last_success_us"] = micros(now)
        if last_event is not None:
            known = sa.func.coalesce(table.c.last_event_us, 0)
            values["last_event_us"] = sa.case((known > micros(last_event), known), else_=micros(last_event))
        with transaction(self._engine) as connection:
            mine = _here(run) & (table.c.holder == self._holder)
            changed = connection.execute(
                sa.update(table).where(mine).values(values).returning(table.c.source)
            ).scalar_one_or_none()
            if changed is None:
                raise LeaseLost(f"{run.source} {run.instance!r} is driven by another process now")
            _note(connection, gaps, workspace, run.source, run.instance, now)

    def note(self, gaps: Sequence[Gap], *, workspace: str, source: str, instance: str, now: datetime) -> None:
        """Record gaps that a webhook told of."""
        if gaps:
            with transaction(self._engine) as connection:
                _note(connection, gaps, workspace, source, instance, now)

    def hear(self, ears: Sequence[Ear], *, now: datetime, reason: str) -> list[tuple[Run, Gap]]:
        """Note that these webhooks are open, and the gaps: where none was, in any process, for longer than repeated.

        What is noted of a webhook is its `last_success`.
        """
        table, found = schema.connector, list[tuple[Run, Gap]]()
        with transaction(self._engine) as connection:
            for one in sorted(ears, key=lambda ear: ear.run):
                row = {
                    "source": one.run.source, "instance": one.run.instance, "purpose": one.run.purpose,
                    "workspace": one.workspace, "state": "running", "message": "", "lease_us": 0, "item_count": 0,
                }  # fmt: skip
                connection.execute(insert(connection)(table).on_conflict_do_nothing(), [row])
                here = _here(one.run)
                heard = connection.scalar(sa.select(table.c.last_success_us).where(here).with_for_update())
                if heard is not None and micros(one.since) - heard > micros(EPOCH + one.repeated):
                    gap = Gap(since=moment(heard), until=one.since, reason=reason)
                    _note(connection, [gap], one.workspace, one.run.source, one.run.instance, now)
                    found.append((one.run, gap))
                latest = max(micros(now), heard or 0)
                values = {"last_success_us": latest, "workspace": one.workspace, "state": "running", "message": ""}
                connection.execute(sa.update(table).where(here).values(values))
        return found

    def release(self) -> None:
        """Give back every lease of this process, so that another need not wait for its end."""
        table = schema.connector
        with transaction(self._engine) as connection:
            connection.execute(sa.update(table).where(table.c.holder == self._holder).values(holder=None, lease_us=0))


def gaps(
    connection: sa.Connection, workspace: str, *, since: datetime, until: datetime, sources: Iterable[str] = ()
) -> list[Missing]:
    """The gaps of a workspace that touch the time from `since` until `until`, oldest first."""
    table = schema.gap
    query = sa.select(table).where(
        table.c.workspace == workspace, table.c.until_us >= micros(since), table.c.since_us <= micros(until)
    )
    if named := sorted(set(sources)):
        query = query.where(table.c.source.in_(named))
    return [
        _missing(row) for row in connection.execute(query.order_by(table.c.since_us, table.c.source, table.c.instance))
    ]


def _missing(row: Any) -> Missing:
    return Missing(
        workspace=row.workspace, source=row.source, instance=row.instance, since=moment(row.since_us),
        until=moment(row.until_us), reason=row.reason,
    )  # fmt: skip


def latest_gaps(connection: sa.Connection, limit: int = 10) -> list[Missing]:
    """The gaps that end last, of all workspaces, the newest first."""
    query = sa.select(schema.gap).order_by(schema.gap.c.until_us.desc()).limit(limit)
    return [_missing(row) for row in connection.execute(query)]


def blinded(
    connection: sa.Connection, workspaces: Sequence[str], *, since: datetime, until: datetime
) -> dict[str, int]:
    """By source, the microseconds of a time that lie in its gaps, each counted once."""
    table, reached, sums = schema.gap, dict[str, int](), dict[str, int]()
    query = sa.select(table.c.source, table.c.since_us, table.c.until_us).where(
        table.c.workspace.in_(workspaces), table.c.until_us > micros(since), table.c.since_us < micros(until)
    )
    for row in connection.execute(query.order_by(table.c.since_us)):
        begin = max(row.since_us, micros(since), reached.get(row.source, 0))
        reached[row.source] = end = max(begin, min(row.until_us, micros(until)))
        sums[row.source] = sums.get(row.source, 0) + end - begin
    return sums


def blind(connection: sa.Connection, workspace: str, *, now: datetime) -> list[Progress]:
    """The connectors of a workspace that a process has, and that stopped or have failed for PATIENCE."""
    table = schema.connector
    driven = table.c.lease_us > micros(now - PATIENCE)
    late = sa.func.coalesce(table.c.last_success_us, 0) < micros(now - PATIENCE)
    failing = (table.c.state == "stopped") | ((table.c.state == "backing_off") & late)
    query = sa.select(table).where(table.c.workspace == workspace, table.c.purpose == LIVE, driven, failing)
    return [_progress(row) for row in connection.execute(query.order_by(table.c.source, table.c.instance))]


def progress(connection: sa.Connection) -> list[Progress]:
    """What is held of every run."""
    table = schema.connector
    query = sa.select(table).order_by(table.c.source, table.c.instance, table.c.purpose)
    return [_progress(row) for row in connection.execute(query)]


def _here(run: Run) -> sa.ColumnElement[bool]:
    table = schema.connector
    return (table.c.source == run.source) & (table.c.instance == run.instance) & (table.c.purpose == run.purpose)


def _note(
    connection: sa.Connection, found: Sequence[Gap], workspace: str, source: str, instance: str, now: datetime
) -> None:
    table = schema.gap
    for one in found:
        upsert = insert(connection)(table).values(
            workspace=workspace, source=source, instance=instance, since_us=micros(one.since),
            until_us=micros(max(one.since, one.until)), reason=one.reason[:500], noted_us=micros(now),
        )  # fmt: skip
        later = sa.case((table.c.until_us > upsert.excluded.until_us, table.c.until_us), else_=upsert.excluded.until_us)
        keys = ["workspace", "source", "instance", "since_us"]
        connection.execute(upsert.on_conflict_do_update(index_elements=keys, set_={"until_us": later}))


def _progress(row: Any) -> Progress:
    return Progress(
        run=Run(source=row.source, instance=row.instance, purpose=row.purpose),
        workspace=row.workspace,
        cursor=None if row.cursor is None else orjson.loads(row.cursor),
        state=row.state,
        message=row.message,
        last_success=None if row.last_success_us is None else moment(row.last_success_us),
        last_event=None if row.last_event_us is None else moment(row.last_event_us),
        items=row.item_count,
    )


def forget(engine: sa.Engine, run: Run) -> None:
    """Forget how far a run has got. Raises StoreAway."""
    with transaction(engine) as connection:
        connection.execute(sa.delete(schema.connector).where(_here(run)))
