"""Try to drop an index."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade():
    try:
        op.drop_index("ix_missing", table_name="orders")
    except Exception:
        op.execute("DROP INDEX IF EXISTS ix_missing_too")
    op.drop_column("orders", "note")


def downgrade():
    op.add_column("orders", sa.Column("note", sa.Text()))
