"""The worst of what customers said lately, in their own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from alerts.quotes import alike, clean, private
from pipeline.store import schema
from pipeline.store.read import chunks, reading
from pipeline.windows import SCORE_UNIT, WINDOWS_MINUTES, moment

FILTERS: Final = ("workspace", "source", "channel", "topic", "language", "touchpoint")
_LOOKED_AT: Final = 20
"""Items read for each one shown: near-duplicates are folded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One item, fit to be shown. `score`: −1..1; `touchpoint`: `""` where there is none."""

    feedback_id: str
    workspace: str
    source: str
    channel: str
    topic: str
    language: str
    touchpoint: str
    score: float
    at: datetime
    text: str


def worst_lately(engine: sa.Engine, picked: Mapping[str, str], window: str, limit: int) -> list[Said]:
    """`worst` in the window of WINDOWS_MINUTES that ends now. Raises StoreAway."""
    until = datetime.now(UTC)
    with reading(engine) as connection:
        since = until - timedelta(minutes=WINDOWS_MINUTES[window])
        return worst(connection, picked, since=since, until=until, limit=limit)


def worst(
    connection: sa.Connection, picked: Mapping[str, str], *, since: datetime, until: datetime, limit: int
) -> list[Said]:
    """Negative items whose event time lies in between, the worst score first, near-duplicates folded.

    `picked`: wanted values by name of FILTERS.
    """
    item = schema.item
    wanted = [item.c.text.is_not(None), *(item.c[name] == value for name, value in picked.items())]
    lately = item.c.minute.between(int(since.timestamp() // 60), int(until.timestamp() // 60))
    names = connection.scalars(sa.select(schema.workspace.c.workspace)).all()
    found: list[Said] = []
    for some in chunks([picked["workspace"]] if "workspace" in picked else names):
        query = (
            sa.select(item)
            .where(item.c.workspace.in_(some), lately, item.c.sentiment == "negative", *wanted)
            .order_by(item.c.score_e6, item.c.created_us.desc(), item.c.feedback_id)
            .limit(limit * _LOOKED_AT)
        )
        found += map(_said, connection.execute(query))
    kept: list[Said] = []
    for one in sorted(found, key=lambda one: one.score):
        if len(kept) < limit and one.text and not any(alike(one.text, other.text) for other in kept):
            kept.append(one)
    return kept


def _said(row: sa.Row[tuple[object, ...]]) -> Said:
    return Said(
        feedback_id=row.feedback_id,
        workspace=row.workspace,
        source=row.source,
        channel=row.channel,
        topic=row.topic or "",
        language=row.language or "",
        touchpoint=row.touchpoint or "",
        score=row.score_e6 / SCORE_UNIT,
        at=moment(row.created_us),
        text=clean(private(row.text[:2000]), 500),
    )
