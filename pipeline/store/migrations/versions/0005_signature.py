"""Near-duplicates: the newest distinct texts of each workspace, and items by their author."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "signature",
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("feedback_id", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "number"),
    )
    op.create_index("item_author", "item", ["workspace", "author_hash"], unique=False)


def downgrade() -> None:
    op.drop_index("item_author", table_name="item")
    op.drop_table("signature")
