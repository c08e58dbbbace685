"""Deliveries remember what was about to be sent, for receivers that cannot tell a repetition."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("delivery", sa.Column("attempted_state", sa.Text(), nullable=True))
    op.add_column("delivery", sa.Column("attempted_us", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("delivery", "attempted_us")
    op.drop_column("delivery", "attempted_state")
