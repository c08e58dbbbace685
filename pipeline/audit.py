"""`ovoz audit`: broker, ledger, items and cells compared; the cells counted again from the items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import sqlalchemy as sa

from pipeline.bus import admin
from pipeline.ledger import Ledger, size
from pipeline.settings import Kafka
from pipeline.store import read, schema
from pipeline.store.read import reading
from pipeline.topics import Topics

SHOWN: Final = 20

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(slots=True)
class Audit:
    """What was compared (`facts`, in order) and what differs, one sentence each."""

    facts: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)


def audit(kafka: Kafka, engine: sa.Engine) -> Audit:
    """Compare everything. Raises BrokerAway or StoreAway when it cannot be read.

    While items are still on their way, they differ: let the workers catch up first.
    """
    result = Audit()
    raw = Topics.of(kafka).raw.name
    with admin(kafka) as client:
        log, ends = client.log_identity(raw), client.ends(raw)
    with reading(engine) as connection:
        _compare_ledger(result, ends, read.ledgers(connection, log))
        _compare_counts(result, connection)
        _compare_positions(result, connection, log)
    return result


def _compare_ledger(
    result: Audit, ends: Mapping[int, tuple[int, int]], ledgers: Mapping[int, tuple[Ledger, int, int]]
) -> None:
    total = accounted = repaired_sum = lost_sum = 0
    for partition, (first, end) in sorted(ends.items()):
        ledger, repaired, lost = ledgers.get(partition, (Ledger(low=0), 0, 0))
        holes = ledger.holes(end)
        total += end - first
        accounted += end - size(holes) - min(first, end)
        repaired_sum += repaired
        lost_sum += lost
        if holes:
            shown = ", ".join(f"{a}..{b - 1}" for a, b in holes[:5]) + (" …" if len(holes) > 5 else "")
            result.differences.append(
                f"raw partition {partition}: {size(holes)} of the records up to offset {end - 1} have no "
                f"outcome in the store: {shown}"
            )
        if ledger.high > end:
            result.differences.append(
                f"raw partition {partition}: the ledger reaches offset {ledger.high - 1}, the broker only {end - 1}"
            )
    result.facts["raw records in the broker"] = total
    result.facts["of them accounted for"] = accounted
    result.facts["read again to close a hole"] = repaired_sum
    result.facts["lost before they had an outcome"] = lost_sum
    if lost_sum:
        result.differences.append(f"{lost_sum} raw records left the log before they had an outcome")


def _compare_counts(result: Audit, connection: sa.Connection) -> None:
    cells, recounted = read.cells(connection), read.recount(connection)
    totals, expected = read.totals(connection), read.totals_of(cells)
    result.facts["items that count"] = sum(count for count, _ in recounted.values())
    result.facts["items in cells"] = sum(count for count, _ in cells.values())
    result.facts["items in totals"] = sum(totals.values())
    result.facts["cells"] = len(cells)
    silent = sa.select(sa.func.count()).select_from(schema.item).where(schema.item.c.silent)
    result.facts["kept without a customer's words"] = int(connection.scalar(silent) or 0)
    differences = [
        f"cell {'/'.join(map(str, key))}: holds {have}, the items say {want} (count, score in millionths)"
        for key, have, want in unequal(cells, recounted, (0, 0))
    ]
    differences += [
        f"total {'/'.join(key)}: holds {have}, the cells say {want}" for key, have, want in unequal(totals, expected, 0)
    ]
    result.differences += differences[:SHOWN]
    if len(differences) > SHOWN:
        result.differences.append(f"… and {len(differences) - SHOWN} more cells or totals")


def _compare_positions(result: Audit, connection: sa.Connection, log: str) -> None:
    item, dead = schema.item, schema.dead_letter
    ledgers = read.ledgers(connection, log)
    stray = 0
    query = sa.select(item.c.raw_partition, item.c.raw_offset).where(item.c.raw_log == log)
    for partition, offset in connection.execute(query):
        entry = ledgers.get(partition)
        stray += entry is None or not entry[0].contains(offset)
    for dead_id in connection.scalars(sa.select(dead.c.dead_id).where(dead.c.dead_id.startswith(log))):
        _, partition, offset = dead_id.rsplit("/", 2)
        entry = ledgers.get(int(partition))
        stray += entry is None or not entry[0].contains(int(offset))
    result.facts["dead letters"] = int(connection.scalar(sa.select(sa.func.count()).select_from(dead)) or 0)
    if stray:
        result.differences.append(f"{stray} items or dead letters stand on offsets that the ledger lacks")


def unequal(have: Mapping[Key, Value], want: Mapping[Key, Value], nothing: Value) -> Iterator[tuple[Key, Value, Value]]:
    """Keys on which two mappings differ, with both values; an absent key counts as `nothing`."""
    for key in sorted({*have, *want}, key=repr):
        left, right = have.get(key, nothing), want.get(key, nothing)
        if left != right:
            yield key, left, right
