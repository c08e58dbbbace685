"""Deleted conversations are found without a look at everything that was said in them."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

DELETED = sa.text("turn = 'deleted'")


def upgrade() -> None:
    op.create_index(
        "item_deleted_conversation", "item", ["workspace", "conversation_id"], unique=False,
        sqlite_where=DELETED, postgresql_where=DELETED,
    )  # fmt: skip


def downgrade() -> None:
    op.drop_index("item_deleted_conversation", table_name="item")
