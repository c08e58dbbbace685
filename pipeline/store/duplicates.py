"""Near-duplicates within the store's transaction: what a workspace said lately, kept beside its counts.

The index of alerts.duplicates lives in memory (pipeline.store.memory). After a restart, a rebalance or a transaction
that failed it is read again, so the same items are folded whatever died.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

import sqlalchemy as sa

from alerts.alert import Sample
from alerts.duplicates import REMEMBERED, Entry, Recent, signatures
from pipeline.store import schema, statements
from pipeline.store.rows import micros, moment

NEW_AUTHOR: Final = timedelta(days=1)


def mark(connection: sa.Connection, recent: Mapping[str, Recent], samples: Sequence[Sample]) -> list[Sample]:
    """The samples, copies and new authors marked; what is new is kept in the same transaction.

    `recent`: by workspace, as `read` gave it and earlier calls have left it.
    """
    marked = [recent[one.workspace].mark(one, mark) for one, mark in zip(samples, signatures(samples), strict=True)]
    rows = [
        {
            "workspace": name,
            "number": entry.number,
            "feedback_id": entry.feedback_id,
            "at_us": micros(entry.at),
            "signature": entry.signature,
        }
        for name in sorted({sample.workspace for sample in samples})
        for entry in recent[name].take_new()
    ]
    if rows:
        connection.execute(statements.append(schema.signature), rows)
        for name in {str(row["workspace"]) for row in rows}:
            _trim(connection, name, recent[name])
    return _with_authors(connection, marked)


def read(connection: sa.Connection, name: str) -> Recent:
    """The newest distinct texts of a workspace."""
    table = schema.signature
    query = (
        sa.select(table.c.number, table.c.feedback_id, table.c.at_us, table.c.signature)
        .where(table.c.workspace == name)
        .order_by(table.c.number.desc())
        .limit(REMEMBERED)
    )
    rows = connection.execute(query).all()
    return Recent(
        Entry(number=row.number, feedback_id=row.feedback_id, at=moment(row.at_us), signature=bytes(row.signature))
        for row in reversed(rows)
    )


def _trim(connection: sa.Connection, name: str, recent: Recent) -> None:
    # Whatever lies below is read by nobody; deleting in strides spares the smaller transactions.
    last = recent.last
    if last is not None and last.number % 256 < 64:
        table = schema.signature
        connection.execute(
            sa.delete(table).where(table.c.workspace == name, table.c.number <= last.number - REMEMBERED)
        )


def _with_authors(connection: sa.Connection, samples: list[Sample]) -> list[Sample]:
    """Copies know whether their author was first heard of within the day before."""
    wanted: dict[str, set[str]] = {}
    for sample in samples:
        if sample.copy_of and sample.author:
            wanted.setdefault(sample.workspace, set()).add(sample.author)
    if not wanted:
        return samples
    first: dict[tuple[str, str], int] = {}
    for name, authors in sorted(wanted.items()):
        for some in _in_parts(sorted(authors)):
            table = schema.item
            query = (
                sa.select(table.c.author_hash, sa.func.min(table.c.created_us))
                .where(table.c.workspace == name, table.c.author_hash.in_(some))
                .group_by(table.c.author_hash)
            )
            first |= {(name, author): created_us for author, created_us in connection.execute(query)}
    day_us = NEW_AUTHOR // timedelta(microseconds=1)

    def new(sample: Sample) -> bool:
        known = first.get((sample.workspace, sample.author))
        return bool(sample.copy_of) and known is not None and known >= micros(sample.at) - day_us

    return [replace(sample, new_author=True) if new(sample) else sample for sample in samples]


def _in_parts(values: Sequence[str], size: int = 300) -> Iterable[Sequence[str]]:
    return (values[start : start + size] for start in range(0, len(values), size))
