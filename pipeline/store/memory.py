"""What is remembered of a workspace between transactions, decoded: its recent texts, and what detectors learned.

To write each state that a batch touches would cost more than everything else in the transaction. So it writes the
samples that the detectors took, one row of `journal` for a workspace, and the states themselves once a second
(`Remembered.write`). What is in memory is good as long as `workspace.memory` holds the token that this process wrote
there last. Otherwise (a restart, another writer, a transaction that failed) the states are read, and take what is in
the journal again: what detectors learn depends on the order of the samples alone, so it comes out the same.
"""

from __future__ import annotations

import logging
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import orjson
import sqlalchemy as sa

from alerts import census
from alerts.alert import Sample
from alerts.duplicates import Recent
from alerts.engine import Engine, Key
from alerts.series import State
from pipeline.store import duplicates, schema, statements
from pipeline.store.engine import insert_of
from pipeline.windows import micros

log = logging.getLogger("ovoz.memory")

WORKSPACES: Final = 500
STATES: Final = 30_000
KEYS_PER_QUERY: Final = 300
IDLE: Final = timedelta(days=56)
"""For so long at least a series is remembered that says nothing; then even a half-life of weeks has faded."""


@dataclass(slots=True)
class Remembered:
    """One workspace. `journaled`: there is a journal, which ends at `number`; `unwritten`: states it stands for.

    `absent`: series that were looked for and have no state, nothing was said yet that they had to remember.
    """

    workspace: str
    recent: Recent
    token: int = 0
    number: int = 0
    journaled: bool = False
    states: dict[Key, State] = field(default_factory=dict)
    absent: set[Key] = field(default_factory=set)
    unwritten: set[Key] = field(default_factory=set)

    def write(self, connection: sa.Connection, engine: Engine) -> None:
        """Write the states that are not, each with the time at which it is due; the journal ends."""
        if self.unwritten:
            rows = []
            for key in sorted(self.unwritten):
                state = self.states[key]
                due_s = engine.due_s(key, state)
                due_us = None if due_s is None else int(due_s * 1e6)
                place = {"workspace": key.workspace, "rule": key.rule, "series": key.series}
                rows.append({**place, "state": state.to_json(), "due_us": due_us, "idle_us": _idle_us(state)})
            statements.write_many(connection, _put_states(connection.dialect.name), rows)
            self.unwritten = set()
        if self.journaled:
            connection.execute(_end_journal(), {"b_name": self.workspace})
            self.journaled = False

    def forget_idle(self, connection: sa.Connection, engine: Engine, before: datetime) -> int:
        """Drop what was learned of series that have had nothing to remember since: how many."""
        self.write(connection, engine)
        table = schema.detector
        idle = sa.and_(table.c.workspace == self.workspace, table.c.idle_us < micros(before))
        query = sa.select(table.c.workspace, table.c.rule, table.c.series).where(idle)
        keys = [Key(*row) for row in connection.execute(query)]
        if keys:
            connection.execute(sa.delete(table).where(idle))
            for key in keys:
                self.states.pop(key, None)
        return len(keys)


class Memory:
    """What one writer of the store remembers. Every call belongs to a transaction."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Remembered] = OrderedDict()

    def unwritten(self) -> list[str]:
        """The workspaces where the states of detectors wait to be written."""
        return sorted(name for name, held in self._held.items() if held.unwritten or held.journaled)

    def open(self, connection: sa.Connection, engine: Engine, names: Iterable[str]) -> dict[str, Remembered]:
        """The memory of workspaces that there are, for this transaction to change; their rows are locked."""
        tokens = dict(connection.execute(_tokens(), {"names": sorted(names)}).all())
        opened = {}
        for name, token in tokens.items():
            held = self._held.get(name)
            if held is None or held.token != token:
                held = self._held[name] = _read(connection, engine, name)
            # If this transaction fails, the token is never found in the database, and what it changed never used.
            held.token = secrets.randbits(62)
            self._held.move_to_end(name)
            opened[name] = held
        if opened:
            connection.execute(_set_token(), [{"b_name": name, "b_token": held.token} for name, held in opened.items()])
        self._forget_oldest(keep=len(opened))
        return opened

    def _forget_oldest(self, keep: int) -> None:
        states = sum(len(held.states) for held in self._held.values())
        while len(self._held) > keep and (len(self._held) > WORKSPACES or states > STATES):
            states -= len(self._held.popitem(last=False)[1].states)


def load(connection: sa.Connection, memory: Mapping[str, Remembered], keys: Iterable[Key]) -> dict[Key, State]:
    """The states of these series, as far as there are any; kept in `memory`, which is open."""
    found: dict[Key, State] = {}
    missing: set[Key] = set()
    for key in keys:
        held = memory[key.workspace]
        state = held.states.get(key)
        if state is not None:
            found[key] = state
        elif key not in held.absent:
            missing.add(key)
    ordered = sorted(missing)
    for start in range(0, len(ordered), KEYS_PER_QUERY):
        rows = connection.execute(_states(), {"keys": [tuple(key) for key in ordered[start : start + KEYS_PER_QUERY]]})
        found |= _decoded(rows)
    for key in ordered:
        held = memory[key.workspace]
        if key in found:
            held.states[key] = found[key]
        else:
            if len(held.absent) >= STATES:
                held.absent.clear()
            held.absent.add(key)
    return found


def learn(memory: Mapping[str, Remembered], states: Mapping[Key, State]) -> None:
    """These are the states from now on."""
    for key, state in states.items():
        held = memory[key.workspace]
        held.states[key] = state
        held.absent.discard(key)
        held.unwritten.add(key)


def journal(connection: sa.Connection, memory: Mapping[str, Remembered], samples: Iterable[Sample]) -> None:
    """Keep samples until the states that took them are written."""
    by_workspace: dict[str, list[Sample]] = {}
    for sample in samples:
        by_workspace.setdefault(sample.workspace, []).append(sample)
    rows = []
    for name, some in sorted(by_workspace.items()):
        held = memory[name]
        held.number, held.journaled = held.number + 1, True
        rows.append({"workspace": name, "number": held.number, "samples": orjson.dumps(some)})
    if rows:
        connection.execute(statements.append(schema.journal), rows)


def _idle_us(state: State) -> int | None:
    """Since when a series has had nothing to remember; None where it stays: an incident is open, it counts others."""
    return None if state.open or state.kind == census.KIND else int(state.life.last_s * 1e6)


def _read(connection: sa.Connection, engine: Engine, name: str) -> Remembered:
    held = Remembered(workspace=name, recent=duplicates.read(connection, name))
    table = schema.journal
    query = sa.select(table.c.number, table.c.samples).where(table.c.workspace == name).order_by(table.c.number)
    for number, data in connection.execute(query).all():
        held.number, held.journaled = number, True
        try:
            samples = _samples(data)
        except (ValueError, TypeError, KeyError) as error:
            log.warning("detectors miss some items of %s, kept by another release: %s", name, error)
            continue
        keys = {key for sample in samples for key in engine.series_keys(sample)}
        states = load(connection, {name: held}, keys)
        # Its alerts were kept in the transaction that took these samples first.
        learn({name: held}, engine.evaluate(samples, states, max(sample.at for sample in samples)).states)
    return held


def _samples(data: bytes) -> list[Sample]:
    return [Sample(**{**one, "at": datetime.fromisoformat(one["at"])}) for one in orjson.loads(data)]


def _decoded(rows: Iterable[Any]) -> dict[Key, State]:
    found = {}
    for row in rows:
        try:
            found[Key(row.workspace, row.rule, row.series)] = State.from_json(row.state)
        except (ValueError, TypeError, KeyError) as error:
            # Of another release, whose kind of rule or memory is unknown here: the series learns anew.
            log.warning("rule %s learns the series %r anew: %s", row.rule, row.series, error)
    return found


@cache
def _tokens() -> Any:
    table = schema.workspace
    return (
        sa.select(table.c.workspace, table.c.memory)
        .where(table.c.workspace.in_(sa.bindparam("names", expanding=True)))
        .order_by(table.c.workspace)
        .with_for_update()
    )


@cache
def _set_token() -> Any:
    table = schema.workspace
    return sa.update(table).where(table.c.workspace == sa.bindparam("b_name")).values(memory=sa.bindparam("b_token"))


@cache
def _states() -> Any:
    table = schema.detector
    return sa.select(table).where(statements.among((table.c.workspace, table.c.rule, table.c.series), "keys"))


@cache
def _put_states(dialect: str) -> Any:
    upsert = insert_of(dialect)(schema.detector)
    return upsert.on_conflict_do_update(
        index_elements=["workspace", "rule", "series"],
        set_={name: upsert.excluded[name] for name in ("state", "due_us", "idle_us")},
    )


@cache
def _end_journal() -> Any:
    table = schema.journal
    return sa.delete(table).where(table.c.workspace == sa.bindparam("b_name"))
