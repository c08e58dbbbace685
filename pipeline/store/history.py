"""What the store still holds of the past, as the rules saw it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import orjson
import sqlalchemy as sa

from alerts.alert import Sample
from pipeline.store import schema
from pipeline.windows import micros, moment


def samples(
    connection: sa.Connection, begin: datetime | None, end: datetime | None, *, fresh: timedelta
) -> Iterator[Sample]:
    """The items that count, with event times from `begin` to before `end`, in the order in which rules took them.

    What arrived within `fresh` of its event time stands in the order of its scoring, as live; older things,
    which no rule took then, by their event time. Of an item's versions the store keeps the newest.
    """
    table = schema.item
    live = table.c.received_us - table.c.created_us <= fresh // timedelta(microseconds=1)
    query = sa.select(table).where(table.c.sentiment.is_not(None))
    if begin is not None:
        query = query.where(table.c.created_us >= micros(begin))
    if end is not None:
        query = query.where(table.c.created_us < micros(end))
    order = sa.case((live, table.c.scored_us), else_=table.c.created_us)
    query = query.order_by(order, table.c.raw_log, table.c.raw_partition, table.c.raw_offset)
    for row in connection.execution_options(yield_per=2000).execute(query):
        yield Sample(
            feedback_id=row.feedback_id,
            workspace=row.workspace,
            source=row.source,
            channel=row.channel,
            topic=row.topic,
            language=row.language,
            sentiment=row.sentiment,
            score=row.score_e6 / 1e6,
            at=moment(row.created_us),
            text=row.text or "",
            model=row.model or "",
            certainty=orjson.loads(row.topics or "{}").get(row.topic, 1.0),
            urgency=row.urgency,
            author=row.author_hash or "",
            customer=row.customer_id or "",
            touchpoint=row.touchpoint or "",
        )
