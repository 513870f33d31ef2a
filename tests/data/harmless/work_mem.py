"""Sort in more memory."""

from alembic import op

import safely

revision = "work_mem"
down_revision = "schema"


def upgrade() -> None:
    op.execute("SET LOCAL maintenance_work_mem = '1GB'")
    safely.create_index("ix_orders_total", "orders", ["total"])


def downgrade() -> None:
    safely.drop_index("ix_orders_total", "orders")
