"""Explain an UPDATE by executing it."""

from alembic import op

import safely

# rehearse: no, rows of orders changed at once
# lock: ROW EXCLUSIVE on orders
revision = "explain_analyze_update"
down_revision = "schema"


def upgrade() -> None:
    op.execute("EXPLAIN (ANALYZE, BUFFERS) UPDATE orders SET note = NULL")  # <- backfill-at-once


def downgrade() -> None:
    safely.nothing_to_undo("it does no harm to the older builds")
