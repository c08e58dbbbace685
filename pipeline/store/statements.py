"""The statements of the fold's transaction, each built once: building one costs several times what running it does.

Their parameters are named `b_…` where the columns' own names are taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any, Final

import sqlalchemy as sa

from connectors.feedback import DELETED
from pipeline.store import schema
from pipeline.store.engine import insert_of

_ITEM_KEYS: Final = ("workspace", "feedback_id")
_LABELS: Final = ("source", "channel", "topic", "language", "sentiment", "silent")
HELD: Final = tuple(schema.item.c[name] for name in (*_ITEM_KEYS, "version", "minute", "score_e6", *_LABELS))
"""What `rows.held` reads."""


def write_many(connection: sa.Connection, statement: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Run an insert of this module for each of `rows`, which all name the same columns.

    As `connection.execute` does, without its work for each row and value, which for wide rows takes as long as the
    database does: values go to the driver as they are, so they have to be what it takes (numbers, texts, bytes).
    """
    text, order = _compiled(connection.dialect, statement, tuple(rows[0]))
    if order is None:
        connection.exec_driver_sql(text, [dict(row) for row in rows])
    else:
        values = itemgetter(*order)
        connection.exec_driver_sql(text, [values(row) for row in rows])


@lru_cache(256)
def _compiled(dialect: sa.Dialect, statement: Any, columns: tuple[str, ...]) -> tuple[str, tuple[str, ...] | None]:
    """What a driver runs, and the order of the parameters where it knows them by their place."""
    compiled = statement.compile(dialect=dialect, column_keys=columns)
    if set(compiled.params) != set(columns):
        raise ValueError(f"{compiled} has values of its own, which no row gives")
    order = compiled.positiontup
    return str(compiled), None if order is None else tuple(order)


def _greatest(dialect: str) -> Any:
    return sa.func.max if dialect == "sqlite" else sa.func.greatest


def among(columns: tuple[sa.Column[Any], ...], name: str) -> Any:
    """Whether a row's `columns` are one of the tuples in the parameter `name`."""
    return sa.tuple_(*columns).in_(sa.bindparam(name, expanding=True))


@cache
def add_new(dialect: str, table: sa.Table) -> Any:
    """Insert rows, those that are there already left as they are."""
    return insert_of(dialect)(table).on_conflict_do_nothing()


@cache
def append(table: sa.Table) -> Any:
    """Insert rows that are new."""
    return sa.insert(table)


def _locked_places(table: sa.Table, *columns: str) -> Any:
    """Log, partition and `columns` of `places`, pairs (log, partition), locked in one order."""
    place = (table.c.log, table.c.partition)
    query = sa.select(*place, *(table.c[name] for name in columns)).where(among(place, "places"))
    return query.order_by(*place).with_for_update()


def _at_place(table: sa.Table) -> Any:
    return sa.and_(table.c.log == sa.bindparam("b_log"), table.c.partition == sa.bindparam("b_partition"))


@cache
def positions() -> Any:
    """Lock the positions of `places`, pairs (log, partition), in one order."""
    return _locked_places(schema.position, "next_offset")


@cache
def move_position() -> Any:
    """Set the next offset `b_next` of (`b_log`, `b_partition`)."""
    table = schema.position
    return sa.update(table).where(_at_place(table)).values(next_offset=sa.bindparam("b_next"))


@cache
def lower_floors() -> Any:
    """Lower the floors of the workspaces `names` that lie above `floor`."""
    table = schema.workspace
    return (
        sa.update(table)
        .where(
            table.c.workspace.in_(sa.bindparam("names", expanding=True)),
            table.c.floor_minute > sa.bindparam("floor"),
        )
        .values(floor_minute=sa.bindparam("floor"))
    )


@cache
def horizons() -> Any:
    """Floor and watermark of the workspaces `names`."""
    table = schema.workspace
    return sa.select(table.c.workspace, table.c.floor_minute, table.c.watermark_us).where(
        table.c.workspace.in_(sa.bindparam("names", expanding=True))
    )


@cache
def move_watermark() -> Any:
    """Set the watermark `b_watermark` of `b_workspace`, moved at `b_advanced`."""
    table = schema.workspace
    return (
        sa.update(table)
        .where(table.c.workspace == sa.bindparam("b_workspace"))
        .values(watermark_us=sa.bindparam("b_watermark"), advanced_us=sa.bindparam("b_advanced"))
    )


@cache
def held() -> Any:
    """What `rows.held` reads of the items `identities`, pairs (workspace, feedback_id)."""
    table = schema.item
    return sa.select(*HELD).where(among((table.c.workspace, table.c.feedback_id), "identities"))


# As a literal: with a parameter neither database would take the index of deleted conversations, and a room in which a
# million messages were said would be looked through for each new one.
_ENDED: Final = schema.item.c.turn == sa.literal_column(f"'{DELETED}'")


@cache
def said_in(*, only_deletions: bool) -> Any:
    """What `rows.held` reads, conversation and times of what was said in `conversations` of `b_workspace`."""
    table = schema.item
    query = sa.select(*HELD, table.c.conversation_id, table.c.created_us, table.c.received_us).where(
        table.c.workspace == sa.bindparam("b_workspace"),
        table.c.conversation_id.in_(sa.bindparam("conversations", expanding=True)),
    )
    return query.where(_ENDED) if only_deletions else query


@cache
def put_items(dialect: str) -> Any:
    """Insert items, or put newer versions in their places."""
    table = schema.item
    upsert = insert_of(dialect)(table)
    values: dict[str, Any] = {c.name: upsert.excluded[c.name] for c in table.columns if c.name not in _ITEM_KEYS}
    # An edit may move an item back in time: it is remembered as long as any of its versions would count.
    values["expires_minute"] = _greatest(dialect)(table.c.expires_minute, upsert.excluded.expires_minute)
    return upsert.on_conflict_do_update(index_elements=_ITEM_KEYS, set_=values)


@cache
def add_to(dialect: str, table: sa.Table, *columns: str) -> Any:
    """Add to these columns of rows, which begin at nothing."""
    upsert = insert_of(dialect)(table)
    sums = {name: table.c[name] + upsert.excluded[name] for name in columns}
    return upsert.on_conflict_do_update(index_elements=[key.name for key in table.primary_key], set_=sums)


@cache
def drop_empty_cells() -> Any:
    """Delete cells with no item left; each key as `b_` and its name."""
    table = schema.cell
    matches = [key == sa.bindparam(f"b_{key.name}") for key in table.primary_key]
    return sa.delete(table).where(*matches, table.c.count == 0)


@cache
def hear(dialect: str) -> Any:
    """Note when sources were heard."""
    table = schema.source
    upsert = insert_of(dialect)(table)
    return upsert.on_conflict_do_update(
        index_elements=["workspace", "source"],
        set_={
            "last_event_us": _greatest(dialect)(table.c.last_event_us, upsert.excluded.last_event_us),
            "last_success_us": upsert.excluded.last_success_us,
        },
    )


@cache
def ledgers() -> Any:
    """Lock the ledgers of `places`, pairs (log, partition), in one order."""
    return _locked_places(schema.ledger, "low", "spans")


@cache
def write_ledger() -> Any:
    """Set `b_low` and `b_spans` of (`b_log`, `b_partition`), with `b_lost` more lost."""
    table = schema.ledger
    return (
        sa.update(table)
        .where(_at_place(table))
        .values(low=sa.bindparam("b_low"), spans=sa.bindparam("b_spans"), lost=table.c.lost + sa.bindparam("b_lost"))
    )
