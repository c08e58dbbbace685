"""What detectors took since their states were written, and which transaction last changed what is remembered."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("workspace", sa.Column("memory", sa.BigInteger(), nullable=True))
    op.create_table(
        "journal",
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("samples", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("workspace", "number"),
    )


def downgrade() -> None:
    op.drop_table("journal")
    op.drop_column("workspace", "memory")
