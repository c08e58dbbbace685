"""Near-duplicates within the store's transaction: what a workspace said lately, kept beside its counts.

The index of alerts.duplicates lives in memory (pipeline.store.memory). After a restart, a rebalance or a transaction
that failed it is read again, so the same items are folded whatever died.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import orjson
import sqlalchemy as sa

from alerts.alert import Sample
from alerts.duplicates import Entry, Recent, oldest_kept, signatures
from pipeline.store import schema, statements
from pipeline.windows import micros, moment

NEW_AUTHOR: Final = timedelta(days=1)


def mark(connection: sa.Connection, recent: Mapping[str, Recent], samples: Sequence[Sample]) -> list[Sample]:
    """The samples, copies and new authors marked; what is new is kept in the same transaction.

    `recent`: by workspace, as `read` gave it and earlier calls have left it.
    """
    marked = [recent[one.workspace].mark(one, mark) for one, mark in zip(samples, signatures(samples), strict=True)]
    rows = [
        _row(name, new)
        for name in sorted({sample.workspace for sample in samples})
        if (new := recent[name].take_new())
    ]
    if rows:
        statements.write_many(connection, statements.append(schema.signature), rows)
        for row in rows:
            _trim(connection, **row)
    return _with_authors(connection, marked)


def read(connection: sa.Connection, name: str) -> Recent:
    """The newest distinct texts of a workspace."""
    table = schema.signature
    newest = connection.scalar(sa.select(sa.func.max(table.c.last)).where(table.c.workspace == name))
    if newest is None:
        return Recent()
    query = (
        sa.select(table.c.number, table.c.entries, table.c.signatures)
        .where(table.c.workspace == name, table.c.last >= oldest_kept(newest))
        .order_by(table.c.number)
    )
    entries = (entry for row in connection.execute(query).all() for entry in _entries(*row))
    return Recent(entry for entry in entries if entry.number >= oldest_kept(newest))


def _row(name: str, new: Sequence[Entry]) -> dict[str, Any]:
    return {
        "workspace": name,
        "number": new[0].number,
        "last": new[-1].number,
        "entries": orjson.dumps([(one.feedback_id, micros(one.at), len(one.signature)) for one in new]),
        "signatures": b"".join(one.signature for one in new),
    }


def _entries(number: int, entries: bytes, signatures: bytes) -> Iterator[Entry]:
    begin = 0
    for which, (feedback_id, at_us, length) in enumerate(orjson.loads(entries)):
        mark = bytes(signatures[begin : begin + length])
        yield Entry(number=number + which, feedback_id=feedback_id, at=moment(at_us), signature=mark)
        begin += length


def _trim(connection: sa.Connection, *, workspace: str, number: int, last: int, **_: Any) -> None:
    if oldest_kept(last) != oldest_kept(number - 1):
        table = schema.signature
        connection.execute(
            sa.delete(table).where(table.c.workspace == workspace, table.c.last < oldest_kept(last))
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
