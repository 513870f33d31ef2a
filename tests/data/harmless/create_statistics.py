"""Collect statistics of two columns."""

from alembic import op

import safely

# rehearse: no, statistics object "payments_stats" already exists
revision = "create_statistics"
down_revision = "schema"


def upgrade() -> None:
    op.execute("CREATE STATISTICS payments_stats ON order_id, customer_id FROM payments")


def downgrade() -> None:
    safely.nothing_to_undo("statistics do no harm")
