"""When time alone can change a detector next."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("detector", sa.Column("due_us", sa.BigInteger(), nullable=True))
    op.create_index("detector_due", "detector", ["workspace", "due_us"], unique=False)


def downgrade() -> None:
    op.drop_index("detector_due", table_name="detector")
    op.drop_column("detector", "due_us")
