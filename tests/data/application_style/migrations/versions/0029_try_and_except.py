"""Try to drop an index."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade():
    try:
        op.drop_index("ix_missing", table_name="orders")  # <- plain-index-drop
    except Exception:
        op.execute("DROP INDEX IF EXISTS ix_missing_too")  # <- plain-index-drop
    op.drop_column("orders", "note")  # <- plain-drop


def downgrade():
    op.add_column("orders", sa.Column("note", sa.Text()))  # <- raw-op
