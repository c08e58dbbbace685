"""Survey scores and turns of conversations, beside the text or without one."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

ADDED: tuple[sa.Column[Any], ...] = (
    sa.Column("survey", sa.Text(), nullable=True),
    sa.Column("survey_value", sa.Float(), nullable=True),
    sa.Column("survey_low", sa.Float(), nullable=True),
    sa.Column("survey_high", sa.Float(), nullable=True),
    sa.Column("conversation_id", sa.Text(), nullable=True),
    sa.Column("turn", sa.Text(), nullable=True),
    sa.Column("silent", sa.Boolean(), nullable=False, server_default=sa.false()),
)


def upgrade() -> None:
    for column in ADDED:
        op.add_column("item", column._copy())
    op.create_index("item_conversation", "item", ["workspace", "conversation_id"], unique=False)
    op.create_index("item_survey", "item", ["workspace", "survey", "created_us"], unique=False)


def downgrade() -> None:
    op.drop_index("item_survey", table_name="item")
    op.drop_index("item_conversation", table_name="item")
    for column in reversed(ADDED):
        op.drop_column("item", column.name)
