"""Near-duplicates are told by other hash functions: what was kept compares with nothing."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("DELETE FROM signature")


def downgrade() -> None:
    op.execute("DELETE FROM signature")
