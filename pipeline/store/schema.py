"""The tables. Alembic's migrations make them; a test holds the two together.

Identity of a broker's records: `log` names one life of a topic (see bus.Admin.log_identity), so that
offsets of a broker that lost its data are never mistaken for those of its successor.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

metadata: Final = sa.MetaData()

# Next offset to fold, by partition of a scored or dead topic. The row is the lock of its partition.
position: Final = sa.Table(
    "position",
    metadata,
    sa.Column("log", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("next_offset", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.Text),
)

# Which offsets of a raw partition are accounted for (pipeline.ledger).
ledger: Final = sa.Table(
    "ledger",
    metadata,
    sa.Column("log", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("low", sa.BigInteger, nullable=False),
    sa.Column("spans", sa.Text, nullable=False),
    sa.Column("repaired", sa.BigInteger, nullable=False),
    sa.Column("lost", sa.BigInteger, nullable=False),
)

# The newest version of each feedback, and the cell it counts in (minute is null: it counts nowhere). What is
# silent has no customer's words and is kept for what else it tells: a score, a turn of a conversation.
item: Final = sa.Table(
    "item",
    metadata,
    sa.Column("workspace", sa.Text, primary_key=True),
    sa.Column("feedback_id", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("minute", sa.Integer),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("topic", sa.Text),
    sa.Column("language", sa.Text),
    sa.Column("sentiment", sa.Text),
    sa.Column("score_e6", sa.Integer, nullable=False),
    sa.Column("topics", sa.Text),
    sa.Column("urgency", sa.Float),
    sa.Column("model", sa.Text),
    sa.Column("text", sa.Text),
    sa.Column("rating", sa.Float),
    sa.Column("author_hash", sa.Text),
    sa.Column("customer_id", sa.Text),
    sa.Column("touchpoint", sa.Text),
    sa.Column("url", sa.Text),
    sa.Column("survey", sa.Text),
    sa.Column("survey_value", sa.Float),
    sa.Column("survey_low", sa.Float),
    sa.Column("survey_high", sa.Float),
    sa.Column("conversation_id", sa.Text),
    sa.Column("turn", sa.Text),
    sa.Column("silent", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("received_us", sa.BigInteger, nullable=False),
    sa.Column("scored_us", sa.BigInteger, nullable=False),
    sa.Column("expires_minute", sa.Integer, nullable=False),
    sa.Column("raw_log", sa.Text, nullable=False),
    sa.Column("raw_partition", sa.Integer, nullable=False),
    sa.Column("raw_offset", sa.BigInteger, nullable=False),
    sa.Index("item_expires", "workspace", "expires_minute"),
    sa.Index("item_minute", "workspace", "minute"),
    sa.Index("item_conversation", "workspace", "conversation_id"),
    sa.Index(
        "item_deleted_conversation", "workspace", "conversation_id",
        sqlite_where=sa.text("turn = 'deleted'"), postgresql_where=sa.text("turn = 'deleted'"),
    ),
    sa.Index("item_survey", "workspace", "survey", "created_us"),
    sa.Index("item_author", "workspace", "author_hash"),
)

# Counts by tumbling minute of event time.
cell: Final = sa.Table(
    "cell",
    metadata,
    sa.Column("workspace", sa.Text, primary_key=True),
    sa.Column("minute", sa.Integer, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("language", sa.Text, primary_key=True),
    sa.Column("sentiment", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("score_e6", sa.BigInteger, nullable=False),
)

# Live items in the retention: the sum of the cells, kept beside them so that a scrape is cheap.
total: Final = sa.Table(
    "total",
    metadata,
    sa.Column("workspace", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("sentiment", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)

# Time in a workspace: minutes below the floor are past retention; the watermark is the greatest event time.
# `memory` names the transaction that last changed what is remembered of it (pipeline.store.memory).
workspace: Final = sa.Table(
    "workspace",
    metadata,
    sa.Column("workspace", sa.Text, primary_key=True),
    sa.Column("floor_minute", sa.Integer, nullable=False),
    sa.Column("watermark_us", sa.BigInteger),
    sa.Column("advanced_us", sa.BigInteger),
    sa.Column("memory", sa.BigInteger),
)

# When a source was last heard: event time of its newest item, and when its last item was folded.
source: Final = sa.Table(
    "source",
    metadata,
    sa.Column("workspace", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("last_event_us", sa.BigInteger, nullable=False),
    sa.Column("last_success_us", sa.BigInteger, nullable=False),
)

dead_letter: Final = sa.Table(
    "dead_letter",
    metadata,
    sa.Column("dead_id", sa.Text, primary_key=True),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("key", sa.LargeBinary),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("failed_us", sa.BigInteger, nullable=False),
    sa.Column("requeued_us", sa.BigInteger),
    sa.Index("dead_letter_failed", "failed_us"),
)

# The state of one detector on one series (alerts.series.State as JSON), and the event time at which time
# alone can change it next.
detector: Final = sa.Table(
    "detector",
    metadata,
    sa.Column("workspace", sa.Text, primary_key=True),
    sa.Column("rule", sa.Text, primary_key=True),
    sa.Column("series", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("due_us", sa.BigInteger),
    sa.Column("idle_us", sa.BigInteger),
    sa.Index("detector_due", "workspace", "due_us"),
)

# The samples that detectors took since their states were last written, as JSON.
journal: Final = sa.Table(
    "journal",
    metadata,
    sa.Column("workspace", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("samples", sa.LargeBinary, nullable=False),
)

# The newest distinct texts of each workspace, as MinHash (alerts.duplicates): those of one transaction a row, numbered
# from `number` to `last`. `entries` is JSON, [feedback_id, time in microseconds, bytes of signature] each, and
# `signatures` are theirs one after the other.
signature: Final = sa.Table(
    "signature",
    metadata,
    sa.Column("workspace", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("entries", sa.LargeBinary, nullable=False),
    sa.Column("signatures", sa.LargeBinary, nullable=False),
)

# One row an incident: its life, and how far each receiver has been told (the outbox).
alert: Final = sa.Table(
    "alert",
    metadata,
    sa.Column("incident", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("workspace", sa.Text, nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("starts_us", sa.BigInteger, nullable=False),
    sa.Column("ends_us", sa.BigInteger),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Index("alert_state", "state", "workspace"),
    sa.Index("alert_fingerprint", "workspace", "fingerprint"),
)

# What a receiver has been told; `state` is empty while it has been told nothing. What is being told right now, or
# was when its worker died, is `attempted_state`.
delivery: Final = sa.Table(
    "delivery",
    metadata,
    sa.Column("incident", sa.Text, primary_key=True),
    sa.Column("receiver", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("sent_us", sa.BigInteger, nullable=False),
    sa.Column("attempted_state", sa.Text),
    sa.Column("attempted_us", sa.BigInteger),
)

# How far one run of a connector has got, and which process drives it: `purpose` is `live` or a backfill's name.
connector: Final = sa.Table(
    "connector",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("instance", sa.Text, primary_key=True),
    sa.Column("purpose", sa.Text, primary_key=True),
    sa.Column("workspace", sa.Text, nullable=False),
    sa.Column("cursor", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("holder", sa.Text),
    sa.Column("lease_us", sa.BigInteger, nullable=False),
    sa.Column("last_success_us", sa.BigInteger),
    sa.Column("last_event_us", sa.BigInteger),
    sa.Column("item_count", sa.BigInteger, nullable=False),
)

# Times from which something that was said may be missing for good.
gap: Final = sa.Table(
    "gap",
    metadata,
    sa.Column("workspace", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("instance", sa.Text, primary_key=True),
    sa.Column("since_us", sa.BigInteger, primary_key=True),
    sa.Column("until_us", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("noted_us", sa.BigInteger, nullable=False),
    sa.Index("gap_until", "workspace", "until_us"),
)
