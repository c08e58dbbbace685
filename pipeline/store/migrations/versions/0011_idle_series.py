"""Series in which nobody speaks any more are forgotten."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the column; what is there counts as heard of now, and the rule's own numbers of series are kept."""
    op.add_column("detector", sa.Column("idle_us", sa.BigInteger))
    detector = sa.table("detector", sa.column("series", sa.Text), sa.column("idle_us", sa.BigInteger))
    op.execute(detector.update().where(detector.c.series != "*").values(idle_us=int(time.time() * 1e6)))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("detector", "idle_us")
