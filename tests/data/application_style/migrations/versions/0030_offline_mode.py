"""Take another way with --sql."""

import sqlalchemy as sa
from alembic import context, op

revision = "0030"
down_revision = "0029"


def upgrade():
    if context.is_offline_mode():
        op.execute("UPDATE items SET weight = 0 WHERE weight IS NULL")  # <- backfill-at-once
    else:
        for (id_,) in op.get_bind().execute(sa.text("SELECT id FROM items")):  # <- reads-database
            op.execute(f"UPDATE items SET weight = {id_} WHERE id = {id_}")  # <- backfill-at-once
    op.alter_column("items", "weight", nullable=False)  # <- not-null-at-once


def downgrade():
    op.alter_column("items", "weight", nullable=True)  # <- raw-op
